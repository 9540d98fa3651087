"""How replicas start, as a configuration file says it: a preset or phases, and a warm pool."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt

from autoscaler.simulator.cold_start import PRESETS, USUAL_SIGMA, ColdStart, Phase
from autoscaler.simulator.replica_starts import WarmPool
from loadgen.strict_config import NonNegative, StrictModel


class PhaseSettings(StrictModel):
    """A phase of a start: lognormal around its median; a sigma of 0 = always the same."""

    name: Annotated[str, Field(min_length=1)]
    median_s: NonNegative
    sigma: NonNegative = USUAL_SIGMA


def _named(value: object) -> object:
    """The phases of a preset, where one is named."""
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"there is no preset {value!r}; take one of {', '.join(PRESETS)}, or list phases")
    return [{"name": each.name, "median_s": each.median_s, "sigma": each.sigma} for each in PRESETS[value].phases]


StartSettings = Annotated[tuple[PhaseSettings, ...], Field(min_length=1), BeforeValidator(_named)]


class WarmPoolSettings(StrictModel):
    """Loaded replicas that do not serve and start sooner, in a simulated fleet; see `WarmPool`."""

    replicas: PositiveInt
    start: StartSettings = Field(default="sleeping", validate_default=True)
    holds_gpus: bool = False

    @property
    def pool(self) -> WarmPool:
        """The same as the simulator takes it."""
        return WarmPool(replicas=self.replicas, start=start_of(self.start), holds_gpus=self.holds_gpus)


def start_of(phases: tuple[PhaseSettings, ...]) -> ColdStart:
    """The same as the simulator takes it."""
    return ColdStart(tuple(Phase(phase.name, phase.median_s, phase.sigma) for phase in phases))


def planned_start_s(fleet: Mapping[str, Any]) -> float:
    """The median of a cold start, from the plain values of a resolved configuration."""
    phases = fleet.get("cold_start")
    return sum(float(phase["median_s"]) for phase in phases) if phases else float(fleet["cold_start_s"])
