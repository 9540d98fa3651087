"""Sends planned requests at their instants from one event loop; never waits for an earlier request."""

import asyncio
import gc
import math
import resource
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop

from loadgen.client import RunClock, open_session, send_request
from loadgen.plan import PlannedRequest
from loadgen.records import Cause, RecordWriter, RequestRecord, Status
from loadgen.target import Target

_WARM_UP_TIMEOUT_S = 5.0
_PUBLISH_INTERVAL_S = 0.25
_LATEST = 500


@dataclass(frozen=True, slots=True)
class SenderProgress:
    """Where one sender stands.

    Attributes:
        failed: requests that did not end ok, by cause.
        latest_ttft_s: of the latest requests that ended ok.
        latest_lateness_s: of the latest requests that were sent and have ended.
    """

    sent: int = 0
    finished: int = 0
    ok: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    latest_ttft_s: tuple[float, ...] = ()
    latest_lateness_s: tuple[float, ...] = ()


class Sender:
    """Sends a plan from the thread that calls `run`; all other methods may be called from other threads meanwhile.

    One timer stands for the next request that is due; its callback starts a task for each request that is due and sets
    the timer again. Instants are absolute, so that lateness does not add up.
    """

    def __init__(self, target: Target, part: Path) -> None:
        """Records of what is sent to `target` go to the new file `part`."""
        self._plan: Sequence[PlannedRequest] = ()
        self._target = target
        self._part = part
        self._next = 0
        self._sent = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._failed: Counter[str] = Counter()
        self._ok = 0
        self._finished = 0
        self._ttft_s: deque[float] = deque(maxlen=_LATEST)
        self._lateness_s: deque[float] = deque(maxlen=_LATEST)
        self._progress = SenderProgress()
        self._ready = threading.Event()
        self._timer: asyncio.Handle | None = None

    def load(self, plan: Sequence[PlannedRequest]) -> None:
        """Take the requests to send, in order of `scheduled_s`."""
        self._plan = plan

    def run(self) -> SenderProgress:
        """Connect, wait for `start`, send everything, and return once each request has its record."""
        _allow_open_files()
        gc.collect()
        gc.freeze()  # the plan lives to the end: no garbage collection need look at it while requests are sent
        try:
            with RecordWriter(self._part) as writer, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self._writer = writer
                runner.run(self._send_all())
        finally:
            self._ready.set()
        return self._progress

    def wait_ready(self) -> None:
        """Return once the sender is connected and waits for `start`, or has failed."""
        self._ready.wait()

    def start(self, start_epoch_s: float) -> None:
        """Fix the run's start on the machine's wall clock."""
        self._loop.call_soon_threadsafe(self._begin, RunClock.starting_at(start_epoch_s))

    def progress(self) -> SenderProgress:
        """Where the sender stood a moment ago."""
        return self._progress

    def stop(self) -> None:
        """End the run: what is on its way or not yet sent gets a record CANCELLED, RUN_ENDED."""
        self._loop.call_soon_threadsafe(self._end)

    async def _send_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._all_sent = asyncio.Event()
        async with open_session(self._target) as self._session:
            await _warm_up(self._session)
            self._ready.set()
            await self._all_sent.wait()
            while self._tasks:
                await asyncio.wait(self._tasks)
        self._publish(again=False)
        if self._errors:
            raise self._errors[0]

    def _begin(self, clock: RunClock) -> None:
        self._clock = clock
        self._publish()
        self._send_due()

    def _send_due(self) -> None:
        now_s = self._clock.now_s()
        while self._next < len(self._plan) and self._plan[self._next].scheduled_s <= now_s:
            task = self._loop.create_task(self._send(self._plan[self._next]))
            self._tasks.add(task)
            task.add_done_callback(self._forget)
            self._next += 1
            self._sent += 1
        if self._next == len(self._plan):
            self._all_sent.set()
            return
        due_s = self._clock.start_monotonic_s + self._plan[self._next].scheduled_s
        # uvloop's timers go by whole milliseconds of the monotonic clock: round so that none fires early.
        wait_ms = math.ceil(due_s * 1e3) - math.floor(time.monotonic() * 1e3)
        self._timer = self._loop.call_later(wait_ms / 1e3, self._send_due)

    async def _send(self, request: PlannedRequest) -> None:
        self._keep(await send_request(self._session, request, self._clock))

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    def _keep(self, record: RequestRecord) -> None:
        self._writer.append(record)
        self._finished += 1
        if record.sent_s is not None:
            self._lateness_s.append(record.sent_s - record.scheduled_s)
        if record.status is Status.OK:
            self._ok += 1
            if record.first_token_s is not None:
                self._ttft_s.append(record.first_token_s - record.scheduled_s)
        elif record.cause is not None:
            self._failed[record.cause.value] += 1

    def _publish(self, again: bool = True) -> None:
        """Put a snapshot where other threads read it."""
        self._progress = SenderProgress(
            sent=self._sent,
            finished=self._finished,
            ok=self._ok,
            failed=dict(self._failed),
            latest_ttft_s=tuple(self._ttft_s),
            latest_lateness_s=tuple(self._lateness_s),
        )
        if again:
            self._loop.call_later(_PUBLISH_INTERVAL_S, self._publish)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for request in self._plan[self._next :]:
            self._keep(_unsent_record(request, self._clock.now_s()))
        self._next = len(self._plan)
        # A task that is cancelled before its first step leaves no record: let those that were just made take it.
        self._loop.call_soon(self._cancel_tasks)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._all_sent.set()


async def _warm_up(session: aiohttp.ClientSession) -> None:
    """Look the host up and load what the first request would otherwise wait for."""
    try:
        async with asyncio.timeout(_WARM_UP_TIMEOUT_S), session.get("/v1/models") as response:
            await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass  # requests that fail the same way are recorded as failed


def _allow_open_files() -> None:
    """Take all the open files that the system grants: under overload each request in flight holds a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _unsent_record(request: PlannedRequest, now_s: float) -> RequestRecord:
    return RequestRecord(
        request_id=request.request_id,
        service=request.service,
        model=request.model,
        prompt_tokens=request.prompt_tokens,
        output_tokens=0,
        scheduled_s=request.scheduled_s,
        sent_s=None,
        first_token_s=None,
        finished_s=max(now_s, request.scheduled_s),
        status=Status.CANCELLED,
        replica_id=None,
        cause=Cause.RUN_ENDED,
        error="not sent: the run was ended before its instant",
        attempts=0,
    )
