"""One request over HTTP: sent, each piece of its streamed answer stamped, its end told apart from all other ends."""

import asyncio
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

from loadgen.http_head import ResponseHead
from loadgen.http_stream import Call, ConnectionPool
from loadgen.outcome import Finish, Received, end_of_request
from loadgen.plan import PlannedRequest, header_lines
from loadgen.records import RequestRecord
from loadgen.run_clock import RunClock
from loadgen.sse import EndlessEvent, StreamedAnswer
from loadgen.target import Target

# After `[DONE]` nothing is waited for but the end of the body, so that the connection can be used again.
_BODY_END_S = 1.0
# At its deadline a server says why it could not answer (504 with the cause). Its clock started later than ours: without
# this patience nobody would ever hear it. An answer that comes this late counts as timed out all the same.
_PATIENCE_S = 1.0
# Pieces are read after the request's end; of a longer answer those so far, so that memory stays flat.
_UNREAD_BYTES = 128 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_TIMER_RESOLUTION_S = 0.001
_DONE = b"[DONE]"


class StreamClient:
    """Sends planned requests to one server. An async context manager: leaving it closes every connection."""

    def __init__(self, target: Target, *, keeps_chunk_offsets: bool = True) -> None:
        """`keeps_chunk_offsets`: records hold when each chunk came."""
        self._pool = ConnectionPool(target.root)
        self._path_prefix = urlsplit(target.root).path.encode()
        self._shared = _shared_header_lines(target)
        self._heads: dict[str, bytes] = {}  # the lines that all requests to a path share
        self._keeps_chunk_offsets = keeps_chunk_offsets

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @property
    def open_connections(self) -> int:
        """Connections that are open or being opened."""
        return len(self._pool.connections) + len(self._pool.opening)

    def send(self, request: PlannedRequest, clock: RunClock, on_end: Callable[["Exchange"], None]) -> "Exchange":
        """Write the request now; `on_end` is called once, soon after the deadline at the latest, whatever happens.

        It may be called before this returns. The connection is closed at the deadline, when the client gives the
        request up, and by `Exchange.cancel`, so that the engine can free what the request holds. Of a request that is
        sent late, it is closed at the deadline from the sending, so that it is known whether only the lag made it fail.
        """
        head = self._heads.get(request.path)
        if head is None:
            head = self._heads[request.path] = b"POST %b%b HTTP/1.1\r\n%b" % (
                self._path_prefix,
                request.path.encode(),
                self._shared,
            )
        exchange = Exchange(request, clock, on_end, keeps_chunk_offsets=self._keeps_chunk_offsets)
        exchange.begin(self._pool.send((head, request.header_lines, b"\r\n", request.body), exchange))
        return exchange


class Exchange:
    """One request on its way, then at its end. What came is kept with its instants and read when `record` is asked for.

    Attributes:
        sent_s: when it was written, or, where no connection was idle, when one began to be opened for it.
        known_s: when its end was known here: past the deadline, the server is still given a moment to say why. 0 until
            then.
    """

    def __init__(
        self,
        request: PlannedRequest,
        clock: RunClock,
        on_end: Callable[["Exchange"], None],
        *,
        keeps_chunk_offsets: bool,
    ) -> None:
        self.request = request
        self.sent_s = clock.now_s()
        self.known_s = 0.0
        self._clock = clock
        self._on_end: Callable[[Exchange], None] | None = on_end
        self._keeps_chunk_offsets = keeps_chunk_offsets
        first_sent_s = self.sent_s if request.first_sent_s is None else request.first_sent_s
        self._received = Received(request, first_sent_s, StreamedAnswer())
        self._closing_s = self._received.due_from_send_s
        self._monotonic_s = clock.monotonic_s
        self._give_up_s = min(self._closing_s, self.sent_s + request.timeout_s)
        self._closing_monotonic_s = clock.start_monotonic_s + self._closing_s
        self._pieces: list[tuple[float, bytes]] = []  # with instants of the monotonic clock: the run's costs a call
        self._unread_bytes = 0
        self._finish: Finish | None = None
        self._record: RequestRecord | None = None
        self._ended_s = 0.0
        self._failure = ""
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, call: Call) -> None:
        """Keep the call, to close its connection by, and watch the time."""
        if self._finish is None:
            self._call = call
            self._wait_until(self._give_up_s)

    def cancel(self) -> None:
        """Give the request up and close its connection. Does nothing after its end."""
        self._end(Finish.CANCELLED)

    def head_received(self, head: ResponseHead) -> None:
        """Note the status and the headers."""
        self._received.head = head

    def body_received(self, content: bytes, *, is_last: bool) -> None:
        """Stamp and keep a piece of the body."""
        instant_s = self._monotonic_s()
        self._pieces.append((instant_s, content))
        self._unread_bytes += len(content)
        if is_last:
            return
        if self._unread_bytes > _UNREAD_BYTES or instant_s > self._closing_monotonic_s:
            self._look(self._clock.now_s())
        elif _DONE in content:
            # A text may hold the word too: it must not put off when the request is given up.
            self._wait_until(min(self._clock.now_s() + _BODY_END_S, self._give_up_s))

    def ended(self, failure: str | None) -> None:
        """The connection's last word."""
        self._failure = failure or ""
        self._end(Finish.BODY if failure is None else Finish.CONNECTION)

    def record(self) -> RequestRecord:
        """What became of the request; to be asked for after its end. The answer is read at the first call."""
        if self._record is None:
            self._record = self._make_record()
        return self._record

    @property
    def response_status(self) -> int | None:
        """The HTTP status; None = no answer has begun."""
        return self._received.head.status if self._received.head else None

    def response_header(self, name: str) -> str | None:
        """A header of the answer, by its name in lower case; None where it is missing, or no answer has begun."""
        return self._received.head.headers.get(name) if self._received.head else None

    @property
    def has_ended(self) -> bool:
        """Its end is known."""
        return self._finish is not None

    @property
    def _is_stream(self) -> bool:
        return self._received.head is not None and self._received.head.status == 200

    def _make_record(self) -> RequestRecord:
        received, answer = self._received, self._received.answer
        self._read_pieces()
        if self._finish is Finish.BODY and self._is_stream:
            answer.finish(self._ended_s)
        finished_s = self._ended_s if answer.done_s is None else answer.done_s
        assert self._finish is not None, "asked for after its end"
        end = end_of_request(received, self._finish, finished_s, self._failure)
        request, first_token_s = self.request, answer.first_token_s
        return RequestRecord(
            request_id=request.request_id,
            service=request.service,
            model=request.model,
            prompt_tokens=request.prompt_tokens,
            output_tokens=answer.output_tokens,
            scheduled_s=request.scheduled_s,
            sent_s=self.sent_s,
            first_token_s=first_token_s,
            finished_s=finished_s if first_token_s is None else max(finished_s, first_token_s),
            status=end.status,
            replica_id=received.replica_id,
            cause=end.cause,
            error=end.error,
            attempts=1,
            chunk_offsets_s=answer.chunk_offsets_s() if self._keeps_chunk_offsets else None,
            planned_s=request.planned_s,
            phase=end.phase,
            chunk_tokens=answer.chunk_tokens() if self._keeps_chunk_offsets else None,
        )

    def _end(self, finish: Finish) -> None:
        if self._finish is not None:
            return
        self._finish = finish
        self.known_s = self._clock.now_s()
        # What is sent again may be sent so late that its deadline had passed before.
        self._ended_s = max(self._closing_s, self.sent_s) if finish is Finish.DEADLINE else self.known_s
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None and finish in (Finish.DEADLINE, Finish.GIVEN_UP, Finish.CANCELLED):
            self._call.abort()
        on_end, self._on_end, self._call, self._timer = self._on_end, None, None, None
        if on_end is not None:
            on_end(self)

    def _wait_until(self, instant_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = instant_s - self._clock.now_s()
        # A timer of uvloop may go off a little early; what is left is under its resolution, and the loop would spin.
        delay_s = max(delay_s, _TIMER_RESOLUTION_S) if delay_s > 0 else 0.0
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._look(self._clock.now_s())

    def _look(self, now_s: float) -> None:
        """Read what has come, and end the request where there is nothing more to wait for."""
        if self._finish is not None:
            return
        self._read_pieces()
        answer = self._received.answer
        if self._failure:
            self._end_here(Finish.CONNECTION)
        elif answer.done_s is not None:
            if now_s >= answer.done_s + _BODY_END_S:
                self._end_here(Finish.BODY)
            else:
                self._wait_until(answer.done_s + _BODY_END_S)
        elif now_s < self._give_up_s:
            self._wait_until(self._give_up_s)
        elif now_s < self._closing_s:
            self._end(Finish.GIVEN_UP)
        elif answer.content_s or now_s >= self._closing_s + _PATIENCE_S:
            self._end(Finish.DEADLINE)
        else:
            self._wait_until(self._closing_s + _PATIENCE_S)

    def _end_here(self, finish: Finish) -> None:
        """End it although the server has not: nothing that may still come matters."""
        if self._call is not None:
            self._call.abort()
        self._end(finish)

    def _read_pieces(self) -> None:
        pieces, self._pieces, self._unread_bytes = self._pieces, [], 0
        if not self._is_stream:
            error_body = self._received.error_body + b"".join(content for _, content in pieces)
            self._received.error_body = error_body[:_ERROR_BODY_BYTES]
            return
        start_s = self._clock.start_monotonic_s
        try:
            for instant_s, content in pieces:
                self._received.answer.feed(content, instant_s - start_s)
        except EndlessEvent:
            self._failure = "an event of the stream has no end"


async def send_request(client: StreamClient, request: PlannedRequest, clock: RunClock) -> RequestRecord:
    """Send `request` now and give its record. Cancelling the task makes a CANCELLED record."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exchange] = loop.create_future()
    exchange = client.send(request, clock, ended.set_result)
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        exchange.cancel()
    return exchange.record()


def _shared_header_lines(target: Target) -> bytes:
    """The header lines that all requests to a server share."""
    headers = {
        "host": urlsplit(target.root).netloc.rpartition("@")[2],
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",
        **target.headers,
    }
    return header_lines(headers)
