"""The middle of every run over HTTP: a trace is replayed while the server is watched, and what came of it put down."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loadgen.client_config import ClientConfig
from loadgen.failure_phase import ServerWord
from loadgen.plan import Prompts
from loadgen.replay import ReplayOutcome, replay
from loadgen.replay_progress import ReplayProgress
from loadgen.target import Target
from loadgen.trace import Trace
from testbed.progress import TerminalProgress, replay_figures
from testbed.replay_records import (
    correct_length,
    describe_early_end,
    describe_senders,
    make_parts_folder,
    senders_sentence,
    store_phases,
    store_plan,
    store_replay,
)
from testbed.replay_settings import ReplaySettings
from testbed.results import read_results, write_environment
from testbed.warm_up import find_warm_up_end


class Watcher(AbstractContextManager["Watcher"], Protocol):
    """Who watches a server while it is loaded, and has put down in the results folder at its end what it saw."""

    def start(self, start_epoch_s: float) -> None:
        """The run's instant 0 on this machine's wall clock."""

    def replicas_now(self) -> str | None:
        """How many replicas there are, for a person; None = there is no fleet that tells."""

    def target_at_start(self) -> int | None:
        """How many replicas were wanted when the run began; None = not known."""

    def server_word(self, run_tag: str) -> ServerWord:
        """What the server told of the requests of a run whose ids are '{run_tag}-{number}'."""

    def problems(self) -> list[str]:
        """What could not be seen, one sentence each."""


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """What is sent, where to and how.

    Attributes:
        deadlines_s: by service label.
        speed: by which the trace's own pauses were shortened.
        keeps_chunk_offsets: the records hold when each chunk came.
        asks_chunk_tokens: and how many tokens it carried, which the server is asked for; not every server takes that.
    """

    trace: Trace
    target: Target
    prompts: Prompts
    deadlines_s: Mapping[str, float]
    settings: ReplaySettings
    client: ClientConfig
    speed: float
    seed: int
    keeps_chunk_offsets: bool = True
    asks_chunk_tokens: bool = True

    @property
    def run_s(self) -> float:
        """How long requests are sent."""
        return self.settings.run_s(self.trace.duration_s)


def replay_watched(
    sending: Sending,
    folder: Path,
    environment: dict[str, Any],
    watcher: Watcher,
    stay: Callable[[ReplayOutcome], None],
    progress: TerminalProgress,
) -> tuple[str | None, list[str]]:
    """Replay into a results folder that has its config.yaml.

    Gives how the run was cut short (None = it was not), and what went wrong with the measurement.

    Needs an initialised Ray.

    Args:
        environment: what environment.json is to hold; what the run tells of itself is added.
        stay: waits, after the replay, for as long as the server is to be watched.
    """
    settings = sending.settings
    environment["trace"]["duration_s"] = sending.run_s
    environment["warm_up_until_s"] = settings.warm_up_s
    write_environment(folder, environment)
    with watcher:
        outcome = _send(sending, folder, environment, watcher, progress)
        store_replay(folder, outcome)
        problems = correct_length(environment, sending.trace, outcome, settings)
        problems += describe_senders(environment, outcome)
        cut_short = describe_early_end(environment, outcome)
        if settings.spread:
            progress.say(senders_sentence(outcome.senders))
        stay(outcome)
    store_phases(folder, outcome, sending.deadlines_s, watcher.server_word(outcome.run_tag))
    problems += watcher.problems()
    if (target := watcher.target_at_start()) is not None:
        environment["target_replicas_at_start"] = target
    if settings.warm_up_kv:
        environment["warm_up_until_s"], said = find_warm_up_end(read_results(folder).engine, sending.run_s)
        problems += [said] if said else []
    write_environment(folder, environment)
    return cut_short, [*outcome.lost_actors, *problems]


def _send(
    sending: Sending, folder: Path, environment: dict[str, Any], watcher: Watcher, progress: TerminalProgress
) -> ReplayOutcome:
    """The replay itself, shown while it goes on."""
    settings, trace, run_s = sending.settings, sending.trace, sending.run_s

    def plan(body_bytes: NDArray[np.int64]) -> None:
        environment["plan"] = store_plan(folder, trace, body_bytes)
        write_environment(folder, environment)

    def begin(start_epoch_s: float) -> None:
        watcher.start(start_epoch_s)
        progress.stage("replaying")

    def show(state: ReplayProgress) -> None:
        progress.show(min(max(state.now_s, 0.0), run_s), run_s, replay_figures(state, watcher.replicas_now()))

    progress.stage("preparing the requests")
    return replay(
        trace,
        sending.target,
        deadlines_s=sending.deadlines_s,
        actors=settings.actors,
        out_dir=make_parts_folder(folder),
        prompts=sending.prompts,
        rng=np.random.default_rng(np.random.SeedSequence(sending.seed, spawn_key=(1,))),
        on_start=begin,
        on_progress=show,
        on_planned=plan,
        extra_body=settings.body_fields(),
        keeps_chunk_offsets=sending.keeps_chunk_offsets,
        asks_chunk_tokens=sending.asks_chunk_tokens,
        pacing=settings.pacing(sending.speed, trace.duration_s),
        client=sending.client,
        spreads=settings.spread,
    )
