"""Replay a trace against a server that somebody else runs; the results folder has no fleet in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler.fleet_tables import REPLICA_SCHEMA
from loadgen.crew import ReplayProgress
from loadgen.formats.detect import read_trace
from loadgen.prompts.source import PromptSettings, open_prompts
from loadgen.replay import replay
from loadgen.selection import Selection, select
from loadgen.self_test import measure_honest_rate, peak_per_s
from loadgen.shipped_workloads import find_workload, is_workload
from loadgen.target import Target, probe
from loadgen.trace import SERVICE_LABELS, Trace
from loadgen.workload import draw_trace, read_workload_model
from testbed.api_key import read_api_key
from testbed.conclude import conclude_run
from testbed.environment import describe_environment, describe_trace
from testbed.progress import TerminalProgress, replay_figures
from testbed.ray_cluster import ray_cluster
from testbed.replay_records import make_parts_folder, store_replay
from testbed.results import create_results_folder, write_config, write_environment, write_tables
from testbed.server_metrics import MetricsScraper, find_metrics_pages

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
    actors: int
    seed: int
    api_key_env: str | None
    self_test: bool = True
    chunk_offsets: bool = True
    metrics_urls: tuple[str, ...] | None = None  # None = the server's own /metrics, where it has one


def load_server(traffic: Path, settings: LoadSettings, out: Path, progress: TerminalProgress) -> Path:
    """Replay `traffic` (a trace, or a workload model's YAML) against a server; returns the results folder.

    Raises:
        InputError: the input is wrong, nobody answers at the url, or the folder is not new.
    """
    trace = _read_traffic(traffic, settings)
    target = Target(settings.url, settings.model, read_api_key(settings.api_key_env))
    probe(target)
    metrics_urls = find_metrics_pages(settings.metrics_urls, target.root)
    progress.stage("reading the prompts")
    prompts = open_prompts(settings.prompts, progress.update)
    folder = create_results_folder(out)
    write_config(folder, _config(traffic, settings))
    environment = describe_environment(kind="load", seed=settings.seed, trace=describe_trace(trace))
    problems: list[str] = []
    if settings.self_test:
        progress.stage("measuring this client against a null server")
        peak = peak_per_s(trace.arrival_s)
        honest = measure_honest_rate(settings.actors, needed_per_s=peak)
        warning = honest.warning(peak)
        problems += [warning] if warning else []
        progress.say(warning or honest.sentence())
        environment["client"] = {**honest.as_json(), "plan_peak_per_s": peak}
    write_environment(folder, environment)

    def show(state: ReplayProgress) -> None:
        progress.update(min(max(state.now_s, 0.0), trace.duration_s), trace.duration_s, replay_figures(state))

    def begin(start_epoch_s: float) -> None:
        scraper.restart(start_epoch_s)
        progress.stage("replaying")

    progress.stage("starting Ray")
    with MetricsScraper(metrics_urls, METRICS_INTERVAL_S) as scraper, ray_cluster(needed_cpus=1):
        progress.stage("preparing the requests")
        outcome = replay(
            trace,
            target,
            deadlines_s=dict.fromkeys(SERVICE_LABELS, settings.deadline_s),
            actors=settings.actors,
            out_dir=make_parts_folder(folder),
            prompts=prompts,
            rng=np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(1,))),
            on_start=begin,
            on_progress=show,
            keeps_chunk_offsets=settings.chunk_offsets,
        )
    store_replay(folder, outcome)
    if metrics_urls:
        write_tables(folder, replicas=REPLICA_SCHEMA.empty_table(), engine=scraper.table())
        problems += scraper.problems()
    conclude_run(
        folder,
        cut_short="interrupted" if outcome.is_interrupted else None,
        problems=[*problems, *outcome.lost_actors],
    )
    return folder


def _read_traffic(path: Path, settings: LoadSettings) -> Trace:
    """Read the trace or draw the model, and take the part of it that is selected."""
    if is_workload(path):
        rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(0,)))
        trace = draw_trace(read_workload_model(find_workload(path)), rng)
    else:
        trace = read_trace(path)
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(2,)))
    return select(trace, settings.selection, rng)


def _config(traffic: Path, settings: LoadSettings) -> dict[str, Any]:
    """What config.yaml says of such a run."""
    promise = {"deadline_s": settings.deadline_s, "ttft_s": settings.ttft_s, "tpot_s": settings.tpot_s}
    return {
        "name": f"load on {settings.model}",
        "seed": settings.seed,
        "workload": {
            "trace": str(traffic.absolute()),
            **settings.selection.model_dump(exclude_none=True),
            "prompts": settings.prompts.model_dump(mode="json", exclude_none=True),
        },
        "target": {"url": settings.url, "model": settings.model, "actors": settings.actors},
        "services": dict.fromkeys(SERVICE_LABELS, promise),
    }
