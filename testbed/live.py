"""Run an experiment live: Ray and Serve on loopback, a real replay over HTTP, everything collected, all stopped."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray import serve

from loadgen.errors import InputError
from loadgen.plan import Prompts
from loadgen.prompts.source import open_prompts
from loadgen.replay import ReplayOutcome
from loadgen.target import Target, probe
from loadgen.trace import Trace
from serve_app.app import build_app
from serve_app.config import ServeAddress, gpus_per_replica
from serve_app.fleet_api import Cursor, FleetPage
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
from testbed.fleet_settling import watch_fleet_settle
from testbed.progress import TerminalProgress
from testbed.ray_cluster import ray_cluster
from testbed.results import create_results_folder, write_config
from testbed.run_lock import run_lock
from testbed.watched_replay import Sending, replay_watched
from testbed.within import Given, within

APP_NAME = "burstscale"
ROUTE_PREFIX = "/"
# A large model that is fetched and loaded takes minutes. Serve itself waits for a replica that is frozen for ever.
_START_TIMEOUT_S = 1800.0
_STATUS_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0


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
    with run_lock(folder):
        with ray_cluster(needed_cpus=needed_cpus), _served(experiment, progress) as url:
            target = experiment.config.replay.target(url, experiment.app.model_id, api_key)
            probe(target)
            cut_short, problems = _replay_and_watch(experiment, trace, prompts, target, folder, progress)
        progress.stage("writing the report")
        conclude_run(folder, cut_short=cut_short, problems=problems)
    return folder


def _replay_and_watch(
    experiment: Experiment,
    trace: Trace,
    prompts: Prompts,
    target: Target,
    folder: Path,
    progress: TerminalProgress,
) -> tuple[str | None, list[str]]:
    """Replay the trace and stay until the fleet has settled, collecting all along; what happened is in the folder."""
    config, settings = experiment.config, experiment.config.replay
    write_config(folder, as_yaml_values(experiment))
    environment = describe_environment(
        kind="live",
        seed=config.seed,
        trace=describe_trace(trace),
        gpus_per_replica=gpus_per_replica(experiment.app),
        notes=experiment.notes,
    )
    sending = Sending(
        trace,
        target,
        prompts,
        {label: service.deadline_s for label, service in experiment.app.services.items()},
        settings,
        client_config_of(config.client),
        config.workload.speed,
        config.seed,
    )

    def stay(outcome: ReplayOutcome) -> None:
        settled_epoch_s = outcome.start_epoch_s + environment["trace"]["duration_s"] + config.settle_s
        interval_s = experiment.app.control.metrics_interval_s
        watch_fleet_settle(interval_s, settled_epoch_s, progress, is_interrupted=outcome.is_interrupted)

    return replay_watched(sending, folder, environment, Collector(folder, _ask_fleet), stay, progress)


def _ask_fleet(cursor: Cursor | None) -> FleetPage:
    """What the traffic monitor and Serve's controller tell now; all since `cursor`, None = all there is."""
    replicas = engine_states(APP_NAME)
    monitor = find_monitor(APP_NAME)
    if monitor is None:
        return FleetPage(Collected((), (), cursor or (0, 0), 0), replicas)
    log: Collected = ray.get(monitor.collect.remote(cursor or (0, 0)), timeout=10)
    return FleetPage(log, replicas)


@contextmanager
def _served(experiment: Experiment, progress: TerminalProgress) -> Iterator[str]:
    """Deploy the application, wait until its first replicas are ready, give its URL; take down what was started."""
    is_running = _within(_STATUS_TIMEOUT_S, serve_is_running, "tell whether it runs")
    if is_running and APP_NAME in _within(_STATUS_TIMEOUT_S, serve.status, "tell what it serves").applications:
        raise InputError(
            f"application '{APP_NAME}' is served on this cluster already; "
            "replay against it with `burstscale load`, or end it with `serve shutdown`"
        )
    address = experiment.address if is_running else _free_address(experiment.address)
    progress.stage(f"starting {experiment.app.fleet.initial_replicas} replicas")

    def start() -> None:
        if not is_running:
            serve.start(http_options={"host": address.host, "port": address.port})
        application = build_app(experiment.app.model_dump(mode="json"))
        serve.run(application, name=APP_NAME, route_prefix=ROUTE_PREFIX)

    try:
        _within(_START_TIMEOUT_S, start, "have the first replicas ready")
        yield f"http://{address.host}:{address.port}"
    finally:
        progress.stage("stopping the fleet")
        # Where Serve itself is frozen, it ends with the cluster if that is ours.
        with suppress(TimeoutError):
            within(_STOP_TIMEOUT_S, (lambda: serve.delete(APP_NAME)) if is_running else serve.shutdown)


def _within(limit_s: float, work: Callable[[], Given], what: str) -> Given:
    """What Serve gives; raises InputError where it does not in time."""
    try:
        return within(limit_s, work)
    except TimeoutError as error:
        raise InputError(
            f"Ray Serve: did not {what} within {limit_s:g} s; see its logs in /tmp/ray/session_latest/logs/serve"
        ) from error


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
