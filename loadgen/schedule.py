"""Which request is sent when: the part of a load generator that differs between its modes."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from loadgen.client import Exchange
from loadgen.plan import PlannedRequest


class Schedule(Protocol):
    """Decides when which request is sent; the dispatcher asks it, and tells it of ends."""

    @property
    def due_s(self) -> float | None:
        """The instant of the next request; None = none before one that is on its way has ended, or none any more."""
        ...

    def take(self) -> PlannedRequest:
        """The request of `due_s`, which is sent now; its `scheduled_s` is what its record counts from."""
        ...

    def ended(self, exchange: Exchange) -> None:
        """Hear that a request that was taken has ended; what is due next may change by it."""
        ...

    def unsent(self) -> Iterator[PlannedRequest]:
        """What was planned and not taken, when the run is ended early."""
        ...


class OpenLoop:
    """Each request of a plan at its instant, whatever became of those before."""

    def __init__(self, plan: Sequence[PlannedRequest]) -> None:
        """`plan` is in order of `scheduled_s`."""
        self._plan = plan
        self._next = 0

    @property
    def due_s(self) -> float | None:
        """The instant of the next request of the plan."""
        return self._plan[self._next].scheduled_s if self._next < len(self._plan) else None

    def take(self) -> PlannedRequest:
        """The next request of the plan."""
        self._next += 1
        return self._plan[self._next - 1]

    def ended(self, exchange: Exchange) -> None:
        """Nothing depends on it."""

    def unsent(self) -> Iterator[PlannedRequest]:
        """The rest of the plan."""
        return iter(self._plan[self._next :])
