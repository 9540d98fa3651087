"""Simulate a fleet that serves a trace under a policy."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from autoscaler.decision_record import DecisionRecord, record_decision
from autoscaler.interface import ClusterSnapshot, Policy, ScalingDecision
from autoscaler.simulator.control_kernel import ControlLoop
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.quiet_ticks import has_compiled_rule, pass_quiet_ticks
from autoscaler.simulator.snapshots import ArrivalCounts, ForecastFeed, ForecastSettings, SnapshotMaker
from autoscaler.simulator.tables import engine_table, record_table, replica_table
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
    """

    records: pa.Table
    decisions: list[DecisionRecord]
    replicas: pa.Table
    engine: pa.Table
    end_s: float


def simulate(
    trace: Trace,
    policy: Policy,
    fleet: FleetConfig,
    *,
    forecasting: ForecastSettings | None = None,
    rng: np.random.Generator,
    progress: Callable[[float], None] | None = None,
    record_interval_s: float = 0.0,
) -> SimulationResult:
    """Serve `trace` with a fleet that `policy` scales; same arguments and seed, same tables.

    The run lasts until the trace and every request have ended, and `fleet.settle_s` longer. At one instant the
    policy is asked before the replicas report: what it sees is up to one metrics interval old.

    Args:
        policy: asked once per control period, from the start on; wrapped in `Stabilized` where it is to be delayed.
        forecasting: None = the policy sees no forecast.
        progress: called from time to time with the share that is done, 0..1.
        record_interval_s: decisions that change nothing, and the engines' state, are written down once per so long; 0
            = each of them. What happens to requests and replicas is the same.

    Raises:
        InputError: the trace has a service that the fleet lacks, or the forecaster is unknown.
    """
    feed = None
    if forecasting is not None:
        counts = ArrivalCounts(trace, fleet.services, forecasting.bin_s, fleet.idle_s)
        forecasters = forecasting.make_forecasters(fleet.services, counts.first_bin * counts.bin_s)
        feed = ForecastFeed(forecasters, counts, forecasting.horizon_s, fleet.faults)
    return run_fleet(trace, policy, Fleet(trace, fleet, rng), fleet, feed, progress, record_interval_s)


def run_fleet(
    trace: Trace,
    policy: Policy,
    fleet: Fleet,
    config: FleetConfig,
    feed: ForecastFeed | None,
    progress: Callable[[float], None] | None = None,
    record_interval_s: float = 0.0,
) -> SimulationResult:
    """Run a fleet that has not run yet to its end; see `simulate`."""
    snapshots = SnapshotMaker(trace, config, feed)
    decisions: list[DecisionRecord] = []
    every_period = max(1, round(record_interval_s / config.period_s))
    every_report = max(1, round(record_interval_s / config.metrics_interval_s))
    is_compiled = feed is None and min(every_period, every_report) > 1 and has_compiled_rule(policy)
    control, end_s, shown = ControlLoop(periods=0, reports=1, target_replicas=config.initial_replicas), math.inf, 0.0
    while True:
        if is_compiled and not fleet.is_disturbed:
            control = pass_quiet_ticks(
                policy,
                fleet,
                config,
                control,
                stop_period=math.ceil(control.periods / every_period) * every_period,
                stop_report=math.ceil(control.reports / every_report) * every_report,
                end_s=end_s,
                trace_s=trace.duration_s,
            )
        control_s, report_s = control.periods * config.period_s, control.reports * config.metrics_interval_s
        if min(control_s, report_s) > end_s:
            break
        fleet.advance(min(control_s, report_s))
        if control_s <= report_s:
            record = decide(policy, snapshots.snapshot(fleet, control.target_replicas), config)
            if control.periods % every_period == 0 or is_change(record, control.target_replicas):
                decisions.append(record)
            control.target_replicas = record.target_replicas
            fleet.scale_to(control.target_replicas)
            control.periods += 1
        else:
            fleet.report()
            if control.reports % every_report == 0:
                fleet.sample()
            control.reports += 1
        if fleet.all_ended and fleet.now_s >= trace.duration_s and math.isinf(end_s):
            end_s = max(fleet.now_s, max(trace.duration_s, fleet.last_end_s) + config.settle_s)
        share = min(1.0, fleet.now_s / max(trace.duration_s + config.settle_s, fleet.now_s, 1e-9))
        if progress is not None and share >= shown + 0.01:
            progress(share)
            shown = share
    fleet.advance(end_s)
    fleet.close()
    return SimulationResult(
        records=record_table(trace, fleet.requests),
        decisions=decisions,
        replicas=replica_table(fleet.lives, fleet.pool_members, end_s),
        engine=engine_table(fleet.samples),
        end_s=end_s,
    )


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
