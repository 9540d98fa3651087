"""Sends what a schedule says when it says so, from one event loop, and reads each answer once it has ended."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial

from loadgen.client import Exchange, StreamClient
from loadgen.plan import PlannedRequest
from loadgen.precise_timer import Timer, open_timer
from loadgen.records import Cause, RequestRecord, Status
from loadgen.run_clock import RunClock
from loadgen.schedule import Schedule

# Reading an answer takes about 0.1 ms. It is done a little later and few at a time, so that no request that is due
# waits for it; records are on disk within a second all the same.
_READING_DELAY_S = 0.05
_READ_AT_ONCE = 4
_BACKLOG_AT_ONCE_FRACTION = 1 / 16  # where more end than are read, lateness is no longer what matters, but memory


class Dispatcher:
    """One run of a schedule: a timer stands for the request that is due next, a callback sends it.

    Instants are absolute, so that lateness does not add up. There is no task per request.
    """

    def __init__(
        self,
        client: StreamClient,
        schedule: Schedule,
        clock: RunClock,
        on_sent: Callable[[PlannedRequest, float], None],
        on_record: Callable[[RequestRecord], None],
    ) -> None:
        """`on_sent` hears of each request and the instant it was written, `on_record` of its end, a moment later."""
        self._client = client
        self._schedule = schedule
        self._clock = clock
        self._on_sent = on_sent
        self._on_record = on_record
        self._open: set[Exchange] = set()
        self._to_read: deque[Exchange] = deque()
        self._timer: Timer | None = None
        self._armed_s: float | None = None
        self._is_reading = False
        self._is_stopped = False
        self._over = asyncio.Event()
        self._error: Exception | None = None

    async def run(self) -> None:
        """Send everything; return once each request has its record."""
        self._loop = asyncio.get_running_loop()
        self._timer = open_timer(self._loop, self._clock, self._send_due)
        try:
            self._send_due()
            await self._over.wait()
        finally:
            self._timer.close()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the run: what is on its way or not yet sent gets a record CANCELLED, RUN_ENDED."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        now_s = self._clock.now_s()
        for request in self._schedule.unsent():
            self._keep(partial(unsent_record, request, now_s))
        for exchange in list(self._open):
            exchange.cancel()
        self._end_if_over()

    def _send_due(self) -> None:
        now_s = self._clock.now_s()
        try:
            while not self._is_stopped and (due_s := self._schedule.due_s) is not None:
                if due_s > now_s:
                    self._wake_at(due_s)
                    return
                self._send(self._schedule.take())
        except Exception as error:
            self._fail(error)
        self._armed_s = None
        self._end_if_over()

    def _send(self, request: PlannedRequest) -> None:
        exchange = self._client.send(request, self._clock, self._ended)
        if not exchange.has_ended:
            self._open.add(exchange)
        self._on_sent(request, exchange.sent_s)

    def _wake_at(self, due_s: float) -> None:
        assert self._timer is not None, "run() is under way"
        self._armed_s = due_s
        self._timer.set(self._clock.start_monotonic_s + due_s)

    def _ended(self, exchange: Exchange) -> None:
        self._open.discard(exchange)
        self._to_read.append(exchange)
        if not self._is_reading:
            self._is_reading = True
            self._loop.call_later(_READING_DELAY_S, self._read)
        if self._is_stopped:
            return
        try:
            self._schedule.ended(exchange)
        except Exception as error:
            self._fail(error)
        if self._schedule.due_s != self._armed_s:
            self._loop.call_soon(self._send_due)

    def _read(self) -> None:
        """Make the records of a few requests that have ended."""
        backlog = len(self._to_read)
        for _ in range(min(backlog, max(_READ_AT_ONCE, math.ceil(backlog * _BACKLOG_AT_ONCE_FRACTION)))):
            self._keep(self._to_read.popleft().record)
        if self._to_read:
            self._loop.call_soon(self._read)
            return
        self._is_reading = False
        self._end_if_over()

    def _keep(self, make_record: Callable[[], RequestRecord]) -> None:
        try:
            self._on_record(make_record())
        except Exception as error:  # the others get theirs, and the run says in the end what was wrong
            self._error = self._error or error

    def _fail(self, error: Exception) -> None:
        """End the run, which raises `error` once each request that was sent has its record."""
        self._error = self._error or error
        self.stop()

    def _end_if_over(self) -> None:
        is_more_due = not self._is_stopped and self._schedule.due_s is not None
        if not is_more_due and not self._open and not self._is_reading:
            self._over.set()


def unsent_record(request: PlannedRequest, now_s: float) -> RequestRecord:
    """The record of a request whose instant had not come when the run was ended."""
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
        planned_s=request.planned_s,
    )
