"""The actors of a replay: each sends its shard of the plan from a process of its own, all from one clock start."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from loadgen.body_file import keep_bodies_in_file
from loadgen.client_config import ClientConfig
from loadgen.pacing import ByArrival, Pacing, make_schedule
from loadgen.plan import Prompts, RequestForm, plan_requests
from loadgen.retries import Retrying
from loadgen.schedule import Schedule
from loadgen.sender import Sender, SenderProgress
from loadgen.target import Target
from loadgen.trace import Trace

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
        offered: of these, so far: due by the trace, or (in another mode than open loop) sent.
        sent, finished, ok: so far.
        failed: requests that did not end ok, by cause.
        ttft_p50_s, ttft_p99_s: over the latest requests that ended ok; None = none yet.
        lateness_p99_s: by which one of the latest requests was sent after its instant; None = none yet.
    """

    now_s: float
    planned: int
    offered: int
    sent: int
    finished: int
    ok: int
    failed: Mapping[str, int]
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    lateness_p99_s: float | None


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

    def prepare(
        self, trace: Trace, shard: Shard, form: RequestForm, prompts: Prompts, pacing: Pacing, client: ClientConfig
    ) -> list[int]:
        """Make the requests of a shard of the trace; gives the bytes of each body."""
        requests = plan_requests(trace, shard.rows.tolist(), form, prompts)
        plan = keep_bodies_in_file(requests, self._folder)
        schedule: Schedule = make_schedule(pacing, plan, trace, shard.rows, shard.index, shard.count)
        if client.max_attempts > 1:
            schedule = Retrying(schedule, client, form.seed)
        self._sender.load(schedule)
        return [len(request.body) for request in plan]

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


class Crew:
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
        self,
        trace: Trace,
        rows: list[NDArray[np.int64]],
        form: RequestForm,
        prompts: Prompts,
        pacing: Pacing,
        client: ClientConfig,
    ) -> NDArray[np.int64]:
        """Have each make its requests (`rows` of the trace, by actor); gives the bytes of each request's body."""
        self._planned = len(trace)
        self._arrival_s = trace.arrival_s if isinstance(pacing, ByArrival) else None
        shared_trace, shared_prompts = ray.put(trace), ray.put(prompts)
        prepared = [
            actor.prepare.remote(
                shared_trace, Shard(rows[index], index, len(rows)), form, shared_prompts, pacing, client
            )
            for index, actor in enumerate(self._actors)
        ]
        body_bytes = np.zeros(len(trace), dtype=np.int64)
        with _errors_of_actors():
            for part, found in zip(rows, ray.get(prepared), strict=True):
                body_bytes[part] = found
        return body_bytes

    def start(self) -> float:
        """Wait until all are connected, and fix the start; gives it by the wall clock."""
        with _errors_of_actors():
            self._runs = {actor.run.remote(): index for index, actor in enumerate(self._actors)}
            ray.get([actor.wait_ready.remote() for actor in self._actors])
            ray.get(ray.wait(list(self._runs), num_returns=len(self._runs), timeout=0)[0])  # one that failed says why
            start_epoch_s = time.time() + _START_LEAD_S
            ray.get([actor.start.remote(start_epoch_s) for actor in self._actors])
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
        sent = sum(progress.sent for progress in self._progress)
        offered = sent if self._arrival_s is None else int(np.searchsorted(self._arrival_s, now_s, side="right"))
        return ReplayProgress(
            now_s=now_s,
            planned=self._planned,
            offered=offered,
            sent=sent,
            finished=sum(progress.finished for progress in self._progress),
            ok=sum(progress.ok for progress in self._progress),
            failed=dict(failed),
            ttft_p50_s=float(np.median(ttft_s)) if ttft_s else None,
            ttft_p99_s=float(np.percentile(ttft_s, 99)) if ttft_s else None,
            lateness_p99_s=float(np.percentile(lateness_s, 99)) if lateness_s else None,
        )


@contextmanager
def _errors_of_actors() -> Iterator[None]:
    """What an actor raised, as it raised it."""
    try:
        yield
    except RayTaskError as error:
        raise error.cause from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
