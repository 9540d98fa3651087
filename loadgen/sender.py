"""Sends a schedule from a thread of its own, with its records on disk and its progress in sight."""

import asyncio
import gc
import resource
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop

from loadgen.client import StreamClient
from loadgen.dispatcher import Dispatcher
from loadgen.errors import InputError
from loadgen.plan import PlannedRequest
from loadgen.records import RecordWriter, RequestRecord, Status
from loadgen.retries import AttemptWriter, Retrying, attempts_path
from loadgen.run_clock import RunClock
from loadgen.schedule import OpenLoop, Schedule
from loadgen.sent_log import SentLog, sent_log_path
from loadgen.standstill import NO_STANDSTILL, Standstill
from loadgen.target import Target

_WARM_UP_TIMEOUT_S = 5.0
_PUBLISH_INTERVAL_S = 0.25
# Twice a second, so that a record is on the disk within a second.
_SYNC_INTERVAL_S = 0.5
_LATEST = 500


@dataclass(frozen=True, slots=True)
class SenderProgress:
    """Where one sender stands.

    Attributes:
        failed: requests that did not end ok, by cause.
        latest_ttft_s: of the latest requests that ended ok.
        latest_lateness_s: of the latest requests that were sent and have ended.
        cpu_s: processor time that its process has used since the run's start was fixed.
        standstill: of its event loop, since the run's start was fixed.
        as_of_s: when this was put down, in seconds from the run's start: it moves for as long as the sender does.
    """

    sent: int = 0
    finished: int = 0
    ok: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    latest_ttft_s: tuple[float, ...] = ()
    latest_lateness_s: tuple[float, ...] = ()
    cpu_s: float = 0.0
    standstill: Standstill = NO_STANDSTILL
    as_of_s: float | None = None


class Sender:
    """Sends a schedule from the thread that calls `run`; other methods may be called from other threads meanwhile."""

    def __init__(self, target: Target, part: Path, *, keeps_chunk_offsets: bool = True) -> None:
        """Records of what is sent to `target` go to the new file `part`."""
        self._schedule: Schedule = OpenLoop(())
        self._target = target
        self._part = part
        self._keeps_chunk_offsets = keeps_chunk_offsets
        self._dispatcher: Dispatcher | None = None
        self._is_stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sent = 0
        self._failed: Counter[str] = Counter()
        self._ok = 0
        self._finished = 0
        self._ttft_s: deque[float] = deque(maxlen=_LATEST)
        self._lateness_s: deque[float] = deque(maxlen=_LATEST)
        self._cpu_before_s = 0.0
        self._standstill = NO_STANDSTILL
        self._progress = SenderProgress()
        self._ready = threading.Event()
        self._disk_error: OSError | None = None

    def load(self, schedule: Schedule) -> None:
        """Take what is to be sent, and when."""
        self._schedule = schedule

    def run(self) -> SenderProgress:
        """Connect, wait for `start`, send everything, and return once each request has its record."""
        _allow_open_files()
        gc.collect()
        gc.freeze()  # the plan lives to the end: no garbage collection need look at it while requests are sent
        try:
            with RecordWriter(self._part) as writer, self._open_attempts() as attempts:
                with self._synced(writer), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    log = self._open_log()
                    runner.run(self._send_all(writer, attempts, log))
                if self._disk_error is not None:
                    raise self._end_without_disk(self._disk_error)
                log.remove()  # each request has its record, and the disk has it
        finally:
            gc.unfreeze()
            self._ready.set()
        return self._progress

    def wait_ready(self) -> None:
        """Return once the sender is connected and waits for `start`, or has failed."""
        self._ready.wait()

    def start(self, start_epoch_s: float) -> None:
        """Fix the run's start on the machine's wall clock."""
        self._clock = RunClock.starting_at(start_epoch_s)
        assert self._loop is not None, "wait_ready() has returned"
        self._loop.call_soon_threadsafe(self._started.set_result, self._clock)

    def now_s(self) -> float:
        """Seconds since the run's start, once it is fixed."""
        return self._clock.now_s()

    def progress(self) -> SenderProgress:
        """Where the sender stood a moment ago."""
        return self._progress

    def stop(self) -> None:
        """End the run: what is on its way or not yet sent gets a record CANCELLED, RUN_ENDED."""
        self._is_stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._stop)

    async def _send_all(self, writer: RecordWriter, attempts: AttemptWriter | None, log: SentLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[RunClock] = self._loop.create_future()
        async with StreamClient(self._target, keeps_chunk_offsets=self._keeps_chunk_offsets) as client:
            await _warm_up(self._target)
            self._ready.set()
            clock = await self._started
            self._cpu_before_s = time.process_time()
            self._beat_due_s = clock.now_s()
            self._publish()
            retrying = self._schedule if isinstance(self._schedule, Retrying) else None

            def on_sent(request: PlannedRequest, sent_s: float) -> None:
                try:
                    log.note(request.request_id, request.scheduled_s, sent_s)
                except OSError as error:
                    raise self._end_without_disk(error) from error
                self._sent += retrying is None or retrying.took_first

            def on_record(record: RequestRecord) -> None:
                last: RequestRecord | None = record
                try:
                    if retrying is not None:
                        attempt, last = retrying.settle(record)
                        if attempt is not None and attempts is not None:
                            attempts.append(attempt)
                    if last is not None:
                        writer.append(last)
                        self._count(last)
                except OSError as error:
                    raise self._end_without_disk(error) from error

            self._dispatcher = Dispatcher(client, self._schedule, clock, on_sent, on_record)
            if self._is_stopped:
                self._dispatcher.stop()
            await self._dispatcher.run()
            self._next_publish.cancel()  # from here on, who takes long to end has stopped moving
        self._publish(again=False)

    def _open_log(self) -> SentLog:
        try:
            return SentLog(sent_log_path(self._part))
        except OSError as error:
            raise self._end_without_disk(error) from error

    def _open_attempts(self) -> AbstractContextManager[AttemptWriter | None]:
        """The file of attempts; None where each request has one."""
        return AttemptWriter(attempts_path(self._part)) if isinstance(self._schedule, Retrying) else nullcontext()

    @contextmanager
    def _synced(self, writer: RecordWriter) -> Iterator[None]:
        """Have the disk itself have the records twice a second, and in the end; the event loop does not wait for it."""
        over = threading.Event()

        def sync() -> None:
            is_over = False
            while not is_over:
                is_over = over.wait(_SYNC_INTERVAL_S)
                try:
                    writer.sync()
                except OSError as error:
                    self._disk_error = error
                    self.stop()
                    return

        thread = threading.Thread(target=sync, name="record sync", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _end_without_disk(self, error: OSError) -> InputError:
        """End the run, as nobody is to be loaded by what is not recorded; gives what is to be said of it."""
        self._stop()
        return InputError(f"{self._part}: cannot be written ({error.strerror}), so that the run was ended; make room")

    def _stop(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop()

    def _count(self, record: RequestRecord) -> None:
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
        """Put a snapshot where other threads read it, and see by how late that is whether the loop stood still."""
        now_s = self._clock.now_s()
        self._standstill = self._standstill.after_beat(self._beat_due_s, now_s)
        self._progress = SenderProgress(
            sent=self._sent,
            finished=self._finished,
            ok=self._ok,
            failed=dict(self._failed),
            latest_ttft_s=tuple(self._ttft_s),
            latest_lateness_s=tuple(self._lateness_s),
            cpu_s=time.process_time() - self._cpu_before_s,
            standstill=self._standstill,
            as_of_s=now_s,
        )
        if again:
            self._beat_due_s = now_s + _PUBLISH_INTERVAL_S
            self._next_publish = asyncio.get_running_loop().call_later(_PUBLISH_INTERVAL_S, self._publish)


async def _warm_up(target: Target) -> None:
    """Look the host up on the server's side too, and load what the first request would otherwise wait for."""
    timeout = aiohttp.ClientTimeout(total=_WARM_UP_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=target.headers) as session,
            session.get(f"{target.root}/v1/models") as response,
        ):
            await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass  # requests that fail the same way are recorded as failed


def _allow_open_files() -> None:
    """Take all the open files that the system grants: under overload each request in flight holds a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
