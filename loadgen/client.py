"""One request over HTTP: sent, its streamed answer read, its end told apart from all other ends."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from loadgen.plan import PlannedRequest
from loadgen.records import Cause, RequestRecord, Status
from loadgen.sse import StreamedAnswer, read_error
from loadgen.target import Target

# Idle connections are dropped before servers drop them (uvicorn after 5 s), or a request that is sent on a connection
# which the server is just closing would count as a failure of the server.
_KEEP_ALIVE_S = 4.0
# After `[DONE]` nothing is waited for but the end of the body, so that the connection can be used again.
_BODY_END_S = 1.0
# At its deadline a server says why it could not answer (504 with the cause). Its clock started later than ours: without
# this patience nobody would ever hear it. An answer that comes this late counts as timed out all the same.
_PATIENCE_S = 1.0
_ERROR_TEXT_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class RunClock:
    """Seconds from the run's start, by this process's monotonic clock."""

    start_monotonic_s: float

    @classmethod
    def starting_at(cls, start_epoch_s: float) -> Self:
        """The clock of a run that starts, or started, at `start_epoch_s` of the machine's wall clock."""
        return cls(time.monotonic() + (start_epoch_s - time.time()))

    def now_s(self) -> float:
        """Seconds since the run's start; negative before it."""
        return time.monotonic() - self.start_monotonic_s


@dataclass(frozen=True, slots=True)
class _End:
    """How a request ended; `cause` and `error` are None where it ended ok."""

    status: Status
    cause: Cause | None = None
    error: str | None = None


@dataclass(slots=True)
class _Exchange:
    """One request on its way: what is known of the answer so far."""

    request: PlannedRequest
    answer: StreamedAnswer
    replica_id: str | None = None
    content_type: str = ""
    has_status: bool = False
    ended_s: float | None = None

    @property
    def due_s(self) -> float:
        """The instant of the deadline."""
        return self.request.scheduled_s + self.request.deadline_s

    def progress(self) -> str:
        """How far the answer came: 'after 37 of 120 tokens; replica X'."""
        tokens = self.answer.reported_tokens
        asked = self.request.max_output_tokens
        if tokens is None and self.answer.content_chunks:
            came = f"after {self.answer.content_chunks} chunks of an answer of {asked} tokens"
        else:
            came = f"after {tokens or 0} of {asked} tokens"
        return f"{came}; replica {self.replica_id}" if self.replica_id else came


def open_session(target: Target) -> aiohttp.ClientSession:
    """A connection pool without a limit, so that no request waits for another one's connection.

    Must be called inside a running event loop, and closed there.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=None)
    return aiohttp.ClientSession(
        base_url=target.root,
        connector=connector,
        headers={**target.headers, "accept": "text/event-stream, application/json", "accept-encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def send_request(session: aiohttp.ClientSession, request: PlannedRequest, clock: RunClock) -> RequestRecord:
    """Send `request` now and give its record once its end is known, soon after its deadline at the latest.

    Never raises because of what the server does. Cancelling the task makes a CANCELLED record; the connection is
    closed then, as at the deadline, so that the engine can free what the request holds.
    """
    exchange = _Exchange(request, StreamedAnswer())
    sent_s = clock.now_s()
    try:
        async with asyncio.timeout(exchange.due_s + _PATIENCE_S - sent_s) as limit:
            end = await _exchange(session, exchange, clock, limit)
    except TimeoutError:
        exchange.ended_s = exchange.ended_s or exchange.due_s
        end = _end_at_deadline(exchange)
    except asyncio.CancelledError:
        end = _End(Status.CANCELLED, Cause.RUN_ENDED, f"the run was ended {exchange.progress()}")
    except (aiohttp.ClientError, OSError) as error:
        end = _end_of_connection(exchange, error)
    if exchange.answer.done:  # what happens to the connection afterwards is no matter
        end = _end_of_stream(exchange)
    if exchange.ended_s is None:
        exchange.ended_s = clock.now_s()
    if end.status is Status.OK and exchange.ended_s > exchange.due_s:
        end = _end_at_deadline(exchange)
    return _record(exchange, end, sent_s, exchange.ended_s)


async def _exchange(
    session: aiohttp.ClientSession, exchange: _Exchange, clock: RunClock, limit: asyncio.Timeout
) -> _End:
    """Send the request and read the answer to its end."""
    request = exchange.request
    loop = asyncio.get_running_loop()
    answer = exchange.answer
    async with session.post(
        request.path, data=request.body, headers=request.headers, allow_redirects=False
    ) as response:
        exchange.has_status = True
        exchange.replica_id = response.headers.get("x-replica-id") or None
        exchange.content_type = response.content_type
        if response.status != 200:
            return _end_of_status(exchange, response.status, await response.read())
        is_first = True
        while chunk := await response.content.readany():
            answer.feed(chunk, clock.now_s())
            if is_first and answer.content_chunks:
                limit.reschedule(loop.time() + exchange.due_s - clock.now_s())  # no more patience: it has been routed
                is_first = False
            if answer.done and exchange.ended_s is None:
                exchange.ended_s = clock.now_s()
                limit.reschedule(loop.time() + _BODY_END_S)
    answer.finish()
    return _end_of_stream(exchange)


def _record(exchange: _Exchange, end: _End, sent_s: float, finished_s: float) -> RequestRecord:
    request, answer = exchange.request, exchange.answer
    answer.settle()
    return RequestRecord(
        request_id=request.request_id,
        service=request.service,
        model=request.model,
        prompt_tokens=request.prompt_tokens,
        output_tokens=answer.output_tokens,
        scheduled_s=request.scheduled_s,
        sent_s=sent_s,
        first_token_s=answer.first_token_s,
        finished_s=finished_s,
        status=end.status,
        replica_id=exchange.replica_id,
        cause=end.cause,
        error=end.error,
        attempts=1,
    )


def _end_at_deadline(exchange: _Exchange) -> _End:
    """The deadline passed here, before the server said anything of it."""
    first_token_s = exchange.answer.first_token_s
    is_started = first_token_s is not None and first_token_s <= exchange.due_s
    cause = Cause.DEADLINE_IN_ENGINE if is_started else Cause.DEADLINE_IN_QUEUE
    message = f"deadline of {exchange.request.deadline_s:g} s passed; ended {exchange.progress()}"
    return _End(Status.TIMED_OUT, cause, message)


def _end_of_connection(exchange: _Exchange, error: Exception) -> _End:
    """The connection could not be made, or broke."""
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = f"cannot connect to {error.host}:{error.port} ({type(error.os_error).__name__})"
    else:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if exchange.has_status:
        return _End(Status.FAILED, Cause.STREAM_CUT, f"connection lost {exchange.progress()} ({reason})")
    return _End(Status.FAILED, Cause.CONNECTION, f"no answer: {reason}")


def _end_of_status(exchange: _Exchange, status: int, body: bytes) -> _End:
    """The server answered with an error status."""
    error = read_error(body)
    if error is None:
        error = {"message": body.decode(errors="replace").strip()}
    return _end_of_error(error, status, f"HTTP {status}", exchange.replica_id)


def _end_of_stream(exchange: _Exchange) -> _End:
    """The stream ended of itself."""
    answer = exchange.answer
    if answer.error is not None:
        code = answer.error.get("code")
        where = f"error in the stream {exchange.progress()}"
        return _end_of_error(answer.error, code if isinstance(code, int) else 500, where, None)
    if not answer.done and exchange.content_type != "text/event-stream":
        message = f"HTTP 200 with '{exchange.content_type}', want 'text/event-stream'"
        return _End(Status.FAILED, Cause.EMPTY_ANSWER, message)
    if not answer.done:
        return _End(Status.FAILED, Cause.STREAM_CUT, f"stream ended without [DONE] {exchange.progress()}")
    if not answer.output_tokens:
        return _End(Status.FAILED, Cause.EMPTY_ANSWER, f"stream ended with [DONE] {exchange.progress()}")
    return _End(Status.OK)


def _end_of_error(error: Mapping[str, Any], status: int, where: str, replica_id: str | None) -> _End:
    """What an error object says: its own `cause` where it names one, else by its HTTP status."""
    cause = _named_cause(error) or _cause_of_status(status, error)
    message = f"{where}: {' '.join(str(error.get('message', '')).split())}"[:_ERROR_TEXT_CHARACTERS]
    if replica_id:
        message += f"; replica {replica_id}"
    if status in (429, 503) or cause is Cause.QUEUE_FULL:
        return _End(Status.REJECTED, cause, message)
    if status in (408, 504) or cause in (Cause.DEADLINE_IN_QUEUE, Cause.DEADLINE_IN_ENGINE, Cause.NO_READY_REPLICA):
        return _End(Status.TIMED_OUT, cause, message)
    return _End(Status.FAILED, cause, message)


def _named_cause(error: Mapping[str, Any]) -> Cause | None:
    try:
        return Cause(str(error.get("cause")))
    except ValueError:
        return None


def _cause_of_status(status: int, error: Mapping[str, Any]) -> Cause:
    if status in (429, 503):
        return Cause.QUEUE_FULL
    if status in (408, 504):
        return Cause.DEADLINE_IN_QUEUE
    message = str(error.get("message", ""))
    if status in (400, 413) and "context length" in message:  # vLLM and OpenAI say it in these words
        return Cause.TOO_LONG
    return Cause.BAD_STATUS
