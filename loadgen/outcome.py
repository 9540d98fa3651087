"""How a request ended, told from what came of its answer: one status and cause for each end that there is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from loadgen.http_head import ResponseHead
from loadgen.plan import PlannedRequest
from loadgen.records import Cause, Phase, Status
from loadgen.sse import StreamedAnswer, read_error

Word = TypeVar("Word", Cause, Phase)

_ERROR_TEXT_CHARACTERS = 300
_REPLICA_ID_CHARACTERS = 200


class Finish(Enum):
    """What ended a request: the answer's body, its connection, or the client, for one reason or another."""

    BODY = auto()
    CONNECTION = auto()
    DEADLINE = auto()
    GIVEN_UP = auto()
    CANCELLED = auto()


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended; `cause` and `error` are None where it ended ok, `phase` where the server names none."""

    status: Status
    cause: Cause | None = None
    error: str | None = None
    phase: Phase | None = None


@dataclass(slots=True)
class Received:
    """What came of the answer to a request until its end.

    Attributes:
        sent_s: when the request was first sent.
        head: None = none came.
        answer: what the stream said; empty where the status was not 200.
        error_body: the body where it was not.
    """

    request: PlannedRequest
    sent_s: float
    answer: StreamedAnswer
    head: ResponseHead | None = None
    error_body: bytes = b""

    @property
    def due_s(self) -> float:
        """The instant of the deadline."""
        return self.request.scheduled_s + self.request.deadline_s

    @property
    def due_from_send_s(self) -> float:
        """The instant of the deadline if it counts from the sending: later by the load generator's lag."""
        return max(self.request.scheduled_s, self.sent_s) + self.request.deadline_s

    @property
    def replica_id(self) -> str | None:
        """The replica that answered, where it says so."""
        named = self.head.headers.get("x-replica-id", "") if self.head else ""
        return printable(named)[:_REPLICA_ID_CHARACTERS] or None

    def progress(self) -> str:
        """How far the answer came: 'after 37 of 120 tokens; replica X'."""
        tokens = self.answer.reported_tokens
        asked = self.request.max_output_tokens
        if tokens is None and self.answer.content_s:
            came = f"after {len(self.answer.content_s)} chunks of an answer of {asked} tokens"
        else:
            came = f"after {tokens or 0} of {asked} tokens"
        return f"{came}; replica {self.replica_id}" if self.replica_id else came


def end_of_request(received: Received, finish: Finish, finished_s: float, failure: str) -> End:
    """The end that `finish` brought about at `finished_s`; `failure` says what was wrong with the connection.

    After `[DONE]`, what happens to the connection is no matter; after the deadline, nothing can make it end ok.
    """
    if received.answer.done_s is not None or finish is Finish.BODY:
        end = end_of_answer(received)
    elif finish is Finish.CONNECTION:
        end = end_of_connection(received, failure)
    elif finish is Finish.DEADLINE:
        end = end_at_deadline(received)
    else:
        end = end_by_giving_up(received) if finish is Finish.GIVEN_UP else end_by_cancelling(received)
    return end if finished_s <= received.due_s else end_after_deadline(received, end, finished_s)


def end_of_answer(received: Received) -> End:
    """The body ended of itself."""
    head, answer = received.head, received.answer
    if head is not None and head.status != 200:
        error = read_error(received.error_body)
        if error is None:
            error = {"message": received.error_body.decode(errors="replace").strip()}
        return _end_of_error(error, head.status, f"HTTP {head.status}", received.replica_id)
    if answer.error is not None:
        code = answer.error.get("code")
        where = f"error in the stream {received.progress()}"
        return _end_of_error(answer.error, code if isinstance(code, int) else 500, where, None)
    if answer.done_s is None and head is not None and head.content_type != "text/event-stream":
        message = f"HTTP 200 with '{printable(head.content_type)[:100]}', want 'text/event-stream'"
        return End(Status.FAILED, Cause.EMPTY_ANSWER, message)
    if answer.done_s is None:
        return End(Status.FAILED, Cause.STREAM_CUT, f"stream ended without [DONE] {received.progress()}")
    if not answer.output_tokens:
        return End(Status.FAILED, Cause.EMPTY_ANSWER, f"stream ended with [DONE] {received.progress()}")
    return End(Status.OK)


def end_of_connection(received: Received, reason: str) -> End:
    """The connection could not be made, broke, or brought what is no answer."""
    if received.head is None:
        return End(Status.FAILED, Cause.CONNECTION, f"no answer: {printable(reason)}")
    if received.head.status != 200:
        return end_of_answer(received)  # the status tells more than that its explanation was cut
    return End(Status.FAILED, Cause.STREAM_CUT, f"connection lost {received.progress()} ({printable(reason)})")


def end_at_deadline(received: Received) -> End:
    """The deadline passed here, before the server said anything of it."""
    first_token_s = received.answer.first_token_s
    is_started = first_token_s is not None and first_token_s <= received.due_from_send_s
    cause = Cause.DEADLINE_IN_ENGINE if is_started else Cause.DEADLINE_IN_QUEUE
    message = f"deadline of {received.request.deadline_s:g} s passed; ended {received.progress()}"
    return End(Status.TIMED_OUT, cause, message)


def end_after_deadline(received: Received, end: End, finished_s: float) -> End:
    """`end` came after the deadline: it timed out, and it is told where that was the load generator's lag alone."""
    if end.status is Status.OK and finished_s <= received.due_from_send_s:
        lateness_s, deadline_s = received.sent_s - received.request.scheduled_s, received.request.deadline_s
        message = f"answered within {deadline_s:g} s of the sending, but sent {lateness_s:.3g} s late"
        return End(Status.TIMED_OUT, Cause.SENT_LATE, message)
    return end if end.status is Status.TIMED_OUT else end_at_deadline(received)


def end_by_giving_up(received: Received) -> End:
    """Its client waited no longer."""
    message = f"given up after {received.request.timeout_s:g} s, {received.progress()}"
    return End(Status.CANCELLED, Cause.GIVEN_UP, message)


def end_by_cancelling(received: Received) -> End:
    """The run ended while the request was on its way."""
    return End(Status.CANCELLED, Cause.RUN_ENDED, f"the run was ended {received.progress()}")


def printable(text: str) -> str:
    """The text with what is no character replaced: servers send surrogates too, and no file takes them."""
    return text.encode(errors="replace").decode()


def _end_of_error(error: Mapping[str, Any], status: int, where: str, replica_id: str | None) -> End:
    """What an error object says: its own `cause` where it names one, else by its HTTP status."""
    cause = _named(Cause, error.get("cause")) or _cause_of_status(status, error)
    phase = _named(Phase, error.get("phase"))
    words = " ".join(_message(error).split())
    message = f"{where}: {printable(words)}"[:_ERROR_TEXT_CHARACTERS]
    if replica_id:
        message += f"; replica {replica_id}"
    if status in (429, 503) or cause is Cause.QUEUE_FULL:
        return End(Status.REJECTED, cause, message, phase)
    if status in (408, 504) or cause in (Cause.DEADLINE_IN_QUEUE, Cause.DEADLINE_IN_ENGINE, Cause.NO_READY_REPLICA):
        return End(Status.TIMED_OUT, cause, message, phase)
    return End(Status.FAILED, cause, message, phase)


def _message(error: Mapping[str, Any]) -> str:
    message = error.get("message", "")
    return message if isinstance(message, str) else repr(message)[:_ERROR_TEXT_CHARACTERS]


def _named(words: type[Word], named: object) -> Word | None:
    """The one of our words that an error names; None where it names none."""
    try:
        return words(named) if isinstance(named, str) else None
    except ValueError:
        return None


def _cause_of_status(status: int, error: Mapping[str, Any]) -> Cause:
    if status in (429, 503):
        return Cause.QUEUE_FULL
    if status in (408, 504):
        return Cause.DEADLINE_IN_QUEUE
    if status in (400, 413) and "context length" in _message(error):  # vLLM and OpenAI say it in these words
        return Cause.TOO_LONG
    return Cause.BAD_STATUS
