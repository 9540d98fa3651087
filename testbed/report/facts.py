"""What every part of the report starts from: a run, its figures, its length, and how numbers are written."""

import math
from dataclasses import dataclass
from typing import Any

from autoscaler.interface import Slo
from testbed.results import Results
from testbed.summary import run_duration_s, service_slos, summarise

SIMULATED, LIVE, LOAD = "simulated", "live", "load"
# Shown where there is no number.
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """A run with its figures.

    Attributes:
        summary: as in summary.json, also for a run that was cut short and has no such file.
        duration_s: until the last thing that happened.
        slos: what each service promises; empty where the run knew of none.
    """

    results: Results
    summary: dict[str, Any]
    duration_s: float
    slos: dict[str, Slo]

    @property
    def total(self) -> dict[str, Any]:
        """The figures over all services."""
        total: dict[str, Any] = self.summary["requests"]["total"]
        return total

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The figures by service label."""
        services: dict[str, dict[str, Any]] = self.summary["requests"]["services"]
        return services

    @property
    def fleet(self) -> dict[str, Any] | None:
        """The figures of the fleet; None where the run had none of its own."""
        return self.summary.get("fleet")

    @property
    def application(self) -> dict[str, Any]:
        """The served application's configuration; empty where the run knew of none."""
        return _mapping(self.results.config.get("serve"))

    @property
    def name(self) -> str:
        """The experiment's name, or the folder's."""
        return str(self.results.config.get("name") or self.results.path.resolve().name)


def gather_facts(results: Results) -> RunFacts:
    """Take a run's figures from its folder; compute them where it was cut short before they were written."""
    summary = results.summary if results.summary is not None else summarise(results)
    return RunFacts(results, summary, run_duration_s(results), service_slos(results.config))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def percent(fraction: float | None) -> str:
    """A share for a person, rounded down, so that only what is whole reads '100 %': '98.7 %', '99.98 %'."""
    if fraction is None:
        return NOTHING
    digits = 1 if fraction < 0.999 else 2
    shown = math.floor(fraction * 100 * 10**digits + 1e-9) / 10**digits
    return f"{shown:g} %"


def failure_percent(fraction: float | None) -> str:
    """A share of failures, rounded up, so that only none at all reads '0 %'."""
    if fraction is None:
        return NOTHING
    digits = 1 if fraction >= 0.001 else 3
    return f"{math.ceil(fraction * 100 * 10**digits - 1e-9) / 10**digits:g} %"


def latency(value_s: float | None) -> str:
    """A latency with its unit: '43 ms', '1.25 s', '62 s'."""
    if value_s is None:
        return NOTHING
    return f"{value_s * 1000:.3g} ms" if value_s < 0.9995 else f"{value_s:.3g} s"


def quantity(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits and thousands set apart: '0.31', '1,240'."""
    if value is None:
        return NOTHING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
