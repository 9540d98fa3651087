"""Broken trace files of every row format: the readers against a plain oracle that looks at one line after the other."""

import bz2
import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.formats import lines, rows, skipped
from loadgen.formats.detect import Reading, read_traces
from tests.loadgen.broken_files import BURSTGPT_1, BURSTGPT_2, csv_lines, files
from tests.loadgen.row_oracle import Expected, Row, expected_of

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: bytes(pa.Codec("zstd").compress(data)),
    ".two.gz": lambda data: gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(autouse=True, scope="module")
def _all_examples() -> Iterator[None]:
    """Keep every skipped row, so that all line numbers can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skipped, "_EXAMPLES", 10**6)
        yield


def read(path: Path, on_error: str, block_bytes: int = 1 << 26, sifted_lines: int = 4096) -> Reading | str:
    """What was read, or the one line that says why not; anything else fails the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block_bytes)
        patch.setattr(rows, "_SIFTED_LINES", sifted_lines)
        try:
            return read_traces([path], on_error=on_error)  # type: ignore[arg-type]
        except InputError as error:
            message = str(error)
    assert len(message.splitlines()) == 1, message
    assert path.name in message
    assert len(message) < 1000
    return message


def write(folder: Path, data: bytes, suffix: str = "") -> Path:
    path = folder / f"trace.csv{suffix}"
    path.write_bytes(PACKINGS[suffix](data))
    return path


def expected_in(folder: Path, data: bytes) -> Expected:
    def read_alone(one: bytes) -> Reading:
        reading = read(write(folder, one), "skip")
        if isinstance(reading, str):
            raise ValueError(reading)
        return reading

    return expected_of(data, read_alone)


def assert_holds(reading: Reading, expected: Expected) -> None:
    """The trace holds exactly these rows, in order of time."""
    good = sorted(expected.good, key=lambda row: row.time)
    trace = reading.trace
    assert trace.prompt_tokens.tolist() == [row.prompt_tokens for row in good]
    assert trace.output_tokens.tolist() == [row.output_tokens for row in good]
    assert trace.service.tolist() == [row.service for row in good]
    assert [trace.model_names[model] for model in trace.model] == [row.model for row in good]
    assert len(set(trace.model_names)) == len(trace.model_names)
    assert np.all(np.diff(trace.arrival_s) >= 0)
    assert np.all(trace.arrival_s < trace.duration_s)
    assert trace.duration_s == math.floor(trace.arrival_s[-1]) + 1
    elapsed = [math.nan if row.elapsed_s is None else row.elapsed_s for row in good]
    np.testing.assert_array_equal([math.nan] * len(good) if trace.elapsed_s is None else trace.elapsed_s, elapsed)
    hashes = [[] if trace.prefix is None else trace.prefix.of(place).tolist() for place in range(len(good))]
    assert hashes == [list(row.hashes) for row in good]
    sessions = [row.session or f"none {place}" for place, row in enumerate(good)]
    assert (
        len(set(sessions))
        == len(set(trace.session.tolist()))
        == len(set(zip(sessions, trace.session.tolist(), strict=True)))
    )


def arrivals_of(data: bytes, good: Sequence[Row]) -> list[float]:
    """The times of good rows in seconds on the trace's clock."""
    times = sorted(row.time for row in good)
    if b"Timestamp" in data[:300]:
        start_s = times[0] // 86_400 * 86_400
        return [float(time - start_s) for time in times]
    per_s = 1000 if data.removeprefix(b"\xef\xbb\xbf").startswith(b"{") else 10**9
    return [float((time - times[0]) / per_s) for time in times]


JSON_ROW = b'{"timestamp": %d, "input_length": 600, "output_length": 5}'
HEADER_1 = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
HEADER_AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"


@given(files(), st.sampled_from(list(PACKINGS)), st.integers(1, 400), st.integers(1, 5))
@settings(max_examples=400)
@example(HEADER_1 + b"5,G,1,1,1,API log\n6,G," + b"9" * 5000 + b",1,1,API log\n", "", 400, 1)
@example(HEADER_1 + b"5,G,1,1,1,API log\n4," + b"x" * 140_000 + b",1,1,1,API log\n", "", 400, 1)
@example(HEADER_1 + b"5,G,1,1,1,API log\n4," + b"x" * 140_000 + b",1,1,1,API log\nx\n", "", 400, 1)
@example(HEADER_1 + b'5,"G\rX",1,1,1,API log\n' * 2, "", 400, 1)
@example(JSON_ROW % 5 + b"\n" + JSON_ROW % 4 + JSON_ROW % 3 + b"\n\n", "", 400, 1)
@example(JSON_ROW % 5 + b"\n" + (JSON_ROW % 4).replace(b",", b",\r", 1) + JSON_ROW % 3 + b"\n", "", 400, 1)
@example((JSON_ROW % 5).replace(b"600", b"2147483647").replace(b"}", b', "hash_ids": [1]}'), "", 400, 1)
@example(HEADER_AZURE + b"1677-09-22 00:00:00,1,1\n2262-04-11 00:00:00,1,1\n", "", 400, 1)
def test_every_line_is_a_right_request_or_is_reported(
    folder: Path, data: bytes, packing: str, block_bytes: int, sifted_lines: int
) -> None:
    expected = expected_in(folder, data)
    path = write(folder, data, packing)
    reading = read(path, "skip", block_bytes, sifted_lines)
    stopped = read(path, "stop", block_bytes, sifted_lines)
    if not expected.good:
        assert isinstance(reading, str)
        assert isinstance(stopped, str)
        return
    assert isinstance(reading, Reading), reading
    reported = [int(example.split()[2].rstrip(":")) for example in reading.skipped.examples]
    assert reported == expected.bad, f"reported lines {reported}, bad lines {expected.bad}"
    assert reading.rows == len(expected.good) + len(expected.bad) == len(reading.trace) + len(reading.skipped)
    assert_holds(reading, expected)
    np.testing.assert_allclose(reading.trace.arrival_s, arrivals_of(data, expected.good), rtol=1e-15, atol=1e-9)
    times = [row.time for row in expected.good]
    assert reading.sorted_rows == sum(time < max(times[: place + 1]) for place, time in enumerate(times))
    faults = [
        *expected.bad,
        *(b.line for a, b in zip(expected.good, expected.good[1:], strict=False) if b.time < a.time),
    ]
    if faults:
        assert isinstance(stopped, str)
        assert stopped.startswith(f"{path.name} line {min(faults)}: ")
    else:
        assert isinstance(stopped, Reading), stopped
        assert_holds(stopped, expected)
        assert (stopped.rows, stopped.sorted_rows) == (reading.rows, 0)


@given(st.lists(csv_lines([BURSTGPT_1, BURSTGPT_2]), min_size=2, max_size=3), st.integers(1, 400))
@settings(max_examples=100)
def test_every_line_of_several_files_is_a_right_request_or_is_reported(
    folder: Path, contents: list[list[str]], block_bytes: int
) -> None:
    data = ["\n".join(content).encode(errors="surrogateescape") for content in contents]
    parts = [expected_in(folder, part) for part in data]
    paths = [folder / f"part{place}.csv" for place in range(len(parts))]
    for path, part in zip(paths, data, strict=True):
        path.write_bytes(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block_bytes)
        try:
            reading = read_traces(paths, on_error="skip")
        except InputError:
            assert not all(part.good for part in parts)
            return
    assert all(part.good for part in parts)
    assert len(reading.skipped) == sum(len(part.bad) for part in parts)
    assert reading.rows == sum(len(part.good) + len(part.bad) for part in parts)
    # The files with the earlier first requests come first where requests are of one instant.
    by_start = sorted(parts, key=lambda part: min(row.time for row in part.good))
    merged = Expected([row for part in by_start for row in part.good])
    assert_holds(reading, merged)
    np.testing.assert_allclose(reading.trace.arrival_s, arrivals_of(data[0], merged.good), rtol=1e-15, atol=1e-9)
