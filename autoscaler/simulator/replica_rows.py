"""The replicas of a simulated fleet by row: they start, drain, die and end, and what is written down of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator.engine_state import EngineLimits
from autoscaler.simulator.fleet_reports import EngineSample, ReplicaLife, engine_samples, life_of
from autoscaler.simulator.fleet_state import (
    DRAINING,
    ENDED,
    FAILED,
    FREE,
    READY,
    REPLICA,
    STARTING,
    FleetArrays,
    reset_engine,
    with_rows,
)
from autoscaler.simulator.replica_kernel import set_next
from autoscaler.simulator.replica_starts import Nodes, StartPhase


class ReplicaRows:
    """The rows of the fleet's arrays that stand for replicas; there are more when more are needed.

    Attributes:
        arrays: the fleet; replaced by larger ones when a replica is started.
        nodes: where each replica is.
        lives, samples: what has been written down so far.
    """

    def __init__(
        self, arrays: FleetArrays, limits: EngineLimits, drain_timeout_s: float, replicas_per_node: int
    ) -> None:
        self.arrays = arrays
        self.nodes = Nodes(replicas_per_node)
        self.lives: list[ReplicaLife] = []
        self.samples: list[EngineSample] = []
        self._limits = limits
        self._drain_timeout_s = drain_timeout_s
        self._phases: dict[int, tuple[StartPhase, ...]] = {}
        self._started = 0
        self._sampled_s = 0.0

    @property
    def now_s(self) -> float:
        """How far the fleet has come."""
        return float(self.arrays.clock["now_s"][0])

    def number(self, row: int) -> int:
        """Which replica it is, counted over the whole run."""
        return int(self.arrays.replicas["number"][row])

    def of_numbers(self, numbers: set[int], rows: list[int]) -> list[int]:
        """Those of the rows that stand for one of these replicas."""
        return [row for row in rows if self.number(row) in numbers]

    def rows_in(self, *states: int) -> list[int]:
        """The rows in one of these states, the oldest replica first."""
        rows = enumerate(self.arrays.replicas["state"].tolist())
        numbers = self.arrays.replicas["number"].tolist()
        return sorted((row for row, state in rows if state in states), key=numbers.__getitem__)

    def emptiest_ready(self, count: int) -> list[int]:
        """The `count` ready rows with the fewest requests; of equals the newest."""
        states, numbers = self.arrays.states, self.arrays.replicas["number"]

        def cost(row: int) -> tuple[int, int]:
            return int(states["running"][row] + states["waiting"][row]), -int(numbers[row])

        return sorted(self.rows_in(READY, FAILED), key=cost)[:count]

    def start(self, phases: Sequence[StartPhase] = ()) -> int:
        """Ask for one more replica, which starts in these phases; returns its row."""
        free = np.flatnonzero(self.arrays.replicas["state"] == FREE)
        if len(free) == 0:
            free = np.array([len(self.arrays.replicas)])
            self.arrays = with_rows(self.arrays, len(self.arrays.replicas))
        row = int(free[0])
        fresh = np.zeros((), REPLICA)
        for name in ("draining_s", "failed_s", "ended_s", "drain_until_s", "step_end_s"):
            fresh[name] = np.inf
        fresh["state"], fresh["number"] = STARTING, self._started
        fresh["requested_s"] = self.now_s
        fresh["ready_s"] = phases[-1].end_s if phases else self.now_s
        self.arrays.replicas[row] = fresh
        reset_engine(self.arrays, row, self._limits)
        set_next(self.arrays, row)
        if phases:
            self._phases[self._started] = tuple(phases)
        self.nodes.place(self._started)
        self._started += 1
        return row

    def drain(self, row: int) -> None:
        """Give this replica no further requests; it ends when it has none left."""
        replica, state = self.arrays.replicas[row], self.arrays.states[row]
        if int(replica["state"]) == FAILED:
            self.end(row)
            return
        replica["state"], replica["draining_s"] = DRAINING, self.now_s
        replica["drain_until_s"] = self.now_s + self._drain_timeout_s
        if state["running"] + state["waiting"] == 0:
            self.end(row)
        else:
            set_next(self.arrays, row)

    def end(self, row: int) -> None:
        """This replica is gone; what is known of it stays until `collect_ended`."""
        replica = self.arrays.replicas[row]
        replica["state"], replica["ended_s"], replica["step_end_s"] = ENDED, self.now_s, np.inf
        set_next(self.arrays, row)

    def collect_ended(self) -> None:
        """Write down the lives and last reports of replicas that have ended, and free their rows."""
        rows = self.rows_in(ENDED)
        if not rows:
            return
        self.sample_last([row for row in rows if np.isinf(self.arrays.replicas["failed_s"][row])], "ended_s")
        for row in rows:
            self.nodes.leave(self.number(row))
        self.lives.extend(self._life(row) for row in rows)
        self.arrays.replicas["state"][rows] = FREE

    def sample(self) -> list[EngineSample]:
        """Take a row of the engine table of every replica that serves; the engines must be settled."""
        serving = np.array(self.rows_in(READY, DRAINING), dtype=np.int64)
        taken = self._write_down(serving, np.full(len(serving), self.now_s))
        self._sampled_s = self.now_s
        return taken

    def sample_last(self, rows: list[int], end: str) -> None:
        """Take the last row of the engine table of replicas that served, at the instant in their field `end`."""
        replicas = self.arrays.replicas
        unreported = [row for row in rows if max(replicas["ready_s"][row], self._sampled_s) < replicas[end][row]]
        self._write_down(np.array(unreported, dtype=np.int64), replicas[end][unreported])

    def _write_down(self, rows: NDArray[np.int64], at_s: NDArray[np.float64]) -> list[EngineSample]:
        """Write down what the engines in these rows have at these instants."""
        taken = engine_samples(self.arrays, rows, at_s, self._sampled_s, self._limits.usable_blocks)
        self.samples.extend(taken)
        return taken

    def close(self) -> None:
        """Write down the replicas that are still there, and put all lives in order; the engines must be settled."""
        if self.now_s > self._sampled_s:
            self.sample()
        self.lives.extend(self._life(row) for row in self.rows_in(STARTING, READY, DRAINING, FAILED))
        self.lives.sort(key=lambda life: life.number)

    def _life(self, row: int) -> ReplicaLife:
        return life_of(self.arrays.replicas[row], self._phases.pop(self.number(row), ()))
