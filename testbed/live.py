"""Run an experiment live: Ray and Serve on loopback, a real replay over HTTP, everything collected, all stopped."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve

from autoscaler.interface import ReplicaState
from loadgen.crew import ReplayProgress
from loadgen.errors import InputError
from loadgen.plan import Prompts
from loadgen.prompts.source import open_prompts
from loadgen.replay import ReplayOutcome, replay
from loadgen.target import Target, probe
from loadgen.trace import Trace
from serve_app.app import build_app
from serve_app.config import ServeAddress, gpus_per_replica
from serve_app.router_settings import check_live_router
from serve_app.serve_state import engine_states, serve_is_running
from serve_app.traffic import Collected
from serve_app.traffic_monitor import find_monitor
from testbed.api_key import read_api_key
from testbed.client_settings import client_config_of
from testbed.collector import Collector
from testbed.conclude import conclude_run
from testbed.config import Experiment, as_yaml_values, load_workload, with_traffic
from testbed.environment import describe_environment, describe_trace
from testbed.progress import TerminalProgress, replay_figures
from testbed.ray_cluster import ray_cluster
from testbed.replay_records import correct_length, make_parts_folder, store_phases, store_plan, store_replay
from testbed.results import create_results_folder, read_results, write_config, write_environment
from testbed.warm_up import find_warm_up_end

APP_NAME = "burstscale"
ROUTE_PREFIX = "/"


def run_experiment(experiment: Experiment, out: Path, progress: TerminalProgress) -> Path:
    """Deploy, replay, watch the fleet settle, stop; returns the results folder.

    Raises:
        InputError: the input is wrong or lists faults, the folder is not new, or an application of this name is
            served already.
    """
    if experiment.config.faults:
        raise InputError(
            f"experiment '{experiment.config.name}': 'faults' happen in a simulated run alone; remove them, or use "
            "`burstscale simulate`"
        )
    check_live_router(experiment.app.router)
    trace = experiment.config.replay.planned(load_workload(experiment))
    experiment = with_traffic(experiment, trace)
    api_key = read_api_key(experiment.app.api_key_env)
    progress.stage("reading the prompts")
    prompts = open_prompts(experiment.config.workload.prompts, progress.update)
    folder = create_results_folder(out)
    fleet = experiment.app.fleet
    progress.stage("starting Ray")
    needed_cpus = fleet.max_replicas * fleet.cpus_per_replica + 2  # and the ingress, the monitor, the forecaster
    with ray_cluster(needed_cpus=needed_cpus), _served(experiment, progress) as url:
        target = experiment.config.replay.target(url, experiment.app.model_id, api_key)
        probe(target)
        outcome, problems = _replay_and_watch(experiment, trace, prompts, target, folder, progress)
    progress.stage("writing the report")
    conclude_run(
        folder,
        cut_short="interrupted" if outcome.is_interrupted else None,
        problems=[*outcome.lost_actors, *problems],
    )
    return folder


def _replay_and_watch(
    experiment: Experiment,
    trace: Trace,
    prompts: Prompts,
    target: Target,
    folder: Path,
    progress: TerminalProgress,
) -> tuple[ReplayOutcome, list[str]]:
    """Replay the trace and stay until the fleet has settled, collecting all along; what happened is in the folder."""
    config, settings = experiment.config, experiment.config.replay
    run_s = settings.run_s(trace.duration_s)
    deadlines_s = {label: service.deadline_s for label, service in experiment.app.services.items()}
    write_config(folder, as_yaml_values(experiment))
    environment = describe_environment(
        kind="live",
        seed=config.seed,
        trace=describe_trace(trace),
        gpus_per_replica=gpus_per_replica(experiment.app),
        notes=experiment.notes,
    )
    environment["trace"]["duration_s"] = run_s
    environment["warm_up_until_s"] = settings.warm_up_s
    write_environment(folder, environment)
    collector = Collector(folder, _collect, _engine_states, time.time)
    progress.stage("preparing the requests")

    def plan(body_bytes: NDArray[np.int64]) -> None:
        environment["plan"] = store_plan(folder, trace, body_bytes)
        write_environment(folder, environment)

    def show(state: ReplayProgress) -> None:
        latest = collector.latest
        fleet = f"{latest.ready} ready, {latest.target_replicas} wanted" if latest else "fleet unknown"
        progress.show(min(max(state.now_s, 0.0), run_s), run_s, replay_figures(state, fleet))

    def started(start_epoch_s: float) -> None:
        collector.start(start_epoch_s)
        progress.stage("replaying")

    with collector:
        outcome = replay(
            trace,
            target,
            deadlines_s=deadlines_s,
            actors=settings.actors,
            out_dir=make_parts_folder(folder),
            prompts=prompts,
            rng=np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(1,))),
            on_start=started,
            on_progress=show,
            on_planned=plan,
            extra_body=settings.body_fields(),
            pacing=settings.pacing(config.workload.speed, trace.duration_s),
            client=client_config_of(config.client),
        )
        store_replay(folder, outcome)
        problems = correct_length(environment, outcome, settings)
        if not outcome.is_interrupted:
            settled_epoch_s = outcome.start_epoch_s + environment["trace"]["duration_s"] + config.settle_s
            last_reports_epoch_s = time.time() + 2 * experiment.app.control.metrics_interval_s
            _settle(max(settled_epoch_s, last_reports_epoch_s), progress)
    store_phases(folder, outcome, deadlines_s, collector.server_word(outcome.run_tag))
    problems += [collector.problem] if collector.problem else []
    if settings.warm_up_kv:
        environment["warm_up_until_s"], said = find_warm_up_end(read_results(folder).engine, run_s)
        problems += [said] if said else []
    write_environment(folder, environment)
    return outcome, problems


def _settle(end_epoch_s: float, progress: TerminalProgress) -> None:
    """Wait, so that the fleet is seen to shrink and the last reports of its engines come. Ctrl-C ends it early."""
    progress.stage("watching the fleet settle")
    first_s = time.time()
    try:
        while (now_s := time.time()) < end_epoch_s:
            progress.update(now_s - first_s, end_epoch_s - first_s)
            time.sleep(min(0.5, end_epoch_s - now_s))
    except KeyboardInterrupt:
        return


def _collect(cursor: tuple[int, int]) -> Collected:
    monitor = find_monitor(APP_NAME)
    if monitor is None:
        return Collected((), (), cursor, 0)
    collected: Collected = ray.get(monitor.collect.remote(cursor), timeout=10)
    return collected


def _engine_states() -> list[tuple[str, ReplicaState]]:
    return list(engine_states(APP_NAME).items())


@contextmanager
def _served(experiment: Experiment, progress: TerminalProgress) -> Iterator[str]:
    """Deploy the application, wait until its first replicas are ready, give its URL; take down what was started."""
    is_running = serve_is_running()
    if is_running and APP_NAME in serve.status().applications:
        raise InputError(
            f"application '{APP_NAME}' is served on this cluster already; "
            "replay against it with `burstscale load`, or end it with `serve shutdown`"
        )
    address = experiment.address if is_running else _free_address(experiment.address)
    progress.stage(f"starting {experiment.app.fleet.initial_replicas} replicas")
    if not is_running:
        serve.start(http_options={"host": address.host, "port": address.port})
    try:
        application = build_app(experiment.app.model_dump(mode="json"))
        serve.run(application, name=APP_NAME, route_prefix=ROUTE_PREFIX)
        yield f"http://{address.host}:{address.port}"
    finally:
        progress.stage("stopping the fleet")
        if is_running:
            serve.delete(APP_NAME)
        else:
            serve.shutdown()


def _free_address(wanted: ServeAddress) -> ServeAddress:
    """The wanted address, or another port of its host where somebody listens there already.

    Serve's proxies share a port with whoever has it (SO_REUSEPORT), and requests would go astray without a word.
    """
    with socket.socket() as probe_socket:
        probe_socket.settimeout(1.0)
        if probe_socket.connect_ex((wanted.host, wanted.port)) != 0:
            return wanted
    with socket.socket() as free_socket:
        free_socket.bind((wanted.host, 0))
        return ServeAddress(host=wanted.host, port=free_socket.getsockname()[1])
