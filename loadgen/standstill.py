"""How long an event loop stood still: what was due meanwhile was done late, be it sending or reading."""

from collections.abc import Iterable
from dataclasses import dataclass

# What is done later than this is late: as for requests.
TOLERATED_S = 0.1


@dataclass(frozen=True, slots=True)
class Standstill:
    """By how much the beats of an event loop came late.

    A beat that came L seconds late stands for all that was due in the L seconds before it.

    Attributes:
        late_s: time in which what was due was done more than 0.1 s late.
        longest_s: for which the loop stood still at a stretch.
    """

    late_s: float = 0.0
    longest_s: float = 0.0

    def after_beat(self, due_s: float, came_s: float) -> "Standstill":
        """With a beat that was due at the one instant and came at the other."""
        stood_s = max(came_s - due_s, 0.0)
        return Standstill(self.late_s + max(stood_s - TOLERATED_S, 0.0), max(self.longest_s, stood_s))


NO_STANDSTILL = Standstill()


def worst_standstill(found: Iterable[Standstill]) -> Standstill:
    """The most of each kind."""
    each = tuple(found)
    return Standstill(max(one.late_s for one in each), max(one.longest_s for one in each)) if each else NO_STANDSTILL
