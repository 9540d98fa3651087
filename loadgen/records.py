"""What happened to each request: the record, its file schema, and an append-only writer."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loadgen.errors import InputError
from loadgen.line_file import LineFile, whole_lines
from loadgen.whole_file import written_whole


class Status(StrEnum):
    """How a request ended."""

    OK = "ok"
    REJECTED = "rejected"  # the server answered 429 or 503: overload
    TIMED_OUT = "timed_out"  # the deadline passed, noticed by the server (504) or by the client
    FAILED = "failed"  # connection refused or reset, stream cut short, bad status, empty answer
    CANCELLED = "cancelled"  # by its client, who waited no longer, or by the end of the run


class Cause(StrEnum):
    """Why a request did not end ok: one word for tables and plots; `RequestRecord.error` has the details."""

    QUEUE_FULL = "queue_full"
    NO_READY_REPLICA = "no_ready_replica"
    DEADLINE_IN_QUEUE = "deadline_in_queue"
    DEADLINE_IN_ENGINE = "deadline_in_engine"
    SENT_LATE = "sent_late"  # answered within its time from the sending: only the load generator made it late
    REPLICA_LOST = "replica_lost"
    STREAM_CUT = "stream_cut"
    CONNECTION = "connection"
    BAD_STATUS = "bad_status"
    EMPTY_ANSWER = "empty_answer"
    TOO_LONG = "too_long"
    GIVEN_UP = "given_up"
    RUN_ENDED = "run_ended"  # the run was ended, or killed, before
    CLIENT_LOST = "client_lost"  # the process that had it ended before, in a run that went on


class Phase(StrEnum):
    """In which part of its life a request failed (`loadgen.failure_phase`), or what ended it there."""

    CLIENT_LAG = "client_lag"  # with the load generator, which sent it too late or not at all
    ROUTER_QUEUE = "router_queue"  # before any replica had taken it, although some were ready
    COLD_START = "cold_start"  # before any replica had taken it, as none was ready
    ENGINE_QUEUE = "engine_queue"  # waiting in an engine, never begun
    PREFILL = "prefill"  # its prompt was being computed, also anew after a preemption
    DECODE = "decode"  # its answer was being made
    PREEMPTION = "preemption"  # waiting in an engine, which had begun it and taken its KV blocks away
    REPLICA_LOST = "replica_lost"  # with a replica that died while it was ready
    DRAINED = "drained"  # with a replica that was draining and ended before it did


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
        scheduled_s: when it is to be sent: as the trace says, or, where it waits for another's end, when it became due.
        sent_s: when it was sent; None = never sent.
        first_token_s: when the first token came; None = none came.
        finished_s: when its end was known.
        status: how it ended.
        replica_id: the replica that served it, where known.
        cause: why it did not end ok; None if it did.
        error: the same in detail, for a person.
        attempts: times it was sent.
        chunk_offsets_s: when each chunk with text came, from the first one on; None = not kept. A chunk holds one
            token or more.
        chunk_tokens: the tokens of each such chunk, where the server tells them; None = not told, or each holds one,
            as many as `output_tokens`.
        planned_s: when the trace says that it arrives, where it waited for another to end; None = it did not.
        phase: where it was when it failed; None = not known, or it did not fail.
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
    chunk_offsets_s: tuple[float, ...] | None = None
    planned_s: float | None = None
    phase: Phase | None = None
    chunk_tokens: tuple[int, ...] | None = None


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
        pa.field("chunk_offsets_s", pa.list_(pa.float32())),
        pa.field("planned_s", pa.float64()),
        pa.field("phase", pa.string()),
        pa.field("chunk_tokens", pa.list_(pa.int32())),
    ]
)

# Only a replay knows them, and only in some modes.
REPLAY_COLUMNS = frozenset({"chunk_offsets_s", "chunk_tokens", "planned_s"})
# What has no such column is read as if it were null.
OPTIONAL_COLUMNS = REPLAY_COLUMNS | {"phase"}

# The same with strings as places in a list of the different ones: a tenth of the memory where few differ. For tables
# that a simulation holds; files have plain strings, so that their readers meet no category types.
_PLACE_TYPES = {"service": pa.int8(), "model": pa.int16(), "status": pa.int8(), "cause": pa.int8(), "phase": pa.int8()}
ENCODED_RECORD_SCHEMA = pa.schema(
    [
        field.with_type(pa.dictionary(_PLACE_TYPES.get(field.name, pa.int32()), pa.string()))
        if field.type == pa.string()
        else field
        for field in RECORD_SCHEMA
        if field.name not in REPLAY_COLUMNS
    ]
)

# What is known of a request before it is sent; the columns that `merge_records` holds the records against.
PLANNED_SCHEMA = pa.schema(
    [RECORD_SCHEMA.field(name) for name in ("request_id", "service", "model", "prompt_tokens", "scheduled_s")]
)

# One sending of a request, where what did not end well is sent again; attempts count from 1, instants as in a record.
ATTEMPT_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("sent_s", pa.float64(), nullable=False),
        pa.field("finished_s", pa.float64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("cause", pa.string()),
        pa.field("error", pa.string()),
    ]
)

_ROWS_OF_GROUP = 2**18  # of a Parquet file


def records_table(records: Iterable[RequestRecord]) -> pa.Table:
    """The records as a table with `RECORD_SCHEMA`, in the order given."""
    return pa.Table.from_pylist([_row(record) for record in records], schema=RECORD_SCHEMA)


class RecordWriter(LineFile):
    """Appends records to a file of its own, one JSON object per line."""

    def append(self, record: RequestRecord) -> None:
        """Write one record; OSError where there is no room for it."""
        self.write_line(json.dumps(_row(record), separators=(",", ":")).encode())


def read_partial_records(path: Path) -> pa.Table:
    """The records that a `RecordWriter` has written, also one that was killed or is still writing.

    Raises:
        InputError: the file cannot be read, or a line other than a cut last one is no record.
    """
    try:
        lines = whole_lines(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append(
                {name: row.get(name) if name in OPTIONAL_COLUMNS else row[name] for name in RECORD_SCHEMA.names}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} line {number}: is not a request record ({error}); remove the line") from error
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def write_records(table: pa.Table, path: Path) -> None:
    """Write records as Parquet; the same records give the same bytes. An existing file is replaced at once, never torn.

    Plain strings are made of encoded ones, and chunks put together, for so many rows at a time: all at once would take
    more memory than the records.

    Raises:
        ValueError: the table lacks a column of `RECORD_SCHEMA` or has a null where there may be none.
    """
    try:
        chosen = _with_optional_columns(table).select(RECORD_SCHEMA.names)
    except KeyError as error:
        raise ValueError(f"records for {path} lack a column: {error}") from error
    _write_groups(chosen, RECORD_SCHEMA, path)


def write_attempts(table: pa.Table, path: Path) -> None:
    """Write attempts as Parquet with `ATTEMPT_SCHEMA`, as `write_records` does records."""
    _write_groups(table, ATTEMPT_SCHEMA, path)


def _write_groups(table: pa.Table, schema: pa.Schema, path: Path) -> None:
    with written_whole(path) as unfinished, pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for first in range(0, table.num_rows, _ROWS_OF_GROUP):
            group = table.slice(first, _ROWS_OF_GROUP).replace_schema_metadata(None)
            writer.write_table(group.cast(schema).combine_chunks())


def read_records(path: Path) -> pa.Table:
    """Records from a Parquet file, with `RECORD_SCHEMA`.

    Raises:
        InputError: the file is missing, is no Parquet, or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: is not a Parquet file; a records.parquet is needed") from error
    table = _with_optional_columns(table)
    missing = [name for name in RECORD_SCHEMA.names if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; a records.parquet is needed")
    try:
        return table.select(RECORD_SCHEMA.names).cast(RECORD_SCHEMA)
    except (pa.ArrowInvalid, ValueError) as error:
        raise InputError(f"{path}: has a column of another type ({error}); a records.parquet is needed") from error


def _with_optional_columns(table: pa.Table) -> pa.Table:
    """The table with a column of nulls for each optional one that it lacks."""
    for name in sorted(OPTIONAL_COLUMNS.difference(table.column_names)):
        table = table.append_column(RECORD_SCHEMA.field(name), pa.nulls(len(table), RECORD_SCHEMA.field(name).type))
    return table


def _row(record: RequestRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in RECORD_SCHEMA.names}
