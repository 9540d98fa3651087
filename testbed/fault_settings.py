"""Faults as an experiment file lists them, each by its `kind`."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from autoscaler.simulator.faults import (
    Fault,
    LostMetrics,
    NodeDeath,
    ProvisioningBlocked,
    RandomDeaths,
    ReplicaDeath,
    SlowStart,
    StaleForecast,
)
from loadgen.strict_config import NonNegative, Positive, StrictModel


class ReplicaDies(StrictModel):
    """So many replicas that serve, drawn at random, die at an instant."""

    kind: Literal["replica_dies"]
    at_s: NonNegative
    replicas: PositiveInt = 1


class NodeDies(StrictModel):
    """A node, drawn at random, dies with its replicas (`fleet.replicas_per_node`)."""

    kind: Literal["node_dies"]
    at_s: NonNegative


class FaultWindow(StrictModel):
    """A fault that holds in [start_s, end_s)."""

    start_s: NonNegative
    end_s: Positive

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.start_s >= self.end_s:
            raise ValueError(f"want start_s < end_s, got {self.start_s:g} and {self.end_s:g}")
        return self


class ReplicasDieAtRandom(FaultWindow):
    """Each replica that serves in the window dies after an exponential time of this mean."""

    kind: Literal["replicas_die_at_random"]
    mean_time_between_failures_s: Positive


class ProvisioningIsBlocked(FaultWindow):
    """Starts that are asked for in the window begin at its end; replicas of a warm pool are there already."""

    kind: Literal["provisioning_blocked"]


class StartsAreSlow(FaultWindow):
    """Cold starts that begin in the window take `factor` times as long."""

    kind: Literal["slow_start"]
    factor: Positive


class MetricsAreLost(FaultWindow):
    """No replica's report gets through."""

    kind: Literal["lost_metrics"]


class ForecastIsStale(FaultWindow):
    """There is no new forecast."""

    kind: Literal["stale_forecast"]


FaultSettings = Annotated[
    ReplicaDies
    | NodeDies
    | ReplicasDieAtRandom
    | ProvisioningIsBlocked
    | StartsAreSlow
    | MetricsAreLost
    | ForecastIsStale,
    Field(discriminator="kind"),
]


def fault_of(settings: FaultSettings) -> Fault:
    """The same as the simulator takes it."""
    match settings:
        case ReplicaDies():
            return ReplicaDeath(settings.at_s, settings.replicas)
        case NodeDies():
            return NodeDeath(settings.at_s)
        case ReplicasDieAtRandom():
            return RandomDeaths(settings.mean_time_between_failures_s, settings.start_s, settings.end_s)
        case ProvisioningIsBlocked():
            return ProvisioningBlocked(settings.start_s, settings.end_s)
        case StartsAreSlow():
            return SlowStart(settings.start_s, settings.end_s, settings.factor)
        case MetricsAreLost():
            return LostMetrics(settings.start_s, settings.end_s)
        case ForecastIsStale():
            return StaleForecast(settings.start_s, settings.end_s)
