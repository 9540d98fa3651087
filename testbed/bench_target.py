"""What a benchmark's figures are held against."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """The bound of one figure: the most that it may be, or (with `at_least`) the least."""

    what: str
    bound: float
    unit: str
    at_least: bool = False

    def shown(self, value: float) -> str:
        """A value of this figure, with its unit."""
        if self.unit == "bytes":
            return f"{value / 1e6:,.0f} MB" if value >= 1e6 else f"{value:,.0f} bytes"
        return f"{value:,.0f} {self.unit}" if value >= 1000 else f"{value:.2f} {self.unit}"

    def is_met(self, value: float) -> bool:
        """Whether the value is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure beside its target, in words."""

    what: str
    measured: str
    target: str
    is_met: bool


def verdicts(targets: Mapping[str, Target], figures: object) -> list[Verdict]:
    """Each target with the attribute of `figures` that has its key."""
    found = []
    for key, target in targets.items():
        value = float(getattr(figures, key))
        found.append(Verdict(target.what, target.shown(value), target.shown(target.bound), target.is_met(value)))
    return found
