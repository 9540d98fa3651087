"""Simulate a fleet that serves a trace under a policy."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from autoscaler.decision_record import DecisionRecord, record_decision
from autoscaler.interface import ClusterSnapshot, Policy, ScalingDecision
from autoscaler.simulator.fleet import Fleet, FleetConfig
from autoscaler.simulator.snapshots import ArrivalCounts, ForecastFeed, ForecastSettings, SnapshotMaker
from autoscaler.simulator.tables import engine_table, record_table, replica_table
from loadgen.trace import Trace

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """What happened, as the results folder holds it. All instants count in seconds from the run's start.

    Attributes:
        records: one row for each request of the trace (`loadgen.records.RECORD_SCHEMA`).
        decisions: one for each control period.
        replicas: replica_id, state, start_s, end_s; one row for each state that a replica was in.
        engine: what each replica reported, once per metrics interval and when it ended.
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
) -> SimulationResult:
    """Serve `trace` with a fleet that `policy` scales; same arguments and seed, same tables.

    The run lasts until the trace and every request have ended, and `fleet.settle_s` longer. At one instant the
    policy is asked before the replicas report: what it sees is up to one metrics interval old.

    Args:
        policy: asked once per control period, from the start on; wrapped in `Stabilized` where it is to be delayed.
        forecasting: None = the policy sees no forecast.
        progress: called from time to time with the share that is done, 0..1.

    Raises:
        InputError: the trace has a service that the fleet lacks, or the forecaster is unknown.
    """
    feed = None
    if forecasting is not None:
        counts = ArrivalCounts(trace, fleet.services, forecasting.bin_s, fleet.idle_s)
        forecasters = forecasting.make_forecasters(fleet.services, counts.first_bin * counts.bin_s)
        feed = ForecastFeed(forecasters, counts, forecasting.horizon_s)
    return run_fleet(trace, policy, Fleet(trace, fleet, rng), fleet, feed, progress)


def run_fleet(
    trace: Trace,
    policy: Policy,
    fleet: Fleet,
    config: FleetConfig,
    feed: ForecastFeed | None,
    progress: Callable[[float], None] | None = None,
) -> SimulationResult:
    """Run a fleet that has not run yet to its end; see `simulate`."""
    snapshots = SnapshotMaker(trace, config, feed)
    decisions: list[DecisionRecord] = []
    target_replicas = config.initial_replicas
    control_periods, reports, end_s, shown = 0, 1, math.inf, 0.0
    while True:
        control_s, report_s = control_periods * config.period_s, reports * config.metrics_interval_s
        if min(control_s, report_s) > end_s:
            break
        fleet.advance(min(control_s, report_s))
        if control_s <= report_s:
            record = decide(policy, snapshots.snapshot(fleet, target_replicas), config)
            target_replicas = record.target_replicas
            decisions.append(record)
            fleet.scale_to(target_replicas)
            control_periods += 1
        else:
            snapshots.report(fleet.sample())
            reports += 1
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
        replicas=replica_table(fleet.lives, end_s),
        engine=engine_table(fleet.samples),
        end_s=end_s,
    )


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
