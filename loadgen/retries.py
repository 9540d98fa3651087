"""Sends a request again that did not end well: each attempt is told, the request has one record."""

import heapq
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from loadgen.client import Exchange
from loadgen.client_config import ClientConfig, pause_s
from loadgen.line_file import LineFile, whole_lines
from loadgen.plan import PlannedRequest
from loadgen.records import ATTEMPT_SCHEMA, Cause, RequestRecord, Status
from loadgen.schedule import Schedule

_RETRIED_STATUSES = (408, 409, 429)
_RETRIED_CAUSES = (Cause.GIVEN_UP, Cause.CONNECTION, Cause.STREAM_CUT, Cause.REPLICA_LOST)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a request; `attempt` counts from 1, instants as in a record."""

    request_id: int
    attempt: int
    sent_s: float
    finished_s: float
    status: Status
    cause: Cause | None
    error: str | None


@dataclass(slots=True)
class _Tries:
    """A request that is sent again: when it was sent first, how often again, how many attempts have been told."""

    first_sent_s: float
    repeated: int = 0
    told: int = 0


class Retrying:
    """A schedule with each request that did not end well sent again, as `client` says.

    The pause of a request after an attempt goes by the seed, its number and the attempt's, whatever the order of events
    and however many senders there are.
    """

    def __init__(self, schedule: Schedule, client: ClientConfig, seed: int) -> None:
        self._schedule = schedule
        self._client = client
        self._seed = seed
        self._due: list[tuple[float, int]] = []  # a heap of instants and request ids
        self._requests: dict[int, PlannedRequest] = {}  # of the heap, by id
        self._tries: dict[int, _Tries] = {}  # of requests that are sent again
        self._took_first = True

    @property
    def due_s(self) -> float | None:
        """The next instant at which something is sent, for the first time or again."""
        first_s = self._schedule.due_s
        if not self._due:
            return first_s
        return self._due[0][0] if first_s is None else min(first_s, self._due[0][0])

    def take(self) -> PlannedRequest:
        """What is due first."""
        first_s = self._schedule.due_s
        self._took_first = not self._due or (first_s is not None and first_s <= self._due[0][0])
        return self._schedule.take() if self._took_first else self._requests.pop(heapq.heappop(self._due)[1])

    @property
    def took_first(self) -> bool:
        """Whether what was taken last is sent for the first time."""
        return self._took_first

    def ended(self, exchange: Exchange) -> None:
        """Plan the next attempt, or let the schedule know that there is none."""
        request = exchange.request
        tries = self._tries.get(request.request_id, _Tries(exchange.sent_s))
        due_s = self._next_s(exchange, tries.repeated)
        if due_s is None:
            self._schedule.ended(exchange)
            return
        tries.repeated += 1
        self._tries[request.request_id] = tries
        left_s = request.scheduled_s + request.deadline_s - due_s
        lines = with_attempt(request.header_lines, tries.repeated + 1, left_s)
        self._requests[request.request_id] = replace(request, first_sent_s=tries.first_sent_s, header_lines=lines)
        heapq.heappush(self._due, (due_s, request.request_id))

    def unsent(self) -> Iterator[PlannedRequest]:
        """What waits to be sent, for the first time or again."""
        yield from self._requests.values()
        yield from self._schedule.unsent()

    def settle(self, record: RequestRecord) -> tuple[Attempt | None, RequestRecord | None]:
        """The attempt that a record tells of, and the request's one record if no attempt follows.

        A record without an instant of sending is of a request that the end of the run kept from being sent (again).
        """
        tries = self._tries.get(record.request_id)
        if record.sent_s is None:
            if tries is None:
                return None, record
            error = "not sent again: the run was ended before"
            return None, replace(record, sent_s=tries.first_sent_s, attempts=tries.repeated, error=error)
        number = 1
        if tries is not None:
            tries.told += 1
            number = tries.told
        attempt = Attempt(
            record.request_id, number, record.sent_s, record.finished_s, record.status, record.cause, record.error
        )
        if tries is None:
            return attempt, record
        if number <= tries.repeated:
            return attempt, None
        return attempt, replace(record, sent_s=tries.first_sent_s, attempts=number)

    def _next_s(self, exchange: Exchange, repeated: int) -> float | None:
        """When to send it again; None = not at all."""
        client, attempts = self._client, repeated + 1
        if attempts == client.max_attempts:
            return None
        record = exchange.record()
        if not is_retryable(exchange.response_status, record.status, record.cause):
            return None
        told_s = retry_after_s(exchange.response_header("retry-after")) if client.honours_retry_after else None
        chance = np.random.default_rng((self._seed, record.request_id, attempts)).random()
        wait_s = pause_s(
            client.backoff_s, client.max_backoff_s, client.jitter_fraction, told_s or 0.0, attempts, chance
        )
        due_s = record.finished_s + wait_s
        return due_s if due_s < record.scheduled_s + exchange.request.deadline_s else None


class AttemptWriter(LineFile):
    """Appends attempts to a file, one JSON object per line."""

    def append(self, attempt: Attempt) -> None:
        """Write one; OSError where there is no room for it."""
        self.write_line(json.dumps(asdict(attempt)).encode())


def attempts_path(part: Path) -> Path:
    """Where the attempts lie that belong to a file of records."""
    return part.with_suffix(".attempts")


def read_attempts(path: Path) -> pa.Table:
    """The attempts that an `AttemptWriter` has written, with `ATTEMPT_SCHEMA`; a last line that was cut is left out."""
    return pa.Table.from_pylist([json.loads(line) for line in whole_lines(path)], schema=ATTEMPT_SCHEMA)


def with_attempt(header_lines: bytes, attempt: int, left_s: float) -> bytes:
    """A request's own header lines for an attempt after the first: with an id, and the time that is left to it.

    'tag-7' is followed by 'tag-7.2', 'tag-7.3': an engine may still hold the attempt before, and what a server tells of
    an id is told of one attempt. A server that reads `x-deadline-s` orders its queue by it.
    """
    lines = re.sub(rb"x-deadline-s: [^\r]*\r\n", b"", header_lines)
    lines = re.sub(rb"(x-request-id: [^\r]*?)(\.\d+)?\r", rb"\1.%d\r" % attempt, lines)
    return b"%bx-deadline-s: %.3f\r\n" % (lines, max(left_s, 0.001))


def attempt_of(run_tag: str, request_id: str) -> tuple[int, int] | None:
    """The number of the record and of the attempt that went out under this id; None = it is not of this run."""
    match = re.fullmatch(rf"{re.escape(run_tag)}-(\d+)(?:\.(\d+))?", request_id)
    return (int(match[1]), int(match[2] or 1)) if match else None


def is_retryable(response_status: int | None, status: Status, cause: Cause | None) -> bool:
    """Whether another attempt may end better: it was refused, given up, or lost on its way."""
    if status is Status.OK or cause is Cause.RUN_ENDED:
        return False
    is_refused = response_status is not None and (response_status in _RETRIED_STATUSES or response_status >= 500)
    return is_refused or cause in _RETRIED_CAUSES


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """What a `Retry-After` says: seconds, or a date; None = there is none that can be read."""
    if header is None:
        return None
    try:
        return max(0.0, float(int(header)))
    except OverflowError:
        return None
    except ValueError:
        pass
    try:
        instant = parsedate_to_datetime(header)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0.0, (instant - (now or datetime.now(UTC))).total_seconds())
