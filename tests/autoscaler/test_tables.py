"""The tables of a simulated run say what happened, in little memory."""

import numpy as np
import pandas as pd
import pyarrow as pa

from autoscaler.simulator.fleet_state import REQUEST, Fate
from autoscaler.simulator.tables import record_table
from loadgen.records import ENCODED_RECORD_SCHEMA, RECORD_SCHEMA
from loadgen.trace import Trace, make_trace

# Written down apart from the code: how each end appears in the records.
ENDS = {
    Fate.OK: ("ok", None),
    Fate.QUEUE_FULL: ("rejected", "queue_full"),
    Fate.NO_READY_REPLICA: ("timed_out", "no_ready_replica"),
    Fate.DEADLINE_IN_QUEUE: ("timed_out", "deadline_in_queue"),
    Fate.DEADLINE_IN_ENGINE: ("timed_out", "deadline_in_engine"),
    Fate.REPLICA_LOST: ("failed", "replica_lost"),
    Fate.TOO_LONG: ("failed", "too_long"),
}


def ended_requests(count: int) -> tuple[Trace, np.ndarray]:
    """Requests that ended in every way there is, one after the other, on several replicas or on none."""
    numbers = np.arange(count)
    trace = make_trace(
        "ends",
        numbers * 0.5,
        numbers + 1,
        numbers + 2,
        duration_s=count + 1.0,
        service=numbers % 2,
        model=numbers % 3,
        model_names=("small", "large", "small"),
    )
    requests = np.zeros(count, REQUEST)
    requests["fate"] = np.resize([int(fate) for fate in ENDS], count)
    requests["replica"] = numbers % 4 - 1
    requests["first_token_s"] = np.where(requests["fate"] == Fate.OK, numbers + 1.0, np.nan)
    requests["finished_s"] = numbers + 2.0
    requests["received_tokens"] = numbers
    return trace, requests


def test_each_record_tells_the_end_of_its_request() -> None:
    trace, requests = ended_requests(70)
    table = record_table(trace, requests)
    assert table.schema.equals(ENCODED_RECORD_SCHEMA)
    for number, row in enumerate(table.to_pylist()):
        status, cause = ENDS[Fate(requests["fate"][number])]
        assert (row["status"], row["cause"], row["error"] is None) == (status, cause, cause is None)
        assert row["replica_id"] == (None if number % 4 == 0 else f"replica-{number % 4 - 1}")
        assert row["service"] == ("conversation", "api")[number % 2]
        assert row["model"] == ("small", "large", "small")[number % 3]
        assert row["first_token_s"] == (number + 1.0 if status == "ok" else None)
        assert (row["scheduled_s"], row["finished_s"]) == (number * 0.5, number + 2.0)
        assert (row["request_id"], row["prompt_tokens"], row["output_tokens"]) == (number, number + 1, number)


def test_pandas_reads_the_records_as_if_their_strings_were_plain() -> None:
    table = record_table(*ended_requests(70))
    plain_schema = pa.schema([RECORD_SCHEMA.field(name) for name in table.column_names])
    frame, plain = table.to_pandas(), table.cast(plain_schema).to_pandas()
    assert isinstance(frame["status"].dtype, pd.CategoricalDtype)
    for column in plain:
        assert frame[column].isna().tolist() == plain[column].isna().tolist()
        assert frame[column].dropna().tolist() == plain[column].dropna().tolist()


def test_what_the_trace_has_is_not_copied_and_strings_take_a_number_each() -> None:
    trace, requests = ended_requests(10_000)
    allocated = pa.total_allocated_bytes()
    table = record_table(trace, requests)
    for column, values in (("scheduled_s", trace.arrival_s), ("prompt_tokens", trace.prompt_tokens)):
        assert table[column].chunk(0).buffers()[1].address == values.ctypes.data
    assert table["sent_s"].chunk(0).buffers()[1].address == trace.arrival_s.ctypes.data
    strings = ("service", "model", "status", "replica_id", "cause", "error")
    assert sum(table[column].nbytes for column in strings) / len(trace) < 14.5
    assert (pa.total_allocated_bytes() - allocated) / len(trace) < 40


def test_a_trace_without_requests_has_a_table_without_rows() -> None:
    trace, requests = ended_requests(0)
    assert record_table(trace, requests).num_rows == 0
