"""Replay a trace against a server that somebody else runs; where that is a fleet of ours, the results tell of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.plan import Prompts
from loadgen.prompts.source import PromptSettings, open_prompts
from loadgen.ramp import Ramp, with_ramp
from loadgen.replay import ReplayOutcome
from loadgen.selection import Selection, select
from loadgen.self_test import measure_honest_rate, measure_spread_rate, peak_per_s
from loadgen.shipped_workloads import find_workload, is_workload
from loadgen.target import Target, probe
from loadgen.trace import SERVICE_LABELS, Trace
from loadgen.workload import draw_trace, read_workload_model
from testbed.api_key import read_api_key
from testbed.client_settings import ClientSettings, client_config_of
from testbed.collector import Collector
from testbed.conclude import conclude_run
from testbed.environment import describe_environment, describe_trace
from testbed.fleet_settling import watch_fleet_settle
from testbed.fleet_source import HttpFleet, find_fleet
from testbed.progress import TerminalProgress
from testbed.ray_cluster import ray_cluster
from testbed.replay_settings import ReplaySettings
from testbed.results import Results, create_results_folder, write_config
from testbed.run_lock import run_lock
from testbed.server_metrics import MetricsScraper, find_metrics_pages
from testbed.watched_replay import Sending, Watcher, replay_watched

METRICS_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Where the requests go, which part of the traffic is sent, and what is promised for a request."""

    url: str
    model: str
    deadline_s: float
    ttft_s: float
    tpot_s: float
    selection: Selection
    prompts: PromptSettings
    replay: ReplaySettings
    seed: int
    api_key_env: str | None
    client: ClientSettings | None = None
    ramp: Ramp | None = None
    self_test: bool = True
    settle_s: float = 0.0  # a fleet of ours is watched for so long after the traffic
    window_s: float | None = None  # of the figures over time; None = as the run's length suggests
    chunk_offsets: bool = True
    chunk_tokens: bool = False  # a fleet of ours is asked in any case
    metrics_urls: tuple[str, ...] | None = None  # None = the server's own /metrics, where it has one


@dataclass(frozen=True, slots=True)
class Ready:
    """What stands ready before anything is sent.

    Attributes:
        fleet: the server's, where it is one of ours; it tells more of its engines than metrics pages do.
        metrics_urls: pages to scrape; none where there is a fleet.
    """

    target: Target
    fleet: HttpFleet | None
    metrics_urls: tuple[str, ...]
    prompts: Prompts
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientCheck:
    """What the self-test said: for environment.json, and what is to be warned of."""

    environment: dict[str, Any]
    problems: tuple[str, ...]


def load_server(traffic: Path, settings: LoadSettings, out: Path, progress: TerminalProgress) -> Path:
    """Replay `traffic` (a trace, or a workload model's YAML) against a server; returns the results folder.

    Raises:
        InputError: the input is wrong, nobody answers at the url, or the folder is not new.
    """
    trace = read_traffic(traffic, settings)
    ready = make_ready(settings, progress)
    folder = create_results_folder(out)
    write_config(folder, describe_config(traffic, settings, ready.fleet))
    # How fast users send is up to the server.
    most_per_s = peak_per_s(trace.arrival_s) if settings.replay.users is None else 0.0
    with run_lock(folder), checked_client(settings, most_per_s, progress) as client:
        send_load(trace, ready, settings, folder, client, progress)
    return folder


def make_ready(settings: LoadSettings, progress: TerminalProgress) -> Ready:
    """Find the server and its metrics, and read the prompts.

    Raises:
        InputError: nobody answers, a page or a text is missing, or a warm-up needs metrics that there are not.
    """
    target = settings.replay.target(settings.url, settings.model, read_api_key(settings.api_key_env))
    probe(target)
    fleet = find_fleet(target)
    metrics_urls = () if fleet else find_metrics_pages(settings.metrics_urls, target.root)
    if settings.replay.warm_up_kv and not fleet and not metrics_urls:
        raise InputError(
            f"{target.root}: has no /metrics that tell of KV caches, by which the warm-up is to end; give "
            "--metrics-url, or --warm-up-s in place of --warm-up-kv"
        )
    progress.stage("reading the prompts")
    unread = f"--metrics-url is not read: {target.root} is a burstscale fleet, whose engines report themselves"
    notes = (unread,) if fleet and settings.metrics_urls else ()
    return Ready(target, fleet, metrics_urls, open_prompts(settings.prompts, progress.update), notes)


@contextmanager
def checked_client(settings: LoadSettings, most_per_s: float, progress: TerminalProgress) -> Iterator[ClientCheck]:
    """A Ray to send from, and what the self-test said of this client: before Ray takes processor time, if it can."""
    client = None if settings.replay.spread else _check_client(settings, most_per_s, progress)
    progress.stage("starting Ray")
    with ray_cluster(needed_cpus=1):
        yield client or _check_client(settings, most_per_s, progress)


def _check_client(settings: LoadSettings, most_per_s: float, progress: TerminalProgress) -> ClientCheck:
    """Measure what this client can send in time, and hold the most that the plan asks for against it."""
    if not settings.self_test:
        return ClientCheck({}, ())
    progress.stage("measuring this client against a null server")
    measure = measure_spread_rate if settings.replay.spread else measure_honest_rate
    honest = measure(settings.replay.actors, needed_per_s=most_per_s)
    warning = honest.warning(most_per_s)
    progress.say(warning or honest.sentence())
    return ClientCheck({"client": {**honest.as_json(), "plan_peak_per_s": most_per_s}}, (warning,) if warning else ())


def send_load(
    trace: Trace,
    ready: Ready,
    settings: LoadSettings,
    folder: Path,
    client: ClientCheck,
    progress: TerminalProgress,
) -> Results:
    """Replay a trace into a folder that has its config.yaml; needs an initialised Ray."""
    fleet = ready.fleet
    sending = Sending(
        trace,
        ready.target,
        ready.prompts,
        dict.fromkeys(SERVICE_LABELS, settings.deadline_s),
        settings.replay,
        client_config_of(settings.client),
        settings.selection.speed,
        settings.seed,
        settings.chunk_offsets,
        settings.chunk_tokens or fleet is not None,
    )

    def stay(outcome: ReplayOutcome) -> None:
        if fleet:
            settled_epoch_s = outcome.start_epoch_s + sending.run_s + settings.settle_s
            interval_s = fleet.description.control.metrics_interval_s
            watch_fleet_settle(interval_s, settled_epoch_s, progress, is_interrupted=outcome.is_interrupted)

    environment = _describe_environment(trace, ready, settings) | client.environment
    cut_short, problems = replay_watched(sending, folder, environment, _watcher(ready, folder), stay, progress)
    return conclude_run(folder, cut_short=cut_short, problems=[*client.problems, *problems])


def _describe_environment(trace: Trace, ready: Ready, settings: LoadSettings) -> dict[str, Any]:
    """What environment.json says before anything is sent, of the client's self-test apart."""
    fleet = ready.fleet
    described = describe_environment(
        kind="load",
        seed=settings.seed,
        trace=describe_trace(trace),
        gpus_per_replica=fleet.description.gpus_per_replica if fleet else None,
        notes=ready.notes,
    )
    return described | ({"fleet_clock": asdict(fleet.clock)} if fleet else {})


def _watcher(ready: Ready, folder: Path) -> Watcher:
    """A fleet tells itself what it does; of any other server its metrics pages are read, where it has some."""
    if ready.fleet:
        return Collector(folder, ready.fleet.ask, clock_offset_s=ready.fleet.clock.offset_s)
    return MetricsScraper(folder, ready.metrics_urls, METRICS_INTERVAL_S)


def read_traffic(path: Path, settings: LoadSettings) -> Trace:
    """Read the trace or draw the model, take the part that is selected, and give it the ramp's arrivals.

    Raises:
        InputError: the trace is malformed, no request is left, or the warm-up is as long as the run.
    """
    if is_workload(path):
        trace = draw_trace(read_workload_model(find_workload(path)), settings_rng(settings, 0))
    else:
        trace = read_trace(path)
    trace = select(trace, settings.selection, settings_rng(settings, 2))
    if settings.ramp is not None:
        if settings.replay.sessions or settings.replay.users is not None:
            raise InputError("a ramp gives each request its instant: it does not go with --sessions or --users")
        trace = with_ramp(trace, settings.ramp, settings_rng(settings, 3))
    return settings.replay.planned(trace)


def settings_rng(settings: LoadSettings, key: int) -> np.random.Generator:
    """A source of chance of its own for each thing that is drawn."""
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(key,)))


def at_rate(settings: LoadSettings, rate_per_s: float, duration_s: float) -> LoadSettings:
    """The same load at a constant rate."""
    return replace(settings, ramp=Ramp(rate_per_s, rate_per_s, duration_s))


def describe_config(traffic: Path, settings: LoadSettings, fleet: HttpFleet | None) -> dict[str, Any]:
    """What config.yaml says of such a run: with a fleet, also what that says of itself."""
    promise = {"deadline_s": settings.deadline_s, "ttft_s": settings.ttft_s, "tpot_s": settings.tpot_s}
    ramp = {} if settings.ramp is None else {"ramp": asdict(settings.ramp)}
    client = {} if settings.client is None else {"client": settings.client.model_dump(exclude_none=True)}
    return {
        "name": f"load on {settings.model}",
        "seed": settings.seed,
        "workload": {
            "trace": str(traffic.absolute()),
            **settings.selection.model_dump(exclude_none=True),
            **ramp,
            "prompts": settings.prompts.model_dump(mode="json", exclude_none=True),
        },
        "target": {"url": settings.url, "model": settings.model},
        "replay": settings.replay.model_dump(mode="json", exclude={"headers"}, exclude_none=True),
        **client,
        **({} if settings.window_s is None else {"window_s": settings.window_s}),
        **({} if fleet is None else {"serve": fleet.description.application()}),
        "services": dict.fromkeys(SERVICE_LABELS, promise),
    }
