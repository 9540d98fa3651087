"""Replay: Ray actors that send a trace, each with its shard of it, all from one clock start."""

import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from loadgen.body_file import keep_bodies_in_file
from loadgen.errors import InputError
from loadgen.merge_records import merge_records
from loadgen.pacing import BY_ARRIVAL, ByUser, Pacing, make_schedule, shards
from loadgen.plan import Prompts, RequestForm, plan_requests, planned_columns
from loadgen.records import read_partial_records
from loadgen.sender import Sender, SenderProgress
from loadgen.sent_log import read_sent_log, sent_log_path
from loadgen.target import Target
from loadgen.trace import SERVICE_LABELS, Trace

_POLL_INTERVAL_S = 0.5
# Between fixing the start and the start itself: every actor must have heard of it by then.
_START_LEAD_S = 1.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Where a replay stands, over all actors.

    Attributes:
        now_s: seconds since the run's start.
        planned: requests of the trace.
        sent, finished, ok: of these, so far.
        failed: requests that did not end ok, by cause.
        ttft_p50_s: median over the latest requests that ended ok; None = none yet.
        lateness_max_s: the most by which one of the latest requests was sent after its instant; None = none yet.
    """

    now_s: float
    planned: int
    sent: int
    finished: int
    ok: int
    failed: Mapping[str, int]
    ttft_p50_s: float | None
    lateness_max_s: float | None


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """What a replay leaves.

    Attributes:
        table: one record per request of the trace, with `RECORD_SCHEMA`; in a closed loop of those a user came to.
        start_epoch_s: the run's start (instant 0 of the records) on the machine's wall clock.
        is_interrupted: it was ended by KeyboardInterrupt.
        lost_actors: why, for each actor that ended before its work was done.
        parts: the files that the actors wrote; the table holds all that is in them.
    """

    table: pa.Table
    start_epoch_s: float
    is_interrupted: bool
    lost_actors: tuple[str, ...]
    parts: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The rows of the trace that one of `count` actors sends."""

    rows: NDArray[np.int64]
    index: int
    count: int


class ReplayActor:
    """A sender in a process of its own; it makes its requests itself, so that planning is shared like sending.

    It has no coroutine of its own: with one, Ray would run all of it inside Ray's event loop.
    """

    def __init__(self, target: Target, part: Path, *, keeps_chunk_offsets: bool) -> None:
        self._sender = Sender(target, part, keeps_chunk_offsets=keeps_chunk_offsets)
        self._folder = part.parent

    def prepare(self, trace: Trace, shard: Shard, form: RequestForm, prompts: Prompts, pacing: Pacing) -> None:
        """Make the requests of a shard of the trace."""
        requests = plan_requests(trace, shard.rows.tolist(), form, prompts)
        plan = keep_bodies_in_file(requests, self._folder)
        self._sender.load(make_schedule(pacing, plan, trace, shard.rows, shard.index, shard.count))

    def run(self) -> SenderProgress:
        """Send them; see `Sender`, as for what follows."""
        return self._sender.run()

    def wait_ready(self) -> None:
        self._sender.wait_ready()

    def start(self, start_epoch_s: float) -> None:
        self._sender.start(start_epoch_s)

    def progress(self) -> SenderProgress:
        return self._sender.progress()

    def stop(self) -> None:
        self._sender.stop()


def replay(
    trace: Trace,
    target: Target,
    *,
    deadlines_s: Mapping[str, float],
    actors: int,
    out_dir: Path,
    prompts: Prompts,
    rng: np.random.Generator,
    on_start: Callable[[float], None] | None = None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    keeps_chunk_offsets: bool = True,
    pacing: Pacing = BY_ARRIVAL,
) -> ReplayOutcome:
    """Send each request of `trace` to `target` when it is due, and give one record for each.

    Needs an initialised Ray; the actors run on this machine and reserve no
    CPU, so that they never wait behind replicas. KeyboardInterrupt ends the run early: what has not ended by then is
    CANCELLED, RUN_ENDED. An actor that dies leaves its requests without a record as CANCELLED, CLIENT_LOST.

    Args:
        deadlines_s: by service label; from a request's instant.
        out_dir: each actor appends its records to a file there as they come.
        on_start: called with the wall-clock instant of the run's start, shortly before it.
        on_progress: called about twice a second.
        extra_body: added to the body of every request; None as a value leaves a key out.
        keeps_chunk_offsets: the records hold when each chunk came: 4 bytes a chunk.
        pacing: when a request is due.

    Raises:
        InputError: the trace is empty, a service has no deadline, or `out_dir` holds records already.
    """
    _check(trace, deadlines_s, actors, out_dir)
    # The tag is not drawn from `rng`: two replays with one seed at the same time must not share request ids.
    form = RequestForm(
        target.model, dict(deadlines_s), int(rng.integers(2**63)), secrets.token_hex(4), dict(extra_body or {})
    )
    rows = shards(pacing, trace, actors)
    parts = _part_paths(out_dir, len(rows))
    crew = _Crew(target, parts, keeps_chunk_offsets=keeps_chunk_offsets)
    crew.prepare(trace, rows, form, prompts, pacing)
    try:
        start_epoch_s = crew.start()
        if on_start is not None:
            on_start(start_epoch_s)
        is_interrupted = crew.watch(start_epoch_s, on_progress)
    finally:
        crew.dismiss()
    written = [part for part in parts if part.exists()]
    logs = [log for part in written if (log := sent_log_path(part)).exists()]  # of actors that did not end in order
    records = [read_partial_records(part) for part in written]
    sent_s = {request_id: sent_s for log in logs for request_id, sent_s in read_sent_log(log).items()}
    planned = planned_columns(trace, target.model)
    if isinstance(pacing, ByUser):
        known = [*sent_s, *(request_id for part in records for request_id in part["request_id"].to_pylist())]
        planned = planned.filter(pa.array(np.isin(planned["request_id"].to_numpy(), known)))
    table = merge_records(records, planned, ended_s=time.time() - start_epoch_s, sent_s=sent_s)
    return ReplayOutcome(table, start_epoch_s, is_interrupted, tuple(crew.lost), (*written, *logs))


class _Crew:
    """The actors of one replay, as their driver sees them."""

    def __init__(self, target: Target, parts: tuple[Path, ...], *, keeps_chunk_offsets: bool) -> None:
        self.lost: list[str] = []
        self._progress = [SenderProgress() for _ in parts]
        self._runs: dict[Any, int] = {}
        make = ray.remote(ReplayActor).options(
            num_cpus=0,
            max_concurrency=4,  # `run` in one thread, questions in the others
            # The records go to this machine's disk.
            scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
        )
        self._actors = [make.remote(target, part.resolve(), keeps_chunk_offsets=keeps_chunk_offsets) for part in parts]

    def prepare(
        self, trace: Trace, rows: list[NDArray[np.int64]], form: RequestForm, prompts: Prompts, pacing: Pacing
    ) -> None:
        """Have each make its requests; `rows` of the trace, by actor."""
        self._planned = len(trace)
        shared_trace, shared_prompts = ray.put(trace), ray.put(prompts)
        self._prepared = [
            actor.prepare.remote(shared_trace, Shard(rows[index], index, len(rows)), form, shared_prompts, pacing)
            for index, actor in enumerate(self._actors)
        ]

    def start(self) -> float:
        """Wait until all are prepared and connected, and fix the start; gives it by the wall clock."""
        try:
            ray.get(self._prepared)
            self._runs = {actor.run.remote(): index for index, actor in enumerate(self._actors)}
            ray.get([actor.wait_ready.remote() for actor in self._actors])
            ray.get(ray.wait(list(self._runs), num_returns=len(self._runs), timeout=0)[0])  # one that failed says why
            start_epoch_s = time.time() + _START_LEAD_S
            ray.get([actor.start.remote(start_epoch_s) for actor in self._actors])
        except RayTaskError as error:
            raise error.cause from error
        return start_epoch_s

    def watch(self, start_epoch_s: float, on_progress: Callable[[ReplayProgress], None] | None) -> bool:
        """Follow the actors to the end; says whether the run was interrupted."""
        try:
            while self._runs:
                self._poll(_POLL_INTERVAL_S)
                if on_progress is not None:
                    on_progress(self._summary(time.time() - start_epoch_s))
        except KeyboardInterrupt:
            for index in self._runs.values():
                self._actors[index].stop.remote()
            self._poll(_STOP_TIMEOUT_S)
            self.lost += [f"actor {index}: did not end within {_STOP_TIMEOUT_S:g} s" for index in self._runs.values()]
            return True
        return False

    def dismiss(self) -> None:
        """End the actors' processes."""
        for actor in self._actors:
            ray.kill(actor)

    def _poll(self, timeout_s: float) -> None:
        """Take the results of those that have finished within `timeout_s`, and ask the others how far they are."""
        over, _ = ray.wait(list(self._runs), num_returns=len(self._runs), timeout=timeout_s)
        for run in over:
            index = self._runs.pop(run)
            try:
                self._progress[index] = ray.get(run)
            except RayError as error:
                self.lost.append(f"actor {index}: {_first_line(error)}")
        asked = {self._actors[index].progress.remote(): index for index in self._runs.values()}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_POLL_INTERVAL_S) if asked else ([], [])
        for answer in answered:
            with suppress(RayError):  # its run is about to say the same
                self._progress[asked[answer]] = ray.get(answer)

    def _summary(self, now_s: float) -> ReplayProgress:
        failed: Counter[str] = Counter()
        for progress in self._progress:
            failed.update(progress.failed)
        ttft_s = [value for progress in self._progress for value in progress.latest_ttft_s]
        lateness_s = [value for progress in self._progress for value in progress.latest_lateness_s]
        return ReplayProgress(
            now_s=now_s,
            planned=self._planned,
            sent=sum(progress.sent for progress in self._progress),
            finished=sum(progress.finished for progress in self._progress),
            ok=sum(progress.ok for progress in self._progress),
            failed=dict(failed),
            ttft_p50_s=statistics.median(ttft_s) if ttft_s else None,
            lateness_max_s=max(lateness_s, default=None),
        )


def _check(trace: Trace, deadlines_s: Mapping[str, float], actors: int, out_dir: Path) -> None:
    if not len(trace):
        raise InputError(f"trace '{trace.name}': holds no request, so there is nothing to replay; widen its window")
    if actors < 1:
        raise InputError(f"replay: actors is {actors}, want an integer >= 1")
    missing = [label for label in SERVICE_LABELS if label not in deadlines_s]
    if missing:
        raise InputError(f"replay: service {', '.join(missing)} has no deadline; give one for each service")
    if not out_dir.is_dir():
        raise InputError(f"{out_dir}: is not a folder; make it first")
    held = sorted(out_dir.glob("records.part-*.jsonl"))
    if held:
        raise InputError(f"{held[0]}: exists, so the folder holds a run already; choose another folder")


def _part_paths(out_dir: Path, actors: int) -> tuple[Path, ...]:
    return tuple(out_dir / f"records.part-{index:03d}.jsonl" for index in range(actors))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
