"""A simulated fleet: replicas that start, serve, drain and fail, one router before them, and their requests."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import REPORT_KEPT_INTERVALS, ReplicaSnapshot, ReplicaState
from autoscaler.simulator.client_state import client_arrays
from autoscaler.simulator.cost_model import step_costs
from autoscaler.simulator.engine_options import engine_ranks
from autoscaler.simulator.engine_state import engine_limits
from autoscaler.simulator.fault_schedule import DeathNoticed, Event, FaultSchedule, MetricsChange, OneDies
from autoscaler.simulator.faults import LostMetrics, NodeDeath, ReplicaDeath, holds
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_kernel import run_until
from autoscaler.simulator.fleet_reports import EngineSample, ReplicaLife, replica_name
from autoscaler.simulator.fleet_state import (
    DRAINING,
    FAILED,
    READY,
    STARTING,
    Fate,
    FleetArrays,
    Rules,
    empty_caches,
    empty_fleet,
)
from autoscaler.simulator.invariants import check_fleet, run_and_check_until
from autoscaler.simulator.offered_requests import requests_of, service_queues, sessions_of
from autoscaler.simulator.prompt_texts import prompt_texts
from autoscaler.simulator.replica_kernel import fail_replica, report_all, settle_all
from autoscaler.simulator.replica_rows import ReplicaRows
from autoscaler.simulator.replica_starts import PoolMember, ReplicaStarts, StartPhase
from autoscaler.simulator.router_state import Routing, router_rules
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
# What the policy takes them for: that a replica is dead is not known until it is noticed.
REPLICA_STATES = {
    STARTING: ReplicaState.STARTING,
    READY: ReplicaState.READY,
    DRAINING: ReplicaState.DRAINING,
    FAILED: ReplicaState.READY,
}


class Fleet:
    """A fleet that serves a trace. Python moves it from one control tick to the next, compiled code in between.

    Args:
        event_skipping: jump over engine steps that are alike; the results are equal either way.
        grant: says how many replicas may be started of those that are wanted, where fleets share their GPUs; what is
            not granted is asked for again at the next `scale_to`. None = as many as are wanted.
    """

    def __init__(
        self,
        trace: Trace,
        config: FleetConfig,
        rng: np.random.Generator,
        *,
        event_skipping: bool = True,
        grant: Callable[[int], int] | None = None,
    ) -> None:
        self._config = config
        self._grant = grant
        self._limits = engine_limits(config.hardware, config.engine)
        self._rules = Rules(
            limits=self._limits,
            costs=step_costs(config.hardware),
            max_ongoing_requests=config.max_ongoing_requests,
            max_queued_requests=config.max_queued_requests,
            longest_request_tokens=self._limits.longest_request_tokens,
            most_steps=JUMPED_STEPS if event_skipping and not config.check_invariants else 1,
            router=router_rules(config.router, self._limits.usable_blocks),
        )
        services, of_service = service_queues(trace, config.services)
        self._requests = requests_of(trace)
        rows, slots, caches = config.limits.max_replicas + 1, config.max_ongoing_requests, None
        if config.prefix_caching:
            caches = empty_caches(rows, slots, self._limits, prompt_texts(trace.prefix))
        sessions = sessions_of(trace) if config.router.routing is Routing.SESSION_AFFINITY else None
        # Of a generator of its own: what routers, predictions and clients draw changes no cold start.
        own_rng = rng.spawn(1)[0]
        router_seed = int(own_rng.integers(2**62))
        ranks = engine_ranks(trace, config.services, config.engine, own_rng)
        clients = client_arrays(config.client, len(trace), config.retry_after_s, int(own_rng.integers(2**62)))
        arrays = empty_fleet(rows, slots, services, of_service, caches, sessions, clients, router_seed, ranks)
        self._rows = ReplicaRows(arrays, self._limits, config.drain_timeout_s, config.replicas_per_node)
        self._starts = ReplicaStarts(config.start, config.warm_pool, config.faults, rng)
        self._faults = FaultSchedule(config.faults, rng)
        self._target_replicas = config.initial_replicas
        self._metrics_were_lost = False
        for _ in range(config.initial_replicas):
            self._start()

    @property
    def _arrays(self) -> FleetArrays:
        return self._rows.arrays

    @property
    def lives(self) -> list[ReplicaLife]:
        """The replicas that are gone, and at the end all."""
        return self._rows.lives

    @property
    def samples(self) -> list[EngineSample]:
        """The rows of the engine table so far."""
        return self._rows.samples

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
        return self._rows.now_s

    @property
    def all_ended(self) -> bool:
        """Whether every request of the trace has ended."""
        return int(self._arrays.clock["ended"][0]) == len(self._requests)

    @property
    def request_seconds(self) -> float:
        """The number of requests in the system, integrated up to the last arrival or end."""
        return float(self._arrays.clock["request_seconds"][0])

    @property
    def last_end_s(self) -> float:
        """When the last request ended so far."""
        return float(self._arrays.clock["last_end_s"][0])

    def advance(self, until_s: float) -> None:
        """Let everything happen that is due up to and including `until_s`."""
        while self._faults.next_s <= until_s:
            self._run_until(self._faults.next_s)
            self._act(self._faults.pop())
        self._run_until(until_s)

    @property
    def next_fault_s(self) -> float:
        """When a fault acts next; infinity = not again."""
        return self._faults.next_s

    @property
    def is_disturbed(self) -> bool:
        """Whether the policy sees anything but the replicas' last reports, or a replica is dead and it is not known."""
        return self._metrics_were_lost or bool(self._rows.rows_in(FAILED))

    @property
    def present_replicas(self) -> int:
        """Replicas that start or are ready, also one that died where that is not known yet."""
        return len(self._rows.rows_in(STARTING, READY, FAILED))

    @property
    def draining_replicas(self) -> int:
        """Replicas that leave."""
        return len(self._rows.rows_in(DRAINING))

    @property
    def pool_members(self) -> list[PoolMember]:
        """The replicas that are or were in the warm pool."""
        return self._starts.members

    def scale_to(self, target_replicas: int) -> None:
        """Start replicas, or take some away, until starting and ready ones are `target_replicas`.

        Starting ones are cancelled first, the newest first; then the ready ones with the fewest requests drain. One
        that died counts as ready, without requests, until its death is noticed.
        """
        self._target_replicas = target_replicas
        starting = self._rows.rows_in(STARTING)
        surplus = len(starting) + len(self._rows.rows_in(READY, FAILED)) - target_replicas
        if surplus == 0:
            return
        wanted = max(0, -surplus)
        for _ in range(min(wanted, self._grant(wanted)) if self._grant else wanted):
            self._start(self._starts.start(self.now_s))
        for row in reversed(starting[len(starting) - max(0, min(surplus, len(starting))) :]):
            self._rows.end(row)
        for row in self._rows.emptiest_ready(max(0, surplus - len(starting))):
            self._rows.drain(row)
        self._rows.collect_ended()

    def sample(self) -> list[EngineSample]:
        """Take a row of the engine table of every replica that serves, the oldest first; also kept in `samples`."""
        settle_all(self._arrays, self._rules, self.now_s)
        return self._rows.sample()

    def report(self) -> None:
        """Let every replica that serves report its metrics, for `replicas` to show."""
        self._metrics_were_lost = holds(self._config.faults, LostMetrics, self.now_s)
        if not self._metrics_were_lost:
            report_all(self._arrays, self._rules, self.now_s)

    def replicas(self) -> Iterator[ReplicaSnapshot]:
        """The replicas that there are, the oldest first, with what they reported last where that is not too old."""
        there = self._arrays.replicas[self._rows.rows_in(*REPLICA_STATES)]
        kept_s = REPORT_KEPT_INTERVALS * self._config.metrics_interval_s
        seen = REPORTED if self.now_s - float(self._arrays.clock["reported_s"][0]) <= kept_s else REPORTED[:3]
        for number, state, *reported in zip(*(there[name].tolist() for name in seen), strict=True):
            yield ReplicaSnapshot(replica_name(number), REPLICA_STATES[state], *reported)

    def queue(self) -> list[tuple[int, int, float | None]]:
        """Of each service: requests and prompt tokens in the router's queue, and the earliest deadline there."""
        return [
            (int(service["queued"]), int(service["queued_prompt_tokens"]), self._earliest_deadline_s(index))
            for index, service in enumerate(self._arrays.services)
        ]

    def close(self) -> None:
        """End the run here: report once more, and write down the lives of the replicas that are still there."""
        settle_all(self._arrays, self._rules, self.now_s)
        self._rows.close()

    def check(self) -> None:
        """Raise BrokenInvariantError unless requests, tokens and KV blocks add up."""
        check_fleet(self._arrays, self._requests, self._limits)

    def _run_until(self, until_s: float) -> None:
        go_on = run_and_check_until if self._config.check_invariants else run_until
        go_on(self._arrays, self._requests, self._rules, until_s)
        self._rows.collect_ended()

    def _act(self, event: Event) -> None:
        """A fault acts now, or one that acted comes to light."""
        serving = self._rows.rows_in(READY, DRAINING)
        match event:
            case OneDies(number):
                self._fail(self._rows.of_numbers({number}, serving))
            case ReplicaDeath(replicas=count):
                self._fail([serving[place] for place in self._faults.choose(len(serving), count)])
            case NodeDeath():
                nodes = self._rows.nodes.in_use()
                for place in self._faults.choose(len(nodes), 1):
                    lost = self._rows.nodes.kill(nodes[place])
                    self._fail(self._rows.of_numbers(lost, self._rows.rows_in(STARTING, READY, DRAINING)))
            case DeathNoticed(number):
                self._bury(self._rows.of_numbers({number}, self._rows.rows_in(FAILED)))
            case MetricsChange():  # lost from now on, or until the next report
                self._metrics_were_lost |= holds(self._config.faults, LostMetrics, self.now_s)

    def _fail(self, rows: list[int]) -> None:
        """These replicas die. Of a ready one the controller learns later; the end of any other it is waiting for."""
        states = [int(self._arrays.replicas["state"][row]) for row in rows]
        for row in rows:
            fail_replica(self._arrays, self._requests, self._rules, row, self.now_s)
        self._rows.sample_last(rows, "failed_s")
        noticed_s = self.now_s + self._config.failure_notice_s
        is_late = [state == READY and noticed_s > self.now_s for state in states]
        for row, late in zip(rows, is_late, strict=True):
            if late:
                self._faults.add(noticed_s, DeathNoticed(self._rows.number(row)))
        self._bury([row for row, late in zip(rows, is_late, strict=True) if not late])

    def _bury(self, rows: list[int]) -> None:
        """The controller knows that these are dead: others are started in their place, without a decision."""
        for row in rows:
            self._rows.end(row)
        self._rows.collect_ended()
        self.scale_to(self._target_replicas)

    def _start(self, phases: Sequence[StartPhase] = ()) -> None:
        row = self._rows.start(phases)
        self._faults.draw_death(self._rows.number(row), float(self._arrays.replicas["ready_s"][row]))

    def _earliest_deadline_s(self, index: int) -> float | None:
        """The earliest deadline of the service's requests in the queue; None where none waits."""
        service = self._arrays.services[index]
        if service["queued"] == 0:
            return None
        if (clients := self._arrays.clients) is not None:
            queued = self._requests[clients.queue.items[: clients.queue.size[0]]]
            return float(queued["arrival_s"][queued["service"] == index].min() + service["deadline_s"])
        waiting = self._arrays.of_service[service["head"] : service["end"]]
        place = 0
        while self._requests["fate"][waiting[place]] != Fate.QUEUED:
            place += 1
        return float(self._requests["arrival_s"][waiting[place]] + service["deadline_s"])
