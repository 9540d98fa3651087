"""Replay a trace against a server that somebody else runs; the results folder has no fleet in it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.fleet_tables import REPLICA_SCHEMA
from loadgen.crew import ReplayProgress
from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.plan import Prompts
from loadgen.prompts.source import PromptSettings, open_prompts
from loadgen.ramp import Ramp, with_ramp
from loadgen.replay import replay
from loadgen.selection import Selection, select
from loadgen.self_test import measure_honest_rate, peak_per_s
from loadgen.shipped_workloads import find_workload, is_workload
from loadgen.target import Target, probe
from loadgen.trace import SERVICE_LABELS, Trace
from loadgen.workload import draw_trace, read_workload_model
from testbed.api_key import read_api_key
from testbed.client_settings import ClientSettings, client_config_of
from testbed.conclude import conclude_run
from testbed.environment import describe_environment, describe_trace
from testbed.progress import TerminalProgress, replay_figures
from testbed.ray_cluster import ray_cluster
from testbed.replay_records import correct_length, make_parts_folder, store_phases, store_plan, store_replay
from testbed.replay_settings import ReplaySettings
from testbed.results import Results, create_results_folder, write_config, write_environment, write_tables
from testbed.server_metrics import MetricsScraper, find_metrics_pages
from testbed.warm_up import find_warm_up_end

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
    window_s: float | None = None  # of the figures over time; None = as the run's length suggests
    chunk_offsets: bool = True
    metrics_urls: tuple[str, ...] | None = None  # None = the server's own /metrics, where it has one


@dataclass(frozen=True, slots=True)
class Ready:
    """What stands ready before anything is sent: the server, the pages to scrape, the texts."""

    target: Target
    metrics_urls: tuple[str, ...]
    prompts: Prompts


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
    write_config(folder, describe_config(traffic, settings))
    # How fast users send is up to the server.
    most_per_s = peak_per_s(trace.arrival_s) if settings.replay.users is None else 0.0
    client = check_client(settings, most_per_s, progress)
    progress.stage("starting Ray")
    with ray_cluster(needed_cpus=1):
        send_load(trace, ready, settings, folder, client, progress)
    return folder


def make_ready(settings: LoadSettings, progress: TerminalProgress) -> Ready:
    """Find the server and its metrics, and read the prompts.

    Raises:
        InputError: nobody answers, a page or a text is missing, or a warm-up needs metrics that there are not.
    """
    target = settings.replay.target(settings.url, settings.model, read_api_key(settings.api_key_env))
    probe(target)
    metrics_urls = find_metrics_pages(settings.metrics_urls, target.root)
    if settings.replay.warm_up_kv and not metrics_urls:
        raise InputError(
            f"{target.root}: has no /metrics that tell of KV caches, by which the warm-up is to end; give "
            "--metrics-url, or --warm-up-s in place of --warm-up-kv"
        )
    progress.stage("reading the prompts")
    return Ready(target, metrics_urls, open_prompts(settings.prompts, progress.update))


def check_client(settings: LoadSettings, most_per_s: float, progress: TerminalProgress) -> ClientCheck:
    """Measure what this client can send in time, and hold the most that the plan asks for against it."""
    if not settings.self_test:
        return ClientCheck({}, ())
    progress.stage("measuring this client against a null server")
    honest = measure_honest_rate(settings.replay.actors, needed_per_s=most_per_s)
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
    run_s = settings.replay.run_s(trace.duration_s)
    deadlines_s = dict.fromkeys(SERVICE_LABELS, settings.deadline_s)
    environment = (
        describe_environment(kind="load", seed=settings.seed, trace=describe_trace(trace)) | client.environment
    )
    environment["trace"]["duration_s"] = run_s
    environment["warm_up_until_s"] = settings.replay.warm_up_s
    write_environment(folder, environment)

    def plan(body_bytes: NDArray[np.int64]) -> None:
        environment["plan"] = store_plan(folder, trace, body_bytes)
        write_environment(folder, environment)

    def show(state: ReplayProgress) -> None:
        progress.show(min(max(state.now_s, 0.0), run_s), run_s, replay_figures(state))

    def begin(start_epoch_s: float) -> None:
        scraper.restart(start_epoch_s)
        progress.stage("replaying")

    progress.stage("preparing the requests")
    with MetricsScraper(ready.metrics_urls, METRICS_INTERVAL_S) as scraper:
        outcome = replay(
            trace,
            ready.target,
            deadlines_s=deadlines_s,
            actors=settings.replay.actors,
            out_dir=make_parts_folder(folder),
            prompts=ready.prompts,
            rng=np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(1,))),
            on_start=begin,
            on_progress=show,
            on_planned=plan,
            extra_body=settings.replay.body_fields(),
            keeps_chunk_offsets=settings.chunk_offsets,
            pacing=settings.replay.pacing(settings.selection.speed, trace.duration_s),
            client=client_config_of(settings.client),
        )
    store_replay(folder, outcome)
    store_phases(folder, outcome, deadlines_s)
    problems = [*client.problems, *correct_length(environment, outcome, settings.replay)]
    if ready.metrics_urls:
        write_tables(folder, replicas=REPLICA_SCHEMA.empty_table(), engine=scraper.table())
        problems += scraper.problems()
    if settings.replay.warm_up_kv:
        environment["warm_up_until_s"], said = find_warm_up_end(scraper.table().to_pandas(), run_s)
        problems += [said] if said else []
    write_environment(folder, environment)
    return conclude_run(
        folder,
        cut_short="interrupted" if outcome.is_interrupted else None,
        problems=[*problems, *outcome.lost_actors],
    )


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


def describe_config(traffic: Path, settings: LoadSettings) -> dict[str, Any]:
    """What config.yaml says of such a run."""
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
        "services": dict.fromkeys(SERVICE_LABELS, promise),
    }
