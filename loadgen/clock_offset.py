"""How far another machine's clock is from ours, from what it answers when it is asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_TRIES = 20


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Their clock less ours.

    Attributes:
        uncertainty_s: by which the offset may be wrong at most: half of the shortest round trip.
    """

    offset_s: float
    uncertainty_s: float


def measure_clock_offset(ask: Callable[[], float], clock_s: Callable[[], float] = time.time) -> ClockOffset:
    """Ask for their clock 20 times.

    The answer is taken to be from the middle of the round trip, and the shortest trip is the one that waited least on
    its way.

    Args:
        ask: gives their clock, in seconds from where ours counts.

    Source: Cristian, "Probabilistic clock synchronization", Distributed Computing 3, 1989.
    """
    trips: list[tuple[float, float]] = []
    for _ in range(_TRIES):
        before_s = clock_s()
        theirs_s = ask()
        after_s = clock_s()
        trips.append((after_s - before_s, theirs_s - (before_s + after_s) / 2))
    shortest_s, offset_s = min(trips)
    return ClockOffset(offset_s, shortest_s / 2)
