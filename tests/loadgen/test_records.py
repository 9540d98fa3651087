"""One record for each request, whatever happens to those who write them."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.merge_records import merge_records
from loadgen.records import (
    ENCODED_RECORD_SCHEMA,
    PLANNED_SCHEMA,
    RECORD_SCHEMA,
    Cause,
    RecordWriter,
    RequestRecord,
    Status,
    read_partial_records,
    read_records,
    records_table,
    write_records,
)
from loadgen.sent_log import SENT_SCHEMA


def record(request_id: int, **changes: Any) -> RequestRecord:
    ok = RequestRecord(
        request_id=request_id,
        service="api",
        model="m",
        prompt_tokens=5,
        output_tokens=2,
        scheduled_s=float(request_id),
        sent_s=request_id + 0.1,
        first_token_s=request_id + 1 / 3,
        finished_s=request_id + 0.5,
        status=Status.OK,
        replica_id="r0",
        cause=None,
        error=None,
        attempts=1,
    )
    return replace(ok, **changes)


def planned(*request_ids: int) -> pa.Table:
    rows = [
        {"request_id": i, "service": "api", "model": "m", "prompt_tokens": 5, "scheduled_s": float(i)}
        for i in request_ids
    ]
    return pa.Table.from_pylist(rows, schema=PLANNED_SCHEMA)


FAILED = record(3, sent_s=None, first_token_s=None, replica_id=None, status=Status.FAILED, cause=Cause.CONNECTION)


def test_a_table_holds_the_records_with_their_schema() -> None:
    table = records_table([record(0), FAILED])
    assert table.schema == RECORD_SCHEMA
    assert table["status"].to_pylist() == ["ok", "failed"]
    assert table["cause"].to_pylist() == [None, "connection"]
    assert records_table([]).schema == RECORD_SCHEMA


def test_what_is_appended_is_read_back_exactly(tmp_path: Path) -> None:
    records = [record(0), FAILED, record(1, error='a "quoted"\nline', first_token_s=0.1 + 0.2)]
    with RecordWriter(tmp_path / "part") as writer:
        for one in records:
            writer.append(one)
    assert read_partial_records(tmp_path / "part").equals(records_table(records))


def test_records_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "part") as writer:
        writer.append(record(0))
        assert len(read_partial_records(tmp_path / "part")) == 1


def test_a_killed_writer_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from loadgen.records import RecordWriter, RequestRecord, Status
writer = RecordWriter(Path(sys.argv[1]))
for i in range(1000):
    writer.append(RequestRecord(i, "api", "m", 1, 1, 0.0, 0.0, 0.0, 0.0, Status.OK, None, None, None, 1))
print("written", flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "part")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert read_partial_records(tmp_path / "part")["request_id"].to_pylist() == list(range(1000))


@given(cut=st.integers(0, 400))
def test_a_last_row_that_was_cut_anywhere_is_left_out(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "part"
    with RecordWriter(path) as writer:
        writer.append(record(0))
        whole_bytes = path.stat().st_size
        writer.append(record(1))
    path.write_bytes(path.read_bytes()[: whole_bytes + cut])
    rows = 2 if whole_bytes + cut >= 2 * whole_bytes else 1
    assert len(read_partial_records(path)) == rows


def test_a_broken_row_before_the_last_one_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "part").write_text('{"request_id": 1}\n')
    with pytest.raises(InputError, match="part line 1: is not a request record"):
        read_partial_records(tmp_path / "part")


def test_an_existing_file_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("precious")
    with pytest.raises(FileExistsError):
        RecordWriter(tmp_path / "part")
    assert (tmp_path / "part").read_text() == "precious"


def test_merging_gives_one_row_per_planned_request_in_order() -> None:
    merged = merge_records([records_table([record(4), record(0)]), records_table([FAILED])], planned(0, 1, 3, 4), 2.5)
    assert merged.schema == RECORD_SCHEMA
    assert merged["request_id"].to_pylist() == [0, 1, 3, 4]
    lost = merged.slice(1, 1).to_pylist()[0]
    assert (lost["status"], lost["cause"], lost["attempts"]) == ("cancelled", "client_lost", 0)
    assert (lost["sent_s"], lost["first_token_s"], lost["scheduled_s"], lost["finished_s"]) == (None, None, 1.0, 2.5)
    assert "not sent" in lost["error"]


def test_a_lost_request_does_not_end_before_it_was_due() -> None:
    assert merge_records([], planned(9), 2.5)["finished_s"].to_pylist() == [9.0]


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)), st.integers(1, 4))
def test_no_planned_request_is_lost_or_invented(done: set[int], others: set[int], parts: int) -> None:
    shards = [records_table([record(i) for i in sorted(done) if i % parts == shard]) for shard in range(parts)]
    merged = merge_records(shards, planned(*sorted(done | others)), 60.0)
    assert merged["request_id"].to_pylist() == sorted(done | others)
    assert {row["request_id"] for row in merged.to_pylist() if row["status"] == "ok"} == done


def test_a_request_with_two_records_is_an_error() -> None:
    with pytest.raises(ValueError, match="request 4 has 2 records"):
        merge_records([records_table([record(4)]), records_table([record(4)])], planned(4), 1.0)


def test_a_record_that_was_not_planned_is_an_error() -> None:
    with pytest.raises(ValueError, match="request 4 was not planned"):
        merge_records([records_table([record(4)])], planned(5), 1.0)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    table = records_table([record(i) for i in range(500)])
    in_pieces = pa.concat_tables([table.slice(0, 123), table.slice(123)])
    write_records(table, tmp_path / "one.parquet")
    write_records(in_pieces, tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_records(tmp_path / "one.parquet").equals(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.parquet", "two.parquet"]


def test_encoded_records_are_written_as_plain_strings_with_the_same_bytes(tmp_path: Path) -> None:
    table = records_table([record(i, model=f"m{i % 3}") if i % 5 else replace(FAILED, request_id=i) for i in range(40)])
    table = table.select(ENCODED_RECORD_SCHEMA.names)
    columns = [
        column.combine_chunks().dictionary_encode().cast(field.type) if pa.types.is_dictionary(field.type) else column
        for column, field in zip(table.columns, ENCODED_RECORD_SCHEMA, strict=True)
    ]
    encoded = pa.table(columns, schema=ENCODED_RECORD_SCHEMA)
    assert encoded.to_pylist() == table.to_pylist()
    write_records(table, tmp_path / "plain.parquet")
    write_records(encoded, tmp_path / "encoded.parquet")
    assert (tmp_path / "plain.parquet").read_bytes() == (tmp_path / "encoded.parquet").read_bytes()
    assert pq.read_schema(tmp_path / "encoded.parquet").equals(RECORD_SCHEMA)


def test_a_file_of_more_rows_than_are_written_at_once_has_them_all(tmp_path: Path) -> None:
    one = records_table([record(7)])
    rows = 2 * 2**18 + 5
    table = one.take([0] * rows).set_column(0, RECORD_SCHEMA.field(0), pa.array(range(rows)))
    write_records(table, tmp_path / "many.parquet")
    assert read_records(tmp_path / "many.parquet").equals(table)


def test_a_file_of_no_rows_keeps_its_schema(tmp_path: Path) -> None:
    write_records(records_table([]), tmp_path / "none.parquet")
    assert read_records(tmp_path / "none.parquet").equals(records_table([]))


def test_a_table_with_a_missing_value_is_not_written(tmp_path: Path) -> None:
    table = records_table([record(0)])
    holed = table.set_column(0, "request_id", pa.array([None], pa.int64()))
    with pytest.raises(ValueError, match="request_id"):
        write_records(holed, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="lack a column"):
        write_records(table.drop_columns("status"), tmp_path / "x.parquet")


def test_a_file_that_holds_no_records_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet: cannot be read"):
        read_records(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("a text")
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_records(tmp_path / "text.parquet")
    pq.write_table(pa.table({"request_id": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no column service, model"):
        read_records(tmp_path / "other.parquet")


def test_the_instants_of_chunks_are_kept_where_they_are_known_and_null_where_not(tmp_path: Path) -> None:
    offsets_s = (0.0, 0.25, 0.5)  # exact in single precision
    with RecordWriter(tmp_path / "part") as writer:
        writer.append(replace(record(1), chunk_offsets_s=offsets_s, chunk_tokens=(1, 3, 2)))
        writer.append(record(2))
    write_records(read_partial_records(tmp_path / "part"), tmp_path / "records.parquet")
    read = read_records(tmp_path / "records.parquet")
    assert read["chunk_offsets_s"].to_pylist() == [list(offsets_s), None]
    assert read["chunk_tokens"].to_pylist() == [[1, 3, 2], None]


def test_a_file_from_before_there_were_instants_of_chunks_is_read(tmp_path: Path) -> None:
    old = records_table([record(1)]).drop_columns(["chunk_offsets_s", "chunk_tokens"])
    pq.write_table(old, tmp_path / "records.parquet")
    assert read_records(tmp_path / "records.parquet").equals(records_table([record(1)]))


def sent(*rows: tuple[int, float, float, int]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SENT_SCHEMA.names, row, strict=True)) for row in rows], schema=SENT_SCHEMA)


def test_a_lost_request_that_had_been_sent_says_when() -> None:
    rows = merge_records([], planned(0, 1), 9.0, sent((1, 1.0, 1.5, 1))).to_pylist()
    assert [(row["sent_s"], row["attempts"]) for row in rows] == [(None, 0), (1.5, 1)]
    assert [row["error"].split(":")[0] for row in rows] == ["not sent", "sent, but its end was never recorded"]
    assert {row["cause"] for row in rows} == {"client_lost"}
    assert {row["planned_s"] for row in rows} == {None}


def test_a_lost_request_that_had_waited_for_another_was_due_when_it_was_sent() -> None:
    waited, plain = merge_records([], planned(1, 2), 9.0, sent((2, 2.0, 2.1, 3), (1, 4.0, 4.1, 1))).to_pylist()
    assert (waited["scheduled_s"], waited["planned_s"], waited["sent_s"], waited["attempts"]) == (4.0, 1.0, 4.1, 1)
    assert (plain["scheduled_s"], plain["planned_s"], plain["sent_s"], plain["attempts"]) == (2.0, None, 2.1, 3)


def test_a_lost_request_of_which_no_note_could_be_read_is_not_called_unsent() -> None:
    rows = merge_records([], planned(0, 1, 2), 9.0, sent((1, 1.0, 1.5, 1)), unread=[1, 2]).to_pylist()
    assert [row["error"].split(":")[0] for row in rows] == [
        "not sent",
        "sent, but its end was never recorded",
        "whether it was sent is not known",
    ]
    assert {(row["status"], row["cause"]) for row in rows} == {("cancelled", "client_lost")}


def test_all_that_a_cut_short_run_left_without_a_record_ended_with_it_and_says_how_far_it_was() -> None:
    log = sent((1, 1.0, 1.5, 1))
    rows = merge_records([records_table([record(0)])], planned(0, 1, 2, 3), 2.5, log, is_cut_short=True).to_pylist()
    assert [(row["status"], row["cause"]) for row in rows] == [("ok", None), *[("cancelled", "run_ended")] * 3]
    assert [row["error"] for row in rows[1:]] == [
        "sent, but its end was never recorded: the run was cut short before",
        "not sent: the run was cut short before",
        "not sent: the run was cut short before its instant",
    ]
    assert rows[3]["finished_s"] == 3.0
