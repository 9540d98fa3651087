"""Every row of a file is read or reported, whatever is in the file and however it is cut into blocks."""

import csv
import gzip
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.formats import csv_columns, lines
from loadgen.formats.detect import Reading, read_traces
from loadgen.trace import Trace

HEADER = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
COLUMNS = [
    csv_columns.numbers("number"),
    csv_columns.texts("text"),
    csv_columns.integers("integer"),
    csv_columns.either("word", "Conversation log", "API log"),
    csv_columns.optional_numbers("optional"),
    csv_columns.instants("naive", zoned=False),
    csv_columns.instants("zoned", zoned=True),
]
NAMES = [column.name for column in COLUMNS]
GOOD_CELLS = ["5", "GPT-4", "7", "API log", "", "2023-11-16 18:15:46.68", "2023-11-16 18:15:46+00:00"]

odd_numbers = (
    "| | 5|5\t|+5|-5|-0|0x1f|0XFFFFFFFF|-0x1|0x|5.0|1e3|1E+3|1e|.5|5.|.|NaN|nan|inf|-inf|Infinity|null|NA|007"
    "|2147483647|2147483648|000000000000000000000005|99999999999999999999|1e15|1e16|1e400|1e-400|1_0|\u0665|5\0|\x0b5|\u00a05|\udcff"
)
odd_texts = "API log|api log|API log |'API log'|\u00e9"
odd_instants = (
    "2023-11-16|2023-11-16 18|2023-11-16 18:15|2023-11-16T18:15:46|2023-11-16 18:15:46.|2023-11-16 18:15:46.123456789"
    "|2023-11-16 18:15:46.1234567891|2023-11-16 18:15:46Z|2023-11-16 18:15:46-05:30|2023-11-16 18:15:46+02|2023-11-16Z"
    "|2023-02-29|2023-11-16 24:00:00|2023-11-16 23:59:60|1677-01-01|1678-01-01|2263-01-01| 2023-11-16"
)
odd_cells = st.sampled_from([cell for cells in (odd_numbers, odd_texts, odd_instants) for cell in cells.split("|")])
cells = st.one_of(odd_cells, st.text(alphabet="0123456789.-+eExX :TZ", max_size=12))
"""Without quotes: a line with quotes that can be read in more than one way is left to the fast reader."""


@given(st.integers(0, len(COLUMNS) - 1), cells)
@settings(max_examples=400)
def test_the_row_by_row_check_agrees_with_the_fast_reader_on_every_cell(place: int, cell: str) -> None:
    row = ",".join([*GOOD_CELLS[:place], cell, *GOOD_CELLS[place + 1 :]])
    is_read = csv_columns._parser(NAMES, COLUMNS)(row.encode(errors="surrogateescape") + b"\n") is not None
    explained = csv_columns._explain(row, NAMES, COLUMNS)
    if explained is not None:
        assert not is_read, explained
    else:  # a UTC offset of 24 hours, a date at the very end of 64 bits: not worth a rule of their own
        assert is_read or NAMES[place] in ("naive", "zoned")


@st.composite
def good_rows(draw: st.DrawFn) -> list[list[str]]:
    """Rows of a BurstGPT file of version 2, in order of time."""
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=6)
    tokens = st.one_of(st.integers(0, 5000), st.just(2**31 - 1)).map(str)
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 10**7).map(lambda tenths: tenths / 10),
                texts,
                st.one_of(st.just(""), st.integers(0, 100).map(str)),
                texts,
                tokens,
                tokens,
                texts,
                st.sampled_from(["Conversation log", "API log"]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    return [[str(row[0]), *row[1:]] for row in sorted(rows, key=lambda row: row[0])]


def as_csv(rows: list[list[str]], line_end: str, quoting: Any) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator=line_end, quoting=quoting).writerows(rows)
    return HEADER + line_end + file.getvalue()


def read_with_blocks(path: Path, block_bytes: int, **options: Any) -> Reading:
    """Read with blocks of that size, and few lines at a time where some are bad."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block_bytes)
        patch.setattr("loadgen.formats.rows._SIFTED_LINES", 3)
        return read_traces([path], **options)


def assert_holds(trace: Trace, rows: list[list[str]]) -> None:
    first_day_s = float(rows[0][0]) // 86_400 * 86_400
    assert trace.arrival_s.tolist() == [float(row[0]) - first_day_s for row in rows]
    assert [trace.model_names[model] for model in trace.model] == [row[3] or "unknown" for row in rows]
    assert trace.prompt_tokens.tolist() == [int(row[4]) for row in rows]
    assert trace.output_tokens.tolist() == [int(row[5]) for row in rows]
    assert [("Conversation log", "API log")[service] for service in trace.service] == [row[7] for row in rows]
    assert trace.elapsed_s is not None
    np.testing.assert_array_equal(trace.elapsed_s, [float(row[2] or "nan") for row in rows])
    numbers: dict[str, set[int]] = {}
    for place, row in enumerate(rows):
        numbers.setdefault(row[1] or f"none {place}", set()).add(int(trace.session[place]))
    assert all(len(of_session) == 1 for of_session in numbers.values()), "one session, one number"
    assert len(set().union(*numbers.values())) == len(numbers), "two sessions, two numbers"


@given(
    good_rows(),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([200, 257, 1 << 20]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_good_rows_come_back_however_they_are_written(
    tmp_path: Path,
    rows: list[list[str]],
    line_end: str,
    quoting: Any,
    has_mark: bool,
    is_packed: bool,
    is_open_ended: bool,
    block_bytes: int,
) -> None:
    text = as_csv(rows, line_end, quoting)
    text = text.removesuffix(line_end) if is_open_ended else text + line_end * 2
    data = text.encode("utf-8-sig" if has_mark else "utf-8")
    path = tmp_path / "rows.csv"
    path.write_bytes(gzip.compress(data, 1) if is_packed else data)
    for on_error in ("stop", "skip"):
        reading = read_with_blocks(path, block_bytes, on_error=on_error)
        assert_holds(reading.trace, rows)
        assert (reading.rows, len(reading.skipped), reading.sorted_rows) == (len(rows), 0, 0)


bad_lines = st.sampled_from(
    [
        "x,s,1,GPT-4,1,2,3,API log",
        ",s,1,GPT-4,1,2,3,API log",
        "nan,s,1,GPT-4,1,2,3,API log",
        "5,s,-1,GPT-4,1,2,3,API log",
        "5,s,1,GPT-4,1.5,2,3,API log",
        "5,s,1,GPT-4,1,1000000000000,3,API log",
        "5,s,1,GPT-4,1,2,3,Log",
        "5,s,1,GPT-4,1,2,API log",
        "5,s,1,GPT-4,1,2,3,API log,",
        '5,s,1,"GPT-4,1,2,3,API log',
        '5,"s,1,GPT-4,1,2,3,API log"',
        '"',
        " ",
        "5",
        ",,,,,,,",
        HEADER,
        "5,s,1,GPT-\udcff4,1,2,3,API log",
    ]
)


@given(
    good_rows(),
    st.lists(st.tuples(st.integers(0, 30), bad_lines), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([200, 257, 1 << 20]),
)
@example(
    # A quote that is opened in one row and closed in a later one makes one good row of all lines between.
    [["5.0", "s", "1", "GPT-4", "1", "2", "", "API log"]] * 3,
    [(1, '5,s,1,"GPT-4,1,2,3,API log'), (2, '5,s,1,GPT-4",1,2,3,API log')],
    "\n",
    1 << 20,
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_every_line_is_a_request_or_is_reported(
    tmp_path: Path, rows: list[list[str]], bad: list[tuple[int, str]], line_end: str, block_bytes: int
) -> None:
    written = as_csv(rows, line_end, csv.QUOTE_MINIMAL).split(line_end)[:-1]
    good_lines = [True] * len(written)
    for place, line in bad:
        place = min(1 + place, len(written))
        written.insert(place, line)
        # As unquoted text, the quote of the example's second line is part of a model's name: that row is good.
        good_lines.insert(place, line == '5,s,1,GPT-4",1,2,3,API log')
    path = tmp_path / "rows.csv"
    path.write_bytes(line_end.join(written).encode(errors="surrogateescape"))
    first_bad = good_lines.index(False) + 1 if False in good_lines else None
    reading = read_with_blocks(path, block_bytes, on_error="skip")
    assert reading.rows == len(written) - 1
    assert len(reading.skipped) == good_lines.count(False)
    assert len(reading.trace) == good_lines.count(True) - 1
    assert np.all(np.diff(reading.trace.arrival_s) >= 0)
    if first_bad is not None:
        with pytest.raises(InputError, match=rf"^rows.csv line {first_bad}: ") as caught:
            read_with_blocks(path, block_bytes)
        assert "\n" not in str(caught.value)
        assert reading.skipped.examples[0] == str(caught.value)


@given(good_rows(), st.randoms(use_true_random=False), st.sampled_from([200, 257, 1 << 20]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_out_of_order_are_refused_or_sorted_and_counted(
    tmp_path: Path, rows: list[list[str]], random: Any, block_bytes: int
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(shuffled, "\n", csv.QUOTE_MINIMAL))
    times_s = [float(row[0]) for row in shuffled]
    late = sum(time_s < max(times_s[: place + 1]) for place, time_s in enumerate(times_s))
    steps_back = [place for place in range(1, len(rows)) if times_s[place] < times_s[place - 1]]
    reading = read_with_blocks(path, block_bytes, on_error="skip")
    assert_holds(reading.trace, sorted(shuffled, key=lambda row: float(row[0])))
    assert (reading.rows, len(reading.skipped), reading.sorted_rows) == (len(rows), 0, late)
    if steps_back:
        before, then = shuffled[steps_back[0] - 1][0], shuffled[steps_back[0]][0]
        message = rf"^rows.csv line {steps_back[0] + 2}: 'Timestamp' goes backward \({before}, then {then}\); sort"
        with pytest.raises(InputError, match=message):
            read_with_blocks(path, block_bytes)


@given(st.binary(max_size=300), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, has_header: bool) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(HEADER.encode() * has_header + b"\n" + data)
    for on_error in ("stop", "skip"):
        with suppress(InputError):
            read_traces([path], on_error=on_error)  # type: ignore[arg-type]


def test_a_file_of_bad_rows_only_is_an_error_also_when_they_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(HEADER + "\nx\ny\n")
    with pytest.raises(InputError, match=r"none of its 2 rows can be read; the first: rows.csv line 2: has 1 fields"):
        read_traces([path], on_error="skip")


def test_many_bad_rows_among_many_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [f"{second}.0,,,GPT-4,1,2,3,API log" for second in range(20_000)]
    rows[::100] = ["z.0,,,GPT-4,1,2,3,API log"] * 200
    rows[50::100] = ["1.0,,,GPT-4,1,2,API log"] * 200
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([HEADER, *rows]))
    reading = read_traces([path], on_error="skip")
    assert (len(reading.trace), reading.rows) == (19_600, 20_000)
    assert reading.skipped.counts == {
        "'Timestamp' is not a number of seconds from 0 to 10^15": 200,
        "has another number of fields than the header": 200,
    }
    assert len(reading.skipped.examples) == 5
