"""Simulate a fleet that serves a trace under a policy."""

import math
from collections.abc import Callable

import numpy as np

from autoscaler.interface import Policy
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import FleetRun, SimulationResult
from autoscaler.simulator.snapshots import ArrivalCounts, ForecastFeed, ForecastSettings, what_is_resent
from loadgen.trace import Trace


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
    served = Fleet(trace, fleet, rng)
    feed = forecast_feed(trace, served, fleet, forecasting)
    return run_fleet(FleetRun(trace, policy, served, fleet, feed, record_interval_s), progress)


def run_fleet(run: FleetRun, progress: Callable[[float], None] | None = None) -> SimulationResult:
    """Run a fleet that has not run yet to its end; see `simulate`."""
    end_s, shown = math.inf, 0.0
    while True:
        run.pass_quiet_ticks()
        if run.next_s > end_s:
            return run.close(end_s)
        run.step()
        end_s = run.end_s
        if progress is not None and run.done_fraction >= shown + 0.01:
            shown = run.done_fraction
            progress(shown)


def forecast_feed(
    trace: Trace, fleet: Fleet, config: FleetConfig, forecasting: ForecastSettings | None
) -> ForecastFeed | None:
    """New forecasters that see what arrives at the fleet as it comes; None = none are wanted."""
    if forecasting is None:
        return None
    counts = ArrivalCounts(trace, config.services, forecasting.bin_s, config.idle_s, what_is_resent(fleet))
    forecasters = forecasting.make_forecasters(config.services, counts.first_bin * counts.bin_s)
    return ForecastFeed(forecasters, counts, forecasting.horizon_s, config.faults)
