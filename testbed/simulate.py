"""Run an experiment in the fleet simulator and write its results folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import SimulationResult
from autoscaler.simulator.quiet_ticks import has_compiled_rule
from autoscaler.simulator.run import simulate
from autoscaler.simulator.snapshots import ForecastSettings
from loadgen.records import write_attempts, write_records
from loadgen.trace import Trace
from serve_app.config import HEALTH_CHECK_PERIOD_S, AppConfig, ForecasterSettings, gpus_per_replica
from serve_app.guarded_policy import build_policy
from serve_app.start_settings import start_of
from testbed.conclude import conclude_run
from testbed.config import Experiment, as_yaml_values, load_workload, with_traffic
from testbed.environment import describe_environment, describe_trace
from testbed.fault_settings import fault_of
from testbed.results import (
    ATTEMPTS,
    RECORDS,
    append_decisions,
    create_results_folder,
    write_config,
    write_environment,
    write_tables,
)

# Of long runs, decisions that change nothing and engine samples are kept about so many times: enough for any plot.
RECORDED_INSTANTS = 20_000


def simulate_experiment(experiment: Experiment, out: Path, progress: Callable[[float, float], None]) -> Path:
    """Simulate and write the results; returns the folder. `progress` is called with (done, 1.0).

    Raises:
        InputError: the input is wrong or the folder is not new.
    """
    trace = load_workload(experiment)
    experiment = with_traffic(experiment, trace)
    folder = create_results_folder(out)
    write_config(folder, as_yaml_values(experiment))
    environment = describe_environment(
        kind="simulated",
        seed=experiment.config.seed,
        trace=describe_trace(trace),
        gpus_per_replica=gpus_per_replica(experiment.app),
        notes=(*experiment.notes, *cache_notes(experiment.app, trace)),
    )
    write_environment(folder, environment)
    result = _simulate(experiment, trace, lambda share: progress(share, 1.0))
    write_records(result.records, folder / RECORDS)
    if result.attempts is not None:
        write_attempts(result.attempts, folder / ATTEMPTS)
    append_decisions(folder, result.decisions)
    write_tables(folder, replicas=result.replicas, engine=result.engine)
    conclude_run(folder)
    return folder


def _simulate(experiment: Experiment, trace: Trace, progress: Callable[[float], None]) -> SimulationResult:
    app = experiment.app
    policy = build_policy(app)
    record_interval_s = trace.duration_s / RECORDED_INSTANTS
    # A compiled rule looks at no forecast, and to make one every few seconds for months would take longer than the run.
    is_unused = has_compiled_rule(policy) and record_interval_s > app.control.period_s
    return simulate(
        trace,
        policy,
        fleet_of(experiment),
        forecasting=None if app.forecaster is None or is_unused else forecast_settings_of(app.forecaster),
        rng=np.random.default_rng(np.random.SeedSequence(experiment.config.seed, spawn_key=(1,))),
        progress=progress,
        record_interval_s=record_interval_s,
    )


def cache_notes(app: AppConfig, trace: Trace) -> tuple[str, ...]:
    """What a reader must know of the prefix cache in a simulated run."""
    if not app.engine.prefix_caching or trace.prefix is not None:
        return ()
    return (
        "the engines have a prefix cache, but the trace does not say which prompts begin alike: each counts as new",
    )


def fleet_of(experiment: Experiment) -> FleetConfig:
    """The simulated fleet that an experiment describes, with its clients and what goes wrong in it."""
    app, config = experiment.app, experiment.config
    fleet, control = app.fleet, app.control
    return FleetConfig(
        hardware=load_hardware(app.engine.hardware),
        limits=fleet.limits,
        initial_replicas=fleet.initial_replicas,
        cold_start_s=fleet.planned_cold_start_s,
        cold_start=start_of(fleet.cold_start) if fleet.cold_start else None,
        warm_pool=fleet.warm_pool.pool if fleet.warm_pool else None,
        max_ongoing_requests=fleet.max_ongoing_requests,
        max_queued_requests=app.router.max_queued_requests,
        router=app.router.choices,
        retry_after_s=app.router.retry_after_s,
        client=None if config.client is None else config.client.client_config,
        services={label: service.service_class for label, service in app.services.items()},
        period_s=control.period_s,
        metrics_interval_s=control.metrics_interval_s,
        arrivals_bin_s=control.arrivals_bin_s,
        history_bins=control.history_bins,
        drain_timeout_s=fleet.drain_timeout_s,
        settle_s=config.settle_s,
        # A live run begins when its first replicas are ready: nothing came until then.
        idle_s=fleet.planned_cold_start_s,
        faults=tuple(map(fault_of, config.faults)),
        failure_notice_s=HEALTH_CHECK_PERIOD_S,
        replicas_per_node=fleet.replicas_per_node,
        check_invariants=experiment.check_invariants,
        prefix_caching=app.engine.prefix_caching,
        engine=app.engine.options,
    )


def forecast_settings_of(forecaster: ForecasterSettings) -> ForecastSettings:
    """The simulated forecaster that an application's configuration names."""
    return ForecastSettings(
        name=forecaster.name,
        params=forecaster.params,
        bin_s=forecaster.bin_s,
        horizon_s=forecaster.horizon_s,
        levels=forecaster.levels,
    )
