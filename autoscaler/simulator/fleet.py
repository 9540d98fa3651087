"""A simulated fleet: replicas that start, serve and drain, one router in front of them, and the requests they serve."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import ReplicaSnapshot, ReplicaState
from autoscaler.simulator.cost_model import step_costs
from autoscaler.simulator.engine_state import check_engine, engine_limits
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_kernel import run_until
from autoscaler.simulator.fleet_reports import EngineSample, ReplicaLife, life_of, replica_name
from autoscaler.simulator.fleet_state import (
    DRAINING,
    ENDED,
    FREE,
    READY,
    REPLICA,
    STARTING,
    Fate,
    FleetArrays,
    Rules,
    empty_caches,
    empty_fleet,
    engine_as_objects,
    reset_engine,
    with_rows,
)
from autoscaler.simulator.offered_requests import requests_of, service_queues, sessions_of
from autoscaler.simulator.prompt_texts import prompt_texts
from autoscaler.simulator.replica_kernel import report_all, set_next, settle_all
from autoscaler.simulator.request_options import Routing, router_rules
from loadgen.trace import Trace

# Steps that are alike are jumped over up to this many at a time: enough to make jumping cheap, few enough to look up
# again where something comes in between.
JUMPED_STEPS = 128
REPORTED = (
    "number",
    "state",
    "requested_s",
    "reported_running",
    "reported_waiting",
    "reported_kv_fraction",
    "reported_tokens_per_s",
)
REPLICA_STATES = {STARTING: ReplicaState.STARTING, READY: ReplicaState.READY, DRAINING: ReplicaState.DRAINING}


class Fleet:
    """A fleet that serves a trace. Python moves it from one control tick to the next, compiled code in between.

    Args:
        event_skipping: jump over engine steps that are alike; the results are equal either way.
    """

    def __init__(
        self, trace: Trace, config: FleetConfig, rng: np.random.Generator, *, event_skipping: bool = True
    ) -> None:
        self._config = config
        self._rng = rng
        self._limits = engine_limits(config.hardware)
        self._rules = Rules(
            limits=self._limits,
            costs=step_costs(config.hardware),
            max_ongoing_requests=config.max_ongoing_requests,
            max_queued_requests=config.max_queued_requests,
            longest_request_tokens=self._limits.longest_request_tokens,
            most_steps=JUMPED_STEPS if event_skipping else 1,
            router=router_rules(config.router, self._limits.usable_blocks),
        )
        services, of_service = service_queues(trace, config.services)
        self._requests = requests_of(trace)
        rows, slots, caches = config.limits.max_replicas + 1, config.max_ongoing_requests, None
        if config.prefix_caching:
            caches = empty_caches(rows, slots, self._limits, prompt_texts(trace.prefix))
        sessions = sessions_of(trace) if config.router.routing is Routing.SESSION_AFFINITY else None
        # Of a generator of its own: what the router draws changes no cold start.
        router_seed = int(rng.spawn(1)[0].integers(2**62))
        self._arrays = empty_fleet(rows, slots, services, of_service, caches, sessions, router_seed)
        self._started = 0
        self._sampled_s = 0.0
        self.lives: list[ReplicaLife] = []
        self.samples: list[EngineSample] = []
        for _ in range(config.initial_replicas):
            self._start(0.0, 0.0)

    @property
    def compiled(self) -> tuple[FleetArrays, NDArray[np.void], Rules]:
        """The state as compiled code takes it; valid until a replica is started or taken away."""
        return self._arrays, self._requests, self._rules

    @property
    def requests(self) -> "np.recarray[Any, np.dtype[np.void]]":
        """What is asked for and what became of it so far; fields as in `fleet_state.REQUEST`."""
        return self._requests.view(np.recarray)

    @property
    def now_s(self) -> float:
        """How far the fleet has come."""
        return float(self._arrays.clock["now_s"][0])

    @property
    def all_ended(self) -> bool:
        """Whether every request of the trace has ended."""
        return int(self._arrays.clock["ended"][0]) == len(self._requests)

    @property
    def last_end_s(self) -> float:
        """When the last request ended so far."""
        return float(self._arrays.clock["last_end_s"][0])

    def advance(self, until_s: float) -> None:
        """Let everything happen that is due up to and including `until_s`."""
        run_until(self._arrays, self._requests, self._rules, until_s)
        self._collect_ended()

    def scale_to(self, target_replicas: int) -> None:
        """Start replicas, or take some away, until starting and ready ones are `target_replicas`.

        Starting ones are cancelled first, the newest first; then the ready ones with the fewest requests drain.
        """
        starting = self._rows_in(STARTING)
        surplus = len(starting) + len(self._rows_in(READY)) - target_replicas
        if surplus == 0:
            return
        for _ in range(-surplus):
            self._start(self.now_s, self._cold_start_s())
        for row in reversed(starting[len(starting) - max(0, min(surplus, len(starting))) :]):
            self._end(row)
        for row in self._emptiest_ready(max(0, surplus - len(starting))):
            self._drain(row)
        self._collect_ended()

    def sample(self) -> list[EngineSample]:
        """Take a row of the engine table of every replica that serves, the oldest first; also kept in `samples`."""
        settle_all(self._arrays, self._rules, self.now_s)
        serving = np.array(self._rows_in(READY, DRAINING), dtype=np.int64)
        reported = self._sample_rows(serving, np.full(len(serving), self.now_s))
        self._sampled_s = self.now_s
        self.samples.extend(reported)
        return reported

    def report(self) -> None:
        """Let every replica that serves report its metrics, for `replicas` to show."""
        report_all(self._arrays, self._rules, self.now_s)

    def replicas(self) -> Iterator[ReplicaSnapshot]:
        """The replicas that there are, the oldest first, with what they reported last."""
        there = self._arrays.replicas[self._rows_in(STARTING, READY, DRAINING)]
        for number, state, *reported in zip(*(there[name].tolist() for name in REPORTED), strict=True):
            yield ReplicaSnapshot(replica_name(number), REPLICA_STATES[state], *reported)

    def queue(self) -> list[tuple[int, int, float | None]]:
        """Of each service: requests and prompt tokens in the router's queue, and the earliest deadline there."""
        return [
            (int(service["queued"]), int(service["queued_prompt_tokens"]), self._earliest_deadline_s(service))
            for service in self._arrays.services
        ]

    def close(self) -> None:
        """End the run here: report once more, and write down the lives of the replicas that are still there."""
        if self.now_s > self._sampled_s:
            self.sample()
        self.lives.extend(life_of(row) for row in self._arrays.replicas if int(row["state"]) in REPLICA_STATES)
        self.lives.sort(key=lambda life: life.number)

    def check(self) -> None:
        """Raise AssertionError unless every engine's blocks, slots and tokens add up; for tests."""
        for row in np.flatnonzero(np.isin(self._arrays.replicas["state"], (READY, DRAINING))):
            check_engine(engine_as_objects(self._arrays, int(row)), self._limits)

    def _earliest_deadline_s(self, service: np.void) -> float | None:
        """The deadline of the service's request that has waited longest; None where none waits."""
        if service["queued"] == 0:
            return None
        waiting = self._arrays.of_service[service["head"] : service["end"]]
        place = 0
        while self._requests["fate"][waiting[place]] != Fate.QUEUED:
            place += 1
        return float(self._requests["arrival_s"][waiting[place]] + service["deadline_s"])

    def _rows_in(self, *states: int) -> list[int]:
        """The rows in one of these states, the oldest replica first."""
        rows = enumerate(self._arrays.replicas["state"].tolist())
        numbers = self._arrays.replicas["number"].tolist()
        return sorted((row for row, state in rows if state in states), key=numbers.__getitem__)

    def _emptiest_ready(self, count: int) -> list[int]:
        """The `count` ready rows with the fewest requests; of equals the newest."""
        states, numbers = self._arrays.states, self._arrays.replicas["number"]

        def cost(row: int) -> tuple[int, int]:
            return int(states["running"][row] + states["waiting"][row]), -int(numbers[row])

        return sorted(self._rows_in(READY), key=cost)[:count]

    def _cold_start_s(self) -> float:
        """How long the next replica takes to start."""
        spread = self._config.cold_start_sigma
        return self._config.cold_start_s * (float(np.exp(self._rng.normal(0.0, spread))) if spread > 0 else 1.0)

    def _start(self, now_s: float, cold_start_s: float) -> None:
        """Ask for one more replica."""
        free = np.flatnonzero(self._arrays.replicas["state"] == FREE)
        if len(free) == 0:
            free = np.array([len(self._arrays.replicas)])
            self._arrays = with_rows(self._arrays, len(self._arrays.replicas))
        row = int(free[0])
        fresh = np.zeros((), REPLICA)
        for name in ("draining_s", "ended_s", "drain_until_s", "step_end_s"):
            fresh[name] = np.inf
        fresh["state"], fresh["number"] = STARTING, self._started
        fresh["requested_s"], fresh["ready_s"] = now_s, now_s + cold_start_s
        self._arrays.replicas[row] = fresh
        reset_engine(self._arrays, row, self._limits)
        set_next(self._arrays, row)
        self._started += 1

    def _drain(self, row: int) -> None:
        """Give this replica no further requests; it ends when it has none left."""
        replica, state = self._arrays.replicas[row], self._arrays.states[row]
        replica["state"], replica["draining_s"] = DRAINING, self.now_s
        replica["drain_until_s"] = self.now_s + self._config.drain_timeout_s
        if state["running"] + state["waiting"] == 0:
            self._end(row)
        else:
            set_next(self._arrays, row)

    def _end(self, row: int) -> None:
        replica = self._arrays.replicas[row]
        replica["state"], replica["ended_s"], replica["step_end_s"] = ENDED, self.now_s, np.inf
        set_next(self._arrays, row)

    def _collect_ended(self) -> None:
        """Write down the lives and last reports of replicas that have ended, and free their rows."""
        rows = self._rows_in(ENDED)
        if not rows:
            return
        lives = [life_of(self._arrays.replicas[row]) for row in rows]
        self.lives.extend(lives)
        unreported = [life.ready_s < life.ended_s and life.ended_s > self._sampled_s for life in lives]
        last = np.array(rows)[unreported]
        self.samples.extend(self._sample_rows(last, self._arrays.replicas["ended_s"][last]))
        self._arrays.replicas["state"][rows] = FREE

    def _sample_rows(self, rows: NDArray[np.int64], at_s: NDArray[np.float64]) -> list[EngineSample]:
        """What the replicas in these rows report at these instants; also notes how many tokens they have reported."""
        replicas, states = self._arrays.replicas[rows], self._arrays.states[rows]
        since_s = np.maximum(self._sampled_s, replicas["ready_s"])
        columns = (
            at_s,
            replicas["number"],
            states["running"],
            states["waiting"],
            1.0 - states["free_blocks"] / self._limits.usable_blocks,
            states["output_tokens"] - replicas["sampled_tokens"],
            at_s - since_s,
        )
        self._arrays.replicas["sampled_tokens"][rows] = states["output_tokens"]
        return [EngineSample(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
