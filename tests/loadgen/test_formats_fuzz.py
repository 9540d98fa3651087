"""Broken trace files of every row format: the readers against a plain oracle that looks at one line after the other."""

import bz2
import csv
import gzip
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.formats import lines, rows, skipped
from loadgen.formats.detect import Reading, read_traces

INT32_MAX = 2**31 - 1
LATEST = 10**15
LINE_END = re.compile(rb"\r\n|\n|\r")
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: bytes(pa.Codec("zstd").compress(data)),
    ".two.gz": lambda data: gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]),
}


# --- The oracle: what each line is, by the formats' descriptions alone ------------------------------------------------


@dataclass
class Row:
    """A good line; `time` orders rows exactly: milliseconds, seconds, or nanoseconds since 1970."""

    line: int
    time: Fraction
    prompt_tokens: int
    output_tokens: int
    model: str = "unknown"
    service: int = 0
    session: str = ""
    elapsed_s: float | None = None
    hashes: Sequence[int] = ()


@dataclass
class Expected:
    """What is in a file: its good rows, and the numbers of its bad lines."""

    good: list[Row] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)


def numbered_lines(data: bytes) -> list[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    parts = LINE_END.split(data.removeprefix(b"\xef\xbb\xbf"))
    return [(number, line) for number, line in enumerate(parts, start=1) if line]


def as_integer(cell: str) -> int:
    """A token count; a hexadecimal one is clear, too."""
    cell = cell.strip(" \t")
    if not cell.isascii() or cell.startswith("+") or "_" in cell or cell != "".join(cell.split()):
        raise ValueError(cell)
    if cell[:2].lower() == "0x":
        value = int(cell[2:], 16) if 1 <= len(cell[2:]) <= 8 and cell[2:].isalnum() else -1
    else:
        value = int(cell) if len(cell) < 4000 else int(cell.lstrip("0")[:20] or "0")
    if not 0 <= value <= INT32_MAX:
        raise ValueError(cell)
    return value


def as_number(cell: str) -> float:
    cell = cell.strip(" \t")
    if not cell.isascii() or "_" in cell or cell != "".join(cell.split()):
        raise ValueError(cell)
    value = float(cell)
    if not 0 <= value <= LATEST:
        raise ValueError(cell)
    return value


def as_nanoseconds(cell: str, zoned: bool) -> int:
    """A date with a time, in nanoseconds since 1970 UTC."""
    match = re.fullmatch(r"([0-9-]{10}[ T][0-9:]{8})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})?", cell)
    if match is None or (match[3] is not None) != zoned:
        raise ValueError(cell)
    instant = datetime.fromisoformat(match[1].replace("T", " ") + (match[3] or "Z").replace("Z", "+00:00"))
    whole = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    nanoseconds = whole * 10**9 + int((match[2] or "0").ljust(9, "0"))
    if not -(2**63) <= nanoseconds < 2**63:
        raise ValueError(cell)
    return nanoseconds


def csv_row(number: int, cells: dict[str, str], zoned: bool) -> Row:
    """The row that the cells are, or ValueError."""
    if "TIMESTAMP" in cells:
        return Row(
            number,
            Fraction(as_nanoseconds(cells["TIMESTAMP"], zoned)),
            as_integer(cells["ContextTokens"]),
            as_integer(cells["GeneratedTokens"]),
        )
    for text in (cells["Model"], cells.get("Session ID", "")):
        text.encode()  # UnicodeEncodeError is a ValueError
    elapsed = cells.get("Elapsed time", "")
    return Row(
        number,
        Fraction(as_number(cells["Timestamp"])),
        as_integer(cells["Request tokens"]),
        as_integer(cells["Response tokens"]),
        cells["Model"] or "unknown",
        {"Conversation log": 0, "API log": 1}[cells["Log Type"]],
        cells.get("Session ID", ""),
        as_number(elapsed) if elapsed else None,
    )


def json_row(number: int, text: str) -> Row:
    """The row that a JSON object is, or ValueError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    row = json.loads(text, object_pairs_hook=unique)
    if type(row) is not dict:
        raise ValueError(text)
    counts = (row.get("input_length"), row.get("output_length"))
    time, hashes = row.get("timestamp"), row.get("hash_ids")
    hashes = [] if hashes is None else hashes
    if type(time) not in (int, float) or not 0 <= time <= LATEST or not isinstance(hashes, list):
        raise ValueError(text)
    if any(type(count) is not int or not 0 <= count <= INT32_MAX for count in counts):
        raise ValueError(text)
    if any(type(value) is not int or not -(2**63) <= value < 2**63 for value in hashes):
        raise ValueError(text)
    if len(hashes) > -(-counts[0] // 512):
        raise ValueError(text)
    return Row(number, Fraction(float(time)), *counts, hashes=hashes)


def is_plainly_quoted(line: bytes) -> bool:
    """Whether quotes stand only around whole cells, doubled inside; anything else can be read in more ways than one."""
    return re.fullmatch(rb'(?:"(?:[^"]|"")*"|[^",]*)(?:,(?:"(?:[^"]|"")*"|[^",]*))*', line) is not None


def first_time_is_zoned(place: int, others: Sequence[tuple[int, bytes]]) -> bool:
    """Whether the first time in an Azure file has a UTC offset, as all are then to have."""
    for _, line in others:
        cell = "".join(next(csv.reader([line.decode(errors="surrogateescape")]))[place : place + 1])
        match = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:]{8}[0-9.]*(Z|[+-][0-9:]{5})?", cell)
        if match is not None and len(cell.partition(".")[2].rstrip("Z").partition("+")[0]) <= 9:
            return match[1] is not None
    return False


def expected_of(data: bytes, read_alone: Callable[[bytes], Reading]) -> Expected:
    """What is in a file. `read_alone` tells what the reader makes of a file with only one, oddly quoted, row."""
    (_, head), *others = numbered_lines(data)
    is_json = head.startswith(b"{")
    header = [] if is_json else next(csv.reader([head.decode()]))
    zoned = not is_json and "TIMESTAMP" in header and first_time_is_zoned(header.index("TIMESTAMP"), others)
    expected = Expected()
    for number, line in numbered_lines(data) if is_json else others:
        text = line.decode(errors="surrogateescape")
        try:
            if is_json:
                expected.good.append(json_row(number, text))
            elif is_plainly_quoted(line):
                cells = next(csv.reader([text]))
                expected.good.append(csv_row(number, dict(zip(header, cells, strict=True)), zoned))
            else:
                trace = read_alone(head + b"\n" + line).trace
                cells = dict(zip(header, next(csv.reader([text])), strict=False))
                time = Fraction(
                    as_nanoseconds(cells["TIMESTAMP"], zoned) if "TIMESTAMP" in cells else as_number(cells["Timestamp"])
                )
                tokens = (int(trace.prompt_tokens[0]), int(trace.output_tokens[0]))
                elapsed = None if trace.elapsed_s is None or np.isnan(trace.elapsed_s[0]) else trace.elapsed_s[0]
                model, session = trace.model_names[0], cells.get("Session ID", "")
                expected.good.append(Row(number, time, *tokens, model, trace.service[0], session, elapsed))
        except (ValueError, KeyError, RecursionError):
            expected.bad.append(number)
    return expected


# --- What is written into the files -----------------------------------------------------------------------------------

COUNTS = "1 22 333 2147483647 0 -0 007 0x1F"
ODD_COUNTS = [" 7", "7\t", '"7"', '" 7"', "0" * 40 + "7", "0X0000001f"]
NOT_COUNTS = "-1 1.5 NaN inf null 1e3 1e400 1000000000000 2147483648 +5 1_000 ٣ 0x 0x123456789 --1 5\0 '5' 5.0 []"
MORE_NOT_COUNTS = [
    "",
    " ",
    "1 2",
    "1,5",
    "9" * 40,
    "\xa05",
    "\u20285",
    '"',
    '"5',
    '5"',
    '""',
    "\udcff",
    '"5"6',
    "5\x0b",
]
NOT_TIMES = ["", "nan", "-inf", "-0.5", "1e400", "1e16", "0x10", "1_0", "yesterday", "1.2.3", "٣", "e5", ".", "\0", '"']
TEXTS = [
    "",
    "ChatGPT",
    "GPT-4",
    "unknown",
    "模型",
    " a ",
    '"a,b"',
    '"a""b"',
    '""',
    "\x0b\x1c",
    "\u2028",
    "\0",
    "x" * 70,
]
ODD_TEXTS = ["\udcff", '"', '"a', 'a"b', '"a"b', "\udced\udca0\udc80", "a,b"]
LOG_TYPES = ["Conversation log", "API log", "API log", '"API log"', "api log", "API log ", "", "Log", '"API log']
JSON_VALUES = [
    "0",
    "-0",
    "1",
    "511",
    "513",
    "2147483647",
    "2147483648",
    "-1",
    "1.0",
    "1.5",
    "1e3",
    "1e400",
    "true",
    "null",
]
MORE_JSON_VALUES = [
    '"5"',
    "[]",
    "[1]",
    "{}",
    "NaN",
    "Infinity",
    "-",
    "01",
    "9" * 40,
    "1" + "0" * 18,
    '"\udcff"',
    "[[" * 500,
]
HASH_IDS = [
    "[]",
    "[1]",
    "[1, 2]",
    "null",
    "[-1]",
    "[9223372036854775807]",
    "[9223372036854775808]",
    "[1.0]",
    '["1"]',
    "[null]",
]
MORE_HASH_IDS = ["[true]", "[[1]]", "{}", "5", '""', "[1,]", "[" + "1," * 300 + "1]", "[" * 1100 + "]" * 1100]
LINES = [
    " ",
    "\t",
    '"',
    ",",
    ",,",
    ",,,,,,,",
    "{",
    "{}",
    "[]",
    "null",
    "\0",
    "\x1a",
    "\udcff\udcfe",
    "x" * 70,
    "{}" * 2,
]
LINE_ENDS = [b"\n", b"\r\n", b"\r"]

counts = st.sampled_from([*COUNTS.split(), *ODD_COUNTS])
not_counts = st.sampled_from([*NOT_COUNTS.split(), *MORE_NOT_COUNTS])
any_counts = st.integers(0, 9).flatmap(lambda place: not_counts if place == 0 else counts)
texts = st.sampled_from(TEXTS * 3 + ODD_TEXTS)
json_values = st.sampled_from(JSON_VALUES[:6] * 4 + JSON_VALUES + MORE_JSON_VALUES)


def ladder(unit: Callable[[int], str]) -> st.SearchStrategy[str]:
    """Times near each other, so that some are equal and some go backward."""
    return st.integers(0, 40).map(unit)


number_times = st.one_of(
    *[ladder(unit) for unit in (str, lambda n: f"{n}.5", lambda n: f" {n}e0", lambda n: f"{86_390 + n}")] * 3,
    st.sampled_from(["1e15", "999999999999999.9", "1e-400", "+5", "-0", "5.", ".5", '"7"', *NOT_TIMES]),
)
naive_times = st.one_of(
    *[ladder(unit) for unit in (lambda n: f"2023-11-16 18:15:{n:02}", lambda n: f"2023-11-16T18:15:20.{n:07}")] * 4,
    st.sampled_from(["1677-09-22 00:00:00", "2262-04-11 23:00:00.1", "2262-04-12 00:00:00", "2500-01-01 00:00:00"]),
    st.sampled_from(["2023-02-29 00:00:00", "2023-11-16 24:00:00", "2023-11-16 18:15:46Z", "1e9", *NOT_TIMES]),
)
zoned_times = st.one_of(
    *[ladder(unit) for unit in (lambda n: f"2024-05-10 00:00:{n:02}+00:00", lambda n: f"2024-05-10 00:00:20.{n:06}Z")]
    * 4,
    ladder(lambda n: f"2024-05-10 05:30:{n:02}+05:30"),
    st.sampled_from(["2024-05-10 00:00:00", "2024-05-10 00:00:00.1234567891Z", "0000-01-01 00:00:00Z", *NOT_TIMES]),
)
BURSTGPT_1 = {
    "Timestamp": number_times,
    "Model": texts,
    "Request tokens": any_counts,
    "Response tokens": any_counts,
    "Total tokens": texts,
    "Log Type": st.sampled_from(LOG_TYPES[:4] * 4 + LOG_TYPES),
}
BURSTGPT_2 = {"Session ID": texts, "Elapsed time": st.one_of(st.just(""), number_times)} | BURSTGPT_1
CSV_FORMATS: list[dict[str, st.SearchStrategy[str]]] = [
    BURSTGPT_1,
    BURSTGPT_2,
    *({"TIMESTAMP": t, "ContextTokens": any_counts, "GeneratedTokens": any_counts} for t in (naive_times, zoned_times)),
]


@st.composite
def csv_lines(draw: st.DrawFn, formats: Sequence[dict[str, st.SearchStrategy[str]]] = CSV_FORMATS) -> list[str]:
    """A header in any order with some further columns, and rows of which most are good."""
    columns = dict(draw(st.sampled_from(formats)))
    columns |= dict.fromkeys(draw(st.sampled_from([[], [], ["note"], ["", "note"]])), texts)
    names = draw(st.permutations(list(columns))) if draw(st.booleans()) else list(columns)
    header = [f'"{name}"' if draw(st.integers(0, 20)) == 0 else name for name in names]
    rows = draw(st.lists(st.tuples(*(columns[name] for name in names)), min_size=1, max_size=12))
    return [",".join(header), *(",".join(row) for row in rows)]


@st.composite
def json_lines(draw: st.DrawFn) -> list[str]:
    """Objects of which most are good rows."""
    keys = ["timestamp", "input_length", "output_length", "hash_ids", "chat_id"]
    values = [st.one_of(ladder(str), ladder("{}.25".format), json_values), json_values, json_values]
    values += [
        st.sampled_from(HASH_IDS[:5] * 6 + HASH_IDS + MORE_HASH_IDS),
        st.sampled_from(['"a"', "5", '{"a": [1]}', "-"]),
    ]
    first = '{"timestamp": 20, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}'
    rows = [first]
    for row in draw(st.lists(st.tuples(*values), max_size=12)):
        shown = draw(
            st.sampled_from([[0, 1, 2, 3]] * 6 + [[0, 1, 2], [2, 3, 4, 1, 0], [0, 1], [0, 1, 2, 0], [3, 3, 0, 1, 2]])
        )
        text = "{" + ", ".join(f'"{keys[place]}": {row[place]}' for place in shown) + "}"
        rows.append(
            draw(st.sampled_from([text] * 12 + [text + " ", "\t" + text, text * 2, text[:-1], text[1:], f"[{text}]"]))
        )
    return rows


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file whose first line tells its format, whatever stands below it."""
    texts = draw(st.one_of(csv_lines(), json_lines()))
    for line in draw(st.lists(st.sampled_from(LINES), max_size=2)) if draw(st.booleans()) else []:
        texts.insert(draw(st.integers(1, len(texts))), line)
    ends = draw(st.sampled_from([[b"\n"]] * 6 + [[b"\r\n"]] * 2 + [[b"\r"], LINE_ENDS]))
    data = draw(st.sampled_from([b""] * 6 + [b"\xef\xbb\xbf"]))
    for place, text in enumerate(texts):
        blanks = draw(st.sampled_from([1] * 9 + [2])) if place < len(texts) - 1 else draw(st.integers(0, 2))
        data += text.encode(errors="surrogateescape") + b"".join(draw(st.sampled_from(ends)) for _ in range(blanks))
    return data


# --- The properties ---------------------------------------------------------------------------------------------------


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
