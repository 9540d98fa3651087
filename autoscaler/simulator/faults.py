"""What goes wrong in a simulated fleet, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Window:
    """A fault that holds in [start_s, end_s)."""

    start_s: float
    end_s: float

    def covers(self, at_s: float) -> bool:
        """Whether it holds at an instant."""
        return self.start_s <= at_s < self.end_s


@dataclass(frozen=True, slots=True)
class ReplicaDeath:
    """`replicas` of those that serve, drawn at random, die at `at_s`."""

    at_s: float
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class NodeDeath:
    """One node that is in use, drawn at random, dies at `at_s` with all of its replicas, starting ones too."""

    at_s: float


@dataclass(frozen=True, slots=True)
class RandomDeaths:
    """Each replica that serves dies after a time drawn from an exponential distribution.

    Attributes:
        mean_time_between_failures_s: of one replica; N replicas that serve lose one each N-th part of it.
        start_s, end_s: replicas die in this window only.
    """

    mean_time_between_failures_s: float
    start_s: float = 0.0
    end_s: float = inf


@dataclass(frozen=True, slots=True)
class ProvisioningBlocked(Window):
    """A cold start that is asked for in the window begins when the window ends. Warm pools still give theirs."""


@dataclass(frozen=True, slots=True)
class SlowStart(Window):
    """A cold start that begins in the window takes `factor` times as long."""

    factor: float


@dataclass(frozen=True, slots=True)
class LostMetrics(Window):
    """No replica's report gets through: the policy sees the last one, and once that is too old, none."""


@dataclass(frozen=True, slots=True)
class StaleForecast(Window):
    """The forecaster observes nothing and gives no new forecast; afterwards it makes up for what it missed."""


Fault = ReplicaDeath | NodeDeath | RandomDeaths | ProvisioningBlocked | SlowStart | LostMetrics | StaleForecast
Kind = TypeVar("Kind")


def of_kind(faults: Sequence[Fault], kind: type[Kind]) -> list[Kind]:
    """Those of the faults that are of one kind."""
    return [fault for fault in faults if isinstance(fault, kind)]


def holds(faults: Sequence[Fault], kind: type[Window], at_s: float) -> bool:
    """Whether a fault of this kind holds at an instant."""
    return any(fault.covers(at_s) for fault in of_kind(faults, kind))


def provisioned_s(faults: Sequence[Fault], asked_s: float) -> float:
    """When a cold start that is asked for at `asked_s` begins."""
    begin_s = asked_s
    while blocking := [fault for fault in of_kind(faults, ProvisioningBlocked) if fault.covers(begin_s)]:
        begin_s = max(fault.end_s for fault in blocking)
    return begin_s


def slowdown(faults: Sequence[Fault], begin_s: float) -> float:
    """How many times as long a cold start takes that begins at `begin_s`."""
    factor = 1.0
    for fault in of_kind(faults, SlowStart):
        factor *= fault.factor if fault.covers(begin_s) else 1.0
    return factor
