"""Damaged files of any kind: cut, changed, of foreign bytes; and rate series against a plain oracle."""

import bz2
import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.formats import lines
from loadgen.formats.detect import FORMATS, detect_format, read_traces
from loadgen.prefix import PrefixBlocks
from loadgen.rate_series import read_rate_series
from loadgen.trace import COLUMNS, OPTIONAL_COLUMNS, Trace, make_trace
from loadgen.trace_file import load_trace, save_trace

HEADERS = [
    b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,1,2,3,API log\n",
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
    b'{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n',
    b"t_seconds,requests_per_s,active_clients\n0,1,2\n600,1,2\n",
    b"PAR1",
    b"",
]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda data: bytes(pa.Codec("zstd").compress(data)),
}
ROWS = b"".join(b"%d,GPT-4,%d,2,3,API log\n" % (second, second % 97) for second in range(300))
BURSTGPT = HEADERS[0].replace(b"5,", b"0,", 1) + ROWS
ROW_COUNT = 301


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def refusal(path: Path, read: Callable[[], object]) -> str | None:
    """The one line that says why a file was not read; None where it was. Any other error fails the test."""
    try:
        read()
    except InputError as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1
    assert path.name in message
    assert len(message) < 1000
    return message


@given(
    st.sampled_from(HEADERS),
    st.one_of(st.binary(max_size=200), st.text('{}[]",:0123456789.eE+-\r\n\t ', max_size=80).map(str.encode)),
    st.sampled_from(["auto", *FORMATS]),
    st.sampled_from(["utf-8", "utf-16", "utf-32-le", "cp037"]),
    st.booleans(),
)
@settings(max_examples=200)
@example(HEADERS[2], b"[" * 100_000, "mooncake", "utf-8", False)
@example(b"", b"\n" * 100_000, "auto", "utf-8", False)
@example(b"", b"x" * 65_535 + b"\r\n1", "burstgpt", "utf-8", False)
def test_any_bytes_are_of_a_known_format_or_refused(
    folder: Path, header: bytes, rest: bytes, format: str, encoding: str, is_packed: bool
) -> None:
    path = folder / "any.csv"
    data = header.decode().encode(encoding) + rest
    path.write_bytes(gzip.compress(data, 1) if is_packed else data)
    refusal(path, lambda: detect_format(path))
    refusal(path, lambda: read_rate_series(path))
    for on_error in ("stop", "skip"):
        refusal(path, lambda: read_traces([path], format, None, on_error))  # type: ignore[arg-type]  # noqa: B023


@given(
    st.sampled_from(list(PACK)), st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans(), st.booleans()
)
@settings(max_examples=150)
def test_a_packed_file_that_is_damaged_anywhere_is_refused_or_read_whole(
    folder: Path, packing: str, place: float, change: int, is_cut: bool, has_second_part: bool
) -> None:
    is_cut = is_cut or packing == "zst"  # pyarrow writes no checksum, as the command zstd does
    packed = PACK[packing](BURSTGPT)
    packed += PACK[packing](b"400,GPT-4,1,2,3,API log\n") * has_second_part
    at = int(place * len(packed))
    damaged = packed[:at] if is_cut else packed[:at] + bytes([packed[at] ^ change]) + packed[at + 1 :]
    path = folder / f"damaged.csv.{packing}"
    path.write_bytes(damaged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", 1000)
        if refusal(path, lambda: read_traces([path], on_error="skip")) is None:
            reading = read_traces([path], on_error="skip")
            is_whole_part = is_cut and damaged == PACK[packing](BURSTGPT)
            assert reading.rows == ROW_COUNT + (has_second_part and not is_whole_part)
            assert reading.trace.prompt_tokens[1:ROW_COUNT].tolist() == [second % 97 for second in range(300)]
            assert len(reading.skipped) == 0


# --- Our own file -----------------------------------------------------------------------------------------------------


def a_trace(rng: np.random.Generator) -> Trace:
    """A trace with all columns that there are."""
    return make_trace(
        "small",
        np.sort(rng.random(40)) * 100,
        rng.integers(0, 5000, 40),
        rng.integers(0, 500, 40),
        duration_s=101.5,
        service=rng.integers(0, 2, 40),
        model=rng.integers(0, 2, 40),
        model_names=("A", "B"),
        session=rng.integers(0, 9, 40),
        elapsed_s=np.where(rng.random(40) < 0.2, np.nan, rng.random(40)),
        output_is_limit=rng.random(40) < 0.5,
        prefix=PrefixBlocks(512, np.arange(41, dtype=np.int64), rng.integers(0, 99, 40)),
    )


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[Trace, bytes]:
    trace = a_trace(np.random.default_rng(0))
    save_trace(trace, folder / "small.parquet")
    return trace, (folder / "small.parquet").read_bytes()


@given(
    st.integers(4), st.integers(1, 255), st.sampled_from(["change", "change", "change", "cut", "double", "leave out"])
)
@settings(max_examples=300)
def test_a_converted_trace_that_is_changed_anywhere_is_refused_or_read_as_it_was(
    folder: Path, written: tuple[Trace, bytes], place: int, change: int, damage: str
) -> None:
    trace, data = written
    at = 4 + place % (len(data) - 4)
    damaged = {
        "change": data[:at] + bytes([data[at] ^ change]) + data[at + 1 :],
        "cut": data[:at],
        "double": data[:at] + data[max(4, at - change) :],
        "leave out": data[:at] + data[at + change :],
    }[damage]
    path = folder / "changed.parquet"
    path.write_bytes(damaged)
    if refusal(path, lambda: load_trace(path)) is None:
        found = load_trace(path)
        about = (found.name, found.duration_s, found.model_names)
        assert about == (trace.name, trace.duration_s, trace.model_names)
        for column in (*COLUMNS, *OPTIONAL_COLUMNS):
            np.testing.assert_array_equal(getattr(found, column), getattr(trace, column))
        assert found.prefix is not None
        assert trace.prefix is not None
        np.testing.assert_array_equal(found.prefix.block, trace.prefix.block)
        np.testing.assert_array_equal(found.prefix.first, trace.prefix.first)


# --- Rate series ------------------------------------------------------------------------------------------------------

RATES, COUNTS = ["0", "1", "2.5", " 7", "1e2", "1e15", "-0"], ["0", "1", "2147483647", "007", " 7"]
BAD_CELLS = ["", "-1", "nan", "inf", "1e16", "1e400", "abc", '"', "1,2", "1_0", "\0", "9" * 5000]


@st.composite
def rate_files(draw: st.DrawFn) -> tuple[str, dict[tuple[str, int], float] | None]:
    """A file of one of the three forms, and its numbers by label and bin; None = there is a fault in it."""
    header = draw(
        st.sampled_from(["t_seconds,requests_per_s,active_clients", "t_seconds,a", "t_seconds,a,b", "day,hour,a,b"])
    )
    is_hourly, labels = header.startswith("day"), header.replace("day,", "").split(",")[1:]
    is_total = labels[-1] == "active_clients"
    steps = draw(st.lists(st.integers(0, 60), min_size=2, max_size=10, unique=True).map(sorted))
    steps += [steps[-1] + 1] * (not is_hourly)  # so that the bin is told
    origin = steps[0] // 24 * 24 if is_hourly else steps[0]
    text, numbers = header, {}
    for step in steps:
        cells = draw(
            st.lists(st.sampled_from(COUNTS if is_hourly else RATES), min_size=len(labels), max_size=len(labels))
        )
        text += f"\n{step // 24},{step % 24}," if is_hourly else f"\n{step * 600},"
        text += ",".join(cells)
        for label, cell in zip(labels, cells, strict=True):
            requests = float(cell) * (1 if is_hourly else 600)
            numbers[label, step - origin] = math.nan if is_total and requests == 0 else requests
    fault = draw(st.sampled_from(["none", "none", "cell", "row", "header"]))
    rows = text.split("\n")
    place = draw(st.integers(1, len(rows) - 1))
    if fault == "cell":
        bad = draw(st.sampled_from(BAD_CELLS + ["2.5"] * is_hourly))
        rows[place] = ",".join(
            bad if column == 1 + is_hourly else cell for column, cell in enumerate(rows[place].split(","))
        )
    elif fault == "row":
        times = ["0,24", "9999999,0", "0,-1", "x,1"] if is_hourly else ["1e15", "5", "-1", "x"]
        bad = draw(st.sampled_from([*times, rows[place].partition(",")[0]]))
        rows.insert(place, bad + "," * draw(st.integers(0, 1)) + ",".join(["1"] * len(labels)))
        if bad[0] in "0123456789" and bad != "0,24":
            rows.insert(place, rows[place])  # twice the same time is a fault, whatever the time
    elif fault == "header":
        rows[0] = draw(
            st.sampled_from([rows[0] + ",c", rows[0] + ",a,a", "t_seconds", "day,hour", rows[0].upper(), ""])
        )
    return "\n".join(rows) + draw(st.sampled_from(["", "\n", "\n\n"])), numbers if fault == "none" else None


@given(rate_files())
@settings(max_examples=200)
@example(("t_seconds,a\n0,1\n1e-300,1\n1e15,1", None))
@example(
    (
        "t_seconds,"
        + ",".join(f"c{client}" for client in range(1000))
        + "".join(f"\n{t}" + ",1" * 1000 for t in (0, 1, 9_000_000)),
        None,
    )
)
def test_a_rate_series_is_read_right_or_refused(
    folder: Path, file: tuple[str, dict[tuple[str, int], float] | None]
) -> None:
    text, numbers = file
    path = folder / "rates.csv"
    path.write_text(text)
    if numbers is None:
        assert refusal(path, lambda: read_rate_series(path)) is not None
        return
    series = read_rate_series(path)
    columns = {"all": "requests_per_s"} if series.labels == ("all",) else {label: label for label in series.labels}
    bins = 1 + max(bin for _, bin in numbers)
    expected = [[numbers.get((columns[label], bin), math.nan) for bin in range(bins)] for label in series.labels]
    np.testing.assert_array_equal(series.requests, expected)
