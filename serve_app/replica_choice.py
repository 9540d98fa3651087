"""Which of the replicas that have a free slot gets the next request, as in the simulator's routing kernel."""

from collections.abc import Mapping, Sequence

import numpy as np

from autoscaler.simulator.router_state import Routing


class ReplicaChoice:
    """Chooses by one of `LIVE_ROUTINGS`; remembers whose turn it is, and draws from `rng`."""

    def __init__(self, routing: Routing, rng: np.random.Generator) -> None:
        self._routing = routing
        self._rng = rng
        self._turn = 0

    def choose(self, ready: Sequence[str], taken: Mapping[str, int], slots: int) -> str:
        """The replica that gets the next request; at least one must have a free slot.

        Args:
            ready: replicas, the oldest first.
            taken: slots in use of those that have any.
            slots: of each replica.
        """
        if self._routing is Routing.ROUND_ROBIN:
            return self._next_in_turn(ready, taken, slots)
        if self._routing is Routing.POWER_OF_TWO and len(ready) > 2:
            return self._better_of_two(ready, taken, slots)
        return min(ready, key=lambda replica_id: taken.get(replica_id, 0))

    def _next_in_turn(self, ready: Sequence[str], taken: Mapping[str, int], slots: int) -> str:
        while True:
            replica_id = ready[self._turn % len(ready)]
            self._turn = (self._turn + 1) % len(ready)
            if taken.get(replica_id, 0) < slots:
                return replica_id

    def _better_of_two(self, ready: Sequence[str], taken: Mapping[str, int], slots: int) -> str:
        while True:
            first, second = (int(place) for place in self._rng.choice(len(ready), 2, replace=False))
            replica_id = min(ready[first], ready[second], key=lambda drawn: taken.get(drawn, 0))
            if taken.get(replica_id, 0) < slots:
                return replica_id
