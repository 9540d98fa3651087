"""The instants at which faults act on a fleet, those still to come in order."""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from autoscaler.simulator.faults import Fault, LostMetrics, NodeDeath, RandomDeaths, ReplicaDeath, of_kind


@dataclass(frozen=True, slots=True)
class OneDies:
    """This replica dies, if it still serves."""

    number: int


@dataclass(frozen=True, slots=True)
class DeathNoticed:
    """The controller learns that this replica is dead."""

    number: int


@dataclass(frozen=True, slots=True)
class MetricsChange:
    """Reports begin to be lost, or get through again."""


Event = ReplicaDeath | NodeDeath | OneDies | DeathNoticed | MetricsChange


class FaultSchedule:
    """What is to come; of events at one instant, the one that was put in first comes first."""

    def __init__(self, faults: Sequence[Fault], rng: np.random.Generator) -> None:
        self._heap: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._rng = rng.spawn(1)[0] if faults else rng  # what happens without the faults stays the same
        self._random = of_kind(faults, RandomDeaths)
        for fault in faults:
            if isinstance(fault, ReplicaDeath | NodeDeath):
                self.add(fault.at_s, fault)
            elif isinstance(fault, LostMetrics):
                self.add(fault.start_s, MetricsChange())
                self.add(fault.end_s, MetricsChange())

    @property
    def next_s(self) -> float:
        """When the next event is due; infinity = there is none."""
        return self._heap[0][0] if self._heap else inf

    def add(self, at_s: float, event: Event) -> None:
        """Put in an event."""
        heapq.heappush(self._heap, (at_s, next(self._order), event))

    def pop(self) -> Event:
        """Take out the next event."""
        return heapq.heappop(self._heap)[2]

    def choose(self, there: int, count: int) -> list[int]:
        """Draw `count` places of `there`, or all where there are fewer."""
        return sorted(self._rng.choice(there, min(there, count), replace=False).tolist()) if there else []

    def draw_death(self, number: int, ready_s: float) -> None:
        """Draw when a replica that is ready from `ready_s` on will die, where replicas die at random."""
        for fault in self._random:
            # an exponential lifetime has no memory, so that it may begin with the window
            at_s = max(ready_s, fault.start_s) + self._rng.exponential(fault.mean_time_between_failures_s)
            if at_s < fault.end_s:
                self.add(at_s, OneDies(number))
