"""One simulated fleet under its policy, moved from one control period or metrics report to the next."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from autoscaler.decision_record import DecisionRecord, record_decision
from autoscaler.interface import ClusterSnapshot, Policy, ScalingDecision
from autoscaler.simulator.control_kernel import ControlLoop
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.invariants import check_littles_law
from autoscaler.simulator.quiet_ticks import has_compiled_rule, pass_quiet_ticks
from autoscaler.simulator.snapshots import ForecastFeed, SnapshotMaker, what_is_resent
from autoscaler.simulator.tables import attempt_table, engine_table, record_table, replica_table
from loadgen.trace import Trace

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """What happened, as the results folder holds it. All instants count in seconds from the run's start.

    Attributes:
        records: one row for each request of the trace (`loadgen.records.RECORD_SCHEMA`).
        decisions: one for each control period, or fewer; see `simulate`.
        replicas: replica_id, state, start_s, end_s; one row for each state that a replica was in.
        engine: each replica's state, once per metrics interval, or more rarely, and when it ended.
        end_s: when the run ended.
        attempts: each sending of each request (`tables.attempt_table`); None = none was to be sent again.
    """

    records: pa.Table
    decisions: list[DecisionRecord]
    replicas: pa.Table
    engine: pa.Table
    end_s: float
    attempts: pa.Table | None = None


class FleetRun:
    """A fleet that has not run yet, its policy, and what is written down of them; see `run.simulate`.

    At one instant the policy is asked before the replicas report: what it sees is up to one metrics interval old.
    """

    def __init__(
        self,
        trace: Trace,
        policy: Policy,
        fleet: Fleet,
        config: FleetConfig,
        feed: ForecastFeed | None,
        record_interval_s: float = 0.0,
    ) -> None:
        self.fleet = fleet
        self._trace, self._policy, self._config = trace, policy, config
        self._snapshots = SnapshotMaker(trace, config, feed, what_is_resent(fleet))
        self._decisions: list[DecisionRecord] = []
        self._every_period = max(1, round(record_interval_s / config.period_s))
        self._every_report = max(1, round(record_interval_s / config.metrics_interval_s))
        is_thinned = min(self._every_period, self._every_report) > 1
        self._is_compiled = feed is None and is_thinned and has_compiled_rule(policy) and not config.check_invariants
        self._control = ControlLoop(periods=0, reports=1, target_replicas=config.initial_replicas)
        self._end_s = math.inf

    @property
    def next_s(self) -> float:
        """When the policy is asked or the replicas report next."""
        return min(self._control_s, self._report_s)

    @property
    def is_deciding(self) -> bool:
        """Whether that is the policy."""
        return self._control_s <= self._report_s

    @property
    def target_replicas(self) -> int:
        """What the policy asked for last, within the limits."""
        return self._control.target_replicas

    @property
    def end_s(self) -> float:
        """When the run is to end; infinity until the trace and all of its requests have ended."""
        fleet, trace_s = self.fleet, self._trace.duration_s
        if math.isinf(self._end_s) and fleet.all_ended and fleet.now_s >= trace_s:
            self._end_s = max(fleet.now_s, max(trace_s, fleet.last_end_s) + self._config.settle_s)
        return self._end_s

    @property
    def done_fraction(self) -> float:
        """The share of the run that is done, 0..1."""
        whole_s = max(self._trace.duration_s + self._config.settle_s, self.fleet.now_s, 1e-9)
        return min(1.0, self.fleet.now_s / whole_s)

    def ask(self) -> DecisionRecord:
        """Ask the policy; what it answers is not followed yet."""
        return decide(self._policy, self._snapshots.snapshot(self.fleet, self.target_replicas), self._config)

    def note(self, record: DecisionRecord) -> None:
        """Take the decision for made: what it asks for is the target, and it is written down where it is due."""
        last = self._decisions[-1] if self._decisions else None
        is_news = is_change(record, self.target_replicas) or (
            last is not None and last.granted_replicas != record.granted_replicas
        )
        if self._control.periods % self._every_period == 0 or is_news:
            self._decisions.append(record)
        self._control.target_replicas = record.target_replicas
        self._control.periods += 1

    def report(self) -> None:
        """Let the replicas report their metrics, and write them down where that is due."""
        self.fleet.report()
        if self._control.reports % self._every_report == 0:
            self.fleet.sample()
        self._control.reports += 1

    def step(self) -> None:
        """Do what is due next: a control period, or a report."""
        self.fleet.advance(self.next_s)
        if self.is_deciding:
            self.note(self.ask())
            self.fleet.scale_to(self.target_replicas)
        else:
            self.report()

    def pass_quiet_ticks(self) -> None:
        """Go on over periods that change nothing, where the policy's rule is compiled; else stay."""
        if not self._is_compiled or self.fleet.is_disturbed:
            return
        every_period, every_report = self._every_period, self._every_report
        self._control = pass_quiet_ticks(
            self._policy,
            self.fleet,
            self._config,
            self._control,
            stop_period=math.ceil(self._control.periods / every_period) * every_period,
            stop_report=math.ceil(self._control.reports / every_report) * every_report,
            end_s=self._end_s,
            trace_s=self._trace.duration_s,
        )

    def close(self, end_s: float) -> SimulationResult:
        """End the run at `end_s`, and say what happened. Little's law is held against it."""
        self.fleet.advance(end_s)
        self.fleet.close()
        records = record_table(self._trace, self.fleet.requests)
        check_littles_law(records, self.fleet.request_seconds)
        return SimulationResult(
            records=records,
            decisions=self._decisions,
            replicas=replica_table(self.fleet.lives, self.fleet.pool_members, end_s),
            engine=engine_table(self.fleet.samples),
            end_s=end_s,
            attempts=self._attempts(),
        )

    def _attempts(self) -> pa.Table | None:
        clients = self.fleet.compiled[0].clients
        if clients is None or clients.rules.max_attempts == 1:
            return None
        return attempt_table(self.fleet.requests, clients)

    @property
    def _control_s(self) -> float:
        return self._control.periods * self._config.period_s

    @property
    def _report_s(self) -> float:
        return self._control.reports * self._config.metrics_interval_s


def is_change(record: DecisionRecord, target_replicas: int) -> bool:
    """Whether a decision is more than a repetition: the target changes, or the policy failed."""
    return record.target_replicas != target_replicas or record.error is not None


def decide(policy: Policy, cluster: ClusterSnapshot, config: FleetConfig) -> DecisionRecord:
    """Ask the policy; where it fails, or answers no whole number, the fleet stays as it is, as it does live."""
    try:
        decision = policy.decide(cluster)
        if not isinstance(decision.target_replicas, int | np.integer):
            raise TypeError(f"want a whole number of replicas, got {decision.target_replicas!r}")
    except Exception as error:
        logger.warning("the policy failed at %.1f s: %s", cluster.now_s, error, exc_info=True)
        message = f"{type(error).__name__}: {error}"
        kept = ScalingDecision(cluster.target_replicas, f"kept {cluster.target_replicas}: the policy failed")
        return record_decision(cluster, kept, cluster.target_replicas, config.cold_start_s, message)
    target_replicas = config.limits.clamp(int(decision.target_replicas))
    return record_decision(cluster, decision, target_replicas, config.cold_start_s)
