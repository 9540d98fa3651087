"""How the replicas of a fleet start: from the warm pool where it has one, else cold; and where they are placed."""

from dataclasses import dataclass
from math import inf

import numpy as np

from autoscaler.simulator.cold_start import ColdStart
from autoscaler.simulator.faults import Fault, provisioned_s, slowdown

BLOCKED = "blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmPool:
    """Replicas that are kept loaded but do not serve; the run begins with a full pool.

    One that is taken leaves by `start`, and another is filled in by a cold start in the background, during which it
    holds its GPUs. Where the pool is empty, a start is cold.

    Attributes:
        replicas: as many are kept.
        start: of a replica from the pool.
        holds_gpus: whether they keep their GPUs while they wait. vLLM's sleep mode gives the GPU memory back and
            keeps the weights in host memory: False; loaded engines that stand idle: True.
    """

    replicas: int
    start: ColdStart
    holds_gpus: bool = False


@dataclass(frozen=True, slots=True)
class StartPhase:
    """A part of a start as it was, in [start_s, end_s)."""

    name: str
    start_s: float
    end_s: float


@dataclass(slots=True, eq=False)
class PoolMember:
    """One replica in the warm pool: asked for, there, and taken (infinity = not)."""

    requested_s: float
    filled_s: float
    taken_s: float = inf


class ReplicaStarts:
    """Draws how long starts take."""

    def __init__(
        self, cold_start: ColdStart, pool: WarmPool | None, faults: tuple[Fault, ...], rng: np.random.Generator
    ) -> None:
        self._cold_start = cold_start
        self._pool = pool
        self._faults = faults
        self._rng = rng
        self._waiting = [PoolMember(0.0, 0.0) for _ in range(pool.replicas if pool else 0)]
        self.members = list(self._waiting)

    def start(self, asked_s: float) -> list[StartPhase]:
        """The phases of a replica that is asked for now; it is ready at the end of the last."""
        there = [member for member in self._waiting if member.filled_s <= asked_s]
        if self._pool is None or not there:
            return self._cold(asked_s)
        there[0].taken_s = asked_s
        self._waiting.remove(there[0])
        refill = PoolMember(asked_s, self._cold(asked_s)[-1].end_s)
        self._waiting.append(refill)
        self.members.append(refill)
        return _laid_out(self._pool.start.draw(self._rng), asked_s)

    def _cold(self, asked_s: float) -> list[StartPhase]:
        begin_s = provisioned_s(self._faults, asked_s)
        factor = slowdown(self._faults, begin_s)
        drawn = tuple((name, seconds * factor) for name, seconds in self._cold_start.draw(self._rng))
        waited = [StartPhase(BLOCKED, asked_s, begin_s)] if begin_s > asked_s else []
        return waited + _laid_out(drawn, begin_s)


def _laid_out(phases: tuple[tuple[str, float], ...], begin_s: float) -> list[StartPhase]:
    """Phases one after the other."""
    laid_out = []
    for name, seconds in phases:
        laid_out.append(StartPhase(name, begin_s, begin_s + seconds))
        begin_s += seconds
    return laid_out


class Nodes:
    """Which node each replica is on: the first that has a free place, else a new one. A dead node stays empty."""

    def __init__(self, replicas_per_node: int) -> None:
        self._places = replicas_per_node
        self._replicas: list[set[int]] = []
        self._dead: set[int] = set()

    def place(self, number: int) -> None:
        """Give a new replica its place."""
        for node, there in enumerate(self._replicas):
            if node not in self._dead and len(there) < self._places:
                there.add(number)
                return
        self._replicas.append({number})

    def leave(self, number: int) -> None:
        """A replica is gone."""
        for there in self._replicas:
            there.discard(number)

    def in_use(self) -> list[int]:
        """The nodes that have replicas and live."""
        return [node for node, there in enumerate(self._replicas) if there and node not in self._dead]

    def kill(self, node: int) -> set[int]:
        """A node dies; returns its replicas."""
        self._dead.add(node)
        return set(self._replicas[node])
