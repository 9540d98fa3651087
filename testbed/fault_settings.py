"""Faults as an experiment file lists them, each by its `kind`; their keys are those of the simulator's faults."""

from collections.abc import Callable
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


class _Window(StrictModel):
    start_s: NonNegative
    end_s: Positive

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.start_s >= self.end_s:
            raise ValueError(f"want start_s < end_s, got {self.start_s:g} and {self.end_s:g}")
        return self


class Outage(_Window):
    """No start begins that is asked for, no replica's report gets through, or there is no new forecast."""

    kind: Literal["provisioning_blocked", "lost_metrics", "stale_forecast"]


class ReplicasDieAtRandom(_Window):
    """Each replica that serves in the window dies after an exponential time of this mean."""

    kind: Literal["replicas_die_at_random"]
    mean_time_between_failures_s: Positive


class StartsAreSlow(_Window):
    """Cold starts that begin in the window take `factor` times as long."""

    kind: Literal["slow_start"]
    factor: Positive


FaultSettings = Annotated[
    ReplicaDies | NodeDies | Outage | ReplicasDieAtRandom | StartsAreSlow, Field(discriminator="kind")
]
_FAULTS: dict[str, Callable[..., Fault]] = {
    "replica_dies": ReplicaDeath,
    "node_dies": NodeDeath,
    "provisioning_blocked": ProvisioningBlocked,
    "lost_metrics": LostMetrics,
    "stale_forecast": StaleForecast,
    "replicas_die_at_random": RandomDeaths,
    "slow_start": SlowStart,
}


def fault_of(settings: FaultSettings) -> Fault:
    """The same as the simulator takes it."""
    return _FAULTS[settings.kind](**settings.model_dump(exclude={"kind"}))
