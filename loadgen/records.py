"""What happened to each request: the record, its file schema, and an append-only writer."""

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa


class Status(StrEnum):
    """How a request ended."""

    OK = "ok"
    REJECTED = "rejected"  # the server answered 429 or 503: overload
    TIMED_OUT = "timed_out"  # the deadline passed, noticed by the server (504) or by the client
    FAILED = "failed"  # connection refused or reset, stream cut short, bad status, empty answer
    CANCELLED = "cancelled"  # given up by the load generator, for example when a run is interrupted


class Cause(StrEnum):
    """Why a request did not end ok: one word for tables and plots; `RequestRecord.error` has the details."""

    QUEUE_FULL = "queue_full"
    NO_READY_REPLICA = "no_ready_replica"
    DEADLINE_IN_QUEUE = "deadline_in_queue"
    DEADLINE_IN_ENGINE = "deadline_in_engine"
    REPLICA_LOST = "replica_lost"
    STREAM_CUT = "stream_cut"
    CONNECTION = "connection"
    BAD_STATUS = "bad_status"
    EMPTY_ANSWER = "empty_answer"
    TOO_LONG = "too_long"
    RUN_ENDED = "run_ended"
    CLIENT_LOST = "client_lost"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request of the trace and its end. Instants count in seconds from the run's start.

    TTFT and E2E count from `scheduled_s`, so that a late client cannot hide queueing.

    Attributes:
        request_id: row of the request in the replayed trace.
        service: label of the service ('conversation', 'api').
        model: name of the model that was asked for.
        prompt_tokens: as planned by the trace.
        output_tokens: tokens that were received.
        scheduled_s: when the trace says that it arrives.
        sent_s: when it was sent; None = never sent.
        first_token_s: when the first token came; None = none came.
        finished_s: when its end was known.
        status: how it ended.
        replica_id: the replica that served it, where known.
        cause: why it did not end ok; None if it did.
        error: the same in detail, for a person.
        attempts: times it was sent.
    """

    request_id: int
    service: str
    model: str
    prompt_tokens: int
    output_tokens: int
    scheduled_s: float
    sent_s: float | None
    first_token_s: float | None
    finished_s: float
    status: Status
    replica_id: str | None
    cause: Cause | None
    error: str | None
    attempts: int


RECORD_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),
        pa.field("service", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("output_tokens", pa.int32(), nullable=False),
        pa.field("scheduled_s", pa.float64(), nullable=False),
        pa.field("sent_s", pa.float64()),
        pa.field("first_token_s", pa.float64()),
        pa.field("finished_s", pa.float64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("replica_id", pa.string()),
        pa.field("cause", pa.string()),
        pa.field("error", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)
