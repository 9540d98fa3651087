"""Who may start replicas where several fleets share the GPUs of one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

# GPUs may be shared by replicas (0.1 of one each), and ten tenths are one.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class FleetDemand:
    """What one fleet holds and asks for, in replicas.

    Attributes:
        wanted: starting and ready ones that its policy asks for, within its limits.
        least: it is promised so many (its `min_replicas`).
        present: starting and ready ones now.
        draining: those that leave; they hold their GPUs until they are gone.
    """

    wanted: int
    least: int
    present: int
    draining: int
    gpus_per_replica: float

    @property
    def held_gpus(self) -> float:
        """GPUs that nobody else can have now."""
        return (self.present + self.draining) * self.gpus_per_replica

    def unmet_fraction(self, granted: int) -> float:
        """The share of what it wants that it would still lack."""
        return max(0, self.wanted - granted) / self.wanted if self.wanted else 0.0


def grant_replicas(demands: Sequence[FleetDemand], gpu_budget: float) -> list[int]:
    """How many starting and ready replicas each fleet may have now, i64[fleets].

    Nobody loses a replica to another fleet. The GPUs that nobody holds go, one replica at a time,

    1. to fleets that have fewer than they are promised, the one with the largest unmet share first; while its next
       replica does not fit, the free GPUs are kept for it;
    2. then to the fleet with the largest unmet share of what it wants, of those whose next replica fits.

    Equal shares go by order. Worked example: 4 GPUs are free; A has 1 of 2 wanted, B 1 of 5, a GPU each. B lacks 80 %,
    so it gets the first, then the second (60 %), the third goes to A (50 % and 40 %), the fourth to B.

    A fleet of large replicas may wait long behind small ones that take every GPU which becomes free: what it is to be
    sure of is its minimum.
    """
    granted = [min(demand.wanted, demand.present) for demand in demands]
    free = gpu_budget - sum(demand.held_gpus for demand in demands)
    while (turn := _next_turn(demands, granted, free)) is not None:
        granted[turn] += 1
        free -= demands[turn].gpus_per_replica
    return granted


def _next_turn(demands: Sequence[FleetDemand], granted: Sequence[int], free_gpus: float) -> int | None:
    """The fleet that gets the next replica; None where nobody wants one, or nobody's fits."""
    asking = [place for place, demand in enumerate(demands) if granted[place] < demand.wanted]
    promised = [place for place in asking if granted[place] < demands[place].least]

    def rank(place: int) -> tuple[float, int]:
        return -demands[place].unmet_fraction(granted[place]), place

    def fits(place: int) -> bool:
        return demands[place].gpus_per_replica <= free_gpus + ROUNDING

    if promised:
        first = min(promised, key=rank)
        return first if fits(first) else None
    return min((place for place in asking if fits(place)), key=rank, default=None)
