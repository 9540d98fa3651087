"""A trace comes back from its file as it was; any other file is refused by name."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Trace
from loadgen.trace_file import load_trace, save_trace
from tests.loadgen.small_traces import assert_same, small_trace, traces


@given(traces())
def test_a_trace_comes_back_from_its_file_bit_by_bit_and_saves_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, trace: Trace
) -> None:
    folder = tmp_path_factory.mktemp("traces")
    save_trace(trace, folder / "one.parquet")
    save_trace(trace, folder / "two.parquet")
    assert_same(load_trace(folder / "one.parquet"), trace)
    assert (folder / "one.parquet").read_bytes() == (folder / "two.parquet").read_bytes()


def test_a_saved_trace_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    save_trace(small_trace(), path)
    with pytest.raises(InputError, match="exists already"):
        save_trace(replace(small_trace(), name="other"), path)
    assert load_trace(path).name == "small"


def test_a_foreign_parquet_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"price": [1.0]}), path)
    with pytest.raises(InputError, match=r"sales.parquet: is Parquet but no trace \(columns: price\)"):
        load_trace(path)


def test_a_trace_of_a_later_format_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "late.parquet"
    save_trace(small_trace(), path)
    table = pq.read_table(path)
    metadata = {
        key: value.replace(b'"format_version": 2', b'"format_version": 9')
        for key, value in table.schema.metadata.items()
    }
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match="trace format version 9, this program reads up to version 2"):
        load_trace(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["model"]), "column 'model' is no whole column of int16"),
        (lambda table: table.append_column("model", table["model"]), "cannot be read as Parquet"),
        (
            lambda table: table.set_column(1, "prompt_tokens", pa.array(["a"] * 5)),
            "'prompt_tokens' is no whole column of int32",
        ),
        (
            lambda table: table.set_column(0, "arrival_s", pa.array([0.0, None] * 2 + [1.0])),
            "'arrival_s' is no whole column",
        ),
        (lambda table: table.drop_columns(["prefix_blocks"]), "column 'prefix_blocks' is missing"),
        (lambda table: with_metadata(table, b'"name"', b'"nome"'), "unknown key 'nome'; known keys: "),
        (lambda table: with_metadata(table, b"{", b"["), "its metadata are damaged"),
    ],
)
def test_a_trace_that_was_changed_after_it_was_written_is_refused(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    path = tmp_path / "trace.parquet"
    save_trace(replace(small_trace(), prefix=PrefixBlocks(512, np.arange(6), np.arange(5))), path)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(InputError, match=message):
        load_trace(path)


def with_metadata(table: pa.Table, old: bytes, new: bytes) -> pa.Table:
    """The table with its metadata changed."""
    return table.replace_schema_metadata({key: value.replace(old, new) for key, value in table.schema.metadata.items()})


@given(st.integers(0, 2**32), st.sampled_from(["cut", "change"]))
def test_a_damaged_trace_file_is_refused_or_still_a_trace(
    tmp_path_factory: pytest.TempPathFactory, seed: int, damage: str
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "trace.parquet"
    save_trace(small_trace(), path)
    data = bytearray(path.read_bytes())
    place = np.random.default_rng(seed).integers(len(data))
    if damage == "cut":
        del data[place:]
    else:
        data[place] ^= 0xFF
    path.write_bytes(data)
    with suppress(InputError):
        load_trace(path)


def test_files_that_hold_no_parquet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    for path in (tmp_path / "text.parquet", tmp_path / "absent.parquet"):
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            load_trace(path)
