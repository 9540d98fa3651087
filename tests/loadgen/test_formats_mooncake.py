"""Mooncake's traces, with the blocks that their prompts share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.formats.detect import read_trace, read_traces
from loadgen.trace import Service

GOOD: dict[str, Any] = {"timestamp": 0, "input_length": 1000, "output_length": 7, "hash_ids": [3, 9]}


def write(folder: Path, *rows: dict[str, Any] | str) -> Path:
    path = folder / "mooncake.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_the_published_conversation_trace_is_read(data_folder: Path) -> None:
    path = data_folder / "traces/mooncake_fast25/conversation_trace.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    trace = read_trace(path)
    assert len(trace) == 12_031
    assert trace.duration_s == 3537.0
    assert trace.arrival_s.tolist() == [row["timestamp"] / 1000 for row in rows]
    assert trace.prompt_tokens.tolist() == [row["input_length"] for row in rows]
    assert trace.output_tokens.tolist() == [row["output_length"] for row in rows]
    assert np.all(trace.service == Service.CONVERSATION)
    assert trace.prefix is not None
    assert trace.prefix.block_tokens == 512
    assert all(trace.prefix.of(place).tolist() == row["hash_ids"] for place, row in enumerate(rows))


def test_a_row_without_hashes_has_no_blocks(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "hash_ids": []}, {**GOOD, "hash_ids": None}, {**GOOD, "hash_ids": [4]}]
    del rows[1]["hash_ids"]
    trace = read_trace(write(tmp_path, *rows))
    assert trace.prefix is not None
    assert [trace.prefix.of(row).tolist() for row in range(4)] == [[3, 9], [], [], [4]]


def test_a_file_without_hashes_has_no_prefix(tmp_path: Path) -> None:
    row = {key: value for key, value in GOOD.items() if key != "hash_ids"}
    assert read_trace(write(tmp_path, row)).prefix is None


def test_the_trace_counts_from_the_first_request_and_ignores_other_keys(tmp_path: Path) -> None:
    rows = [{**GOOD, "timestamp": at_ms, "session_id": {"a": [1]}} for at_ms in (27_482, 27_482.5, 30_000)]
    trace = read_trace(write(tmp_path, *rows))
    assert trace.arrival_s.tolist() == [0.0, 0.0005, 2.518]
    assert trace.duration_s == 3.0


BAD_ROWS = [
    ({**GOOD, "timestamp": -1}, "'timestamp' is -1, want a number of milliseconds from 0 to 10^15"),
    ({**GOOD, "timestamp": "5"}, "'timestamp' is \"5\", want a number of milliseconds"),
    ({**GOOD, "timestamp": True}, "'timestamp' is true, want a number of milliseconds"),
    ({**GOOD, "timestamp": 10**16}, "'timestamp' is 10000000000000000, want a number of milliseconds"),
    ({**GOOD, "timestamp": float("nan")}, "'timestamp' is NaN, want a number of milliseconds"),
    ({**GOOD, "timestamp": None}, "'timestamp' is null, want a number of milliseconds"),
    ({**GOOD, "input_length": 5.0}, "'input_length' is 5.0, want an integer >= 0"),
    ({**GOOD, "input_length": 2**31}, "'input_length' is 2147483648, want an integer >= 0"),
    ({**GOOD, "output_length": -3}, "'output_length' is -3, want an integer >= 0"),
    ({"timestamp": 0, "input_length": 5}, "'output_length' is missing, want an integer >= 0"),
    ({**GOOD, "hash_ids": [1, None]}, "'hash_ids' is [1, null], want a list of integers"),
    ({**GOOD, "hash_ids": [1.5]}, "'hash_ids' is [1.5], want a list of integers"),
    ({**GOOD, "hash_ids": {"a": 1}}, "'hash_ids' is {\"a\": 1}, want a list of integers"),
    (
        {**GOOD, "hash_ids": [1, 2, 3]},
        "'hash_ids' has 3 blocks, want at most 2: the prompt's 1000 tokens, 512 to a block",
    ),
    ("[1, 2]", "is [1, 2], want an object with timestamp, input_length, output_length"),
    ('{"timestamp": 0,', "is no JSON (Expecting property name"),
    ("5 5", "is no JSON (Extra data"),
    (json.dumps(GOOD) * 2, "is no JSON (Extra data"),
    (json.dumps(GOOD).replace("0,", '0, "timestamp": 1,', 1), "is no JSON (a key stands twice); a row is one line"),
    ('{"timestamp": ' + "[" * 100_000, "is no JSON ("),
    ('{"timestamp": ' + "9" * 5000 + "}", "is no JSON ("),
    ("   ", "is no JSON ("),
]


@pytest.mark.parametrize(("row", "problem"), BAD_ROWS, ids=[problem[:40] for _, problem in BAD_ROWS])
def test_a_bad_row_is_named_by_its_line_or_skipped_and_counted(
    tmp_path: Path, row: dict[str, Any] | str, problem: str
) -> None:
    path = write(tmp_path, GOOD, "", {**GOOD, "timestamp": 1000}, row, {**GOOD, "timestamp": 2000})
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert str(caught.value).startswith("mooncake.jsonl line 4: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    reading = read_traces([path], on_error="skip")
    assert reading.trace.arrival_s.tolist() == [0.0, 1.0, 2.0]
    assert (reading.rows, len(reading.skipped)) == (4, 1)


def test_an_object_of_two_lines_is_two_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, json.dumps(GOOD, indent=1).replace("\n", " ", 2), GOOD)
    lines = len(path.read_text().splitlines())
    reading = read_traces([path], on_error="skip")
    assert (len(reading.trace), reading.rows, len(reading.skipped)) == (2, lines, lines - 2)


def test_a_step_back_in_time_is_an_error_or_sorted(tmp_path: Path) -> None:
    path = write(tmp_path, *({**GOOD, "timestamp": at_ms, "hash_ids": [at_ms]} for at_ms in (1000, 5000, 3000, 6000)))
    with pytest.raises(InputError, match=r"line 3: 'timestamp' goes backward \(5000, then 3000\)"):
        read_trace(path)
    reading = read_traces([path], on_error="skip")
    assert reading.trace.arrival_s.tolist() == [0.0, 2.0, 4.0, 5.0]
    assert reading.trace.prefix is not None
    assert reading.trace.prefix.block.tolist() == [1000, 3000, 5000, 6000]
    assert (reading.rows, reading.sorted_rows) == (4, 1)
