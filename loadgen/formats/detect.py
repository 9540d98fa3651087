"""Any known trace files -> one Trace: the format is told by the files themselves, or named."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadgen.errors import InputError, shown
from loadgen.formats.azure import AZURE_COLUMNS, AZURE_TIME, azure_trace, read_azure_rows
from loadgen.formats.burstgpt import BURSTGPT_COLUMNS, BURSTGPT_TIME, burstgpt_trace, read_burstgpt_rows
from loadgen.formats.compressed import plain_name
from loadgen.formats.csv_columns import csv_cells
from loadgen.formats.lines import head_lines
from loadgen.formats.mooncake import MOONCAKE_KEYS, MOONCAKE_TIME, mooncake_trace, read_mooncake_rows
from loadgen.formats.parquet import is_parquet, read_parquet
from loadgen.formats.rows import OnError, Rows
from loadgen.formats.skipped import SkippedRows
from loadgen.rate_series import is_rate_series
from loadgen.trace import Service, Trace


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A format that has one row for each request.

    Attributes:
        columns: those that tell the format.
        time: the column that puts rows in order.
        read_rows: file -> its rows.
        make_trace: name, rows in order of time, service of all of them (None = they say it) -> trace.
        has_service: whether the rows say which service they are of.
        clock: the zero that the times of all files of the format count from; None = each file has its own.
    """

    columns: tuple[str, ...]
    time: str
    read_rows: Callable[[Path, OnError], Rows]
    make_trace: Callable[[str, Any, Service], Trace]
    has_service: bool
    clock: str | None


_ROW_FORMATS: dict[str, TraceFormat] = {
    "burstgpt": TraceFormat(
        BURSTGPT_COLUMNS,
        BURSTGPT_TIME,
        read_burstgpt_rows,
        lambda name, table, _: burstgpt_trace(name, table),
        has_service=True,
        clock="seconds from the collection's first day",
    ),
    "azure": TraceFormat(
        AZURE_COLUMNS,
        AZURE_TIME,
        read_azure_rows,
        azure_trace,
        has_service=False,
        clock="dates",
    ),
    "mooncake": TraceFormat(
        MOONCAKE_KEYS, MOONCAKE_TIME, read_mooncake_rows, mooncake_trace, has_service=False, clock=None
    ),
}
_PARQUET = "parquet"

FORMATS: tuple[str, ...] = (*_ROW_FORMATS, _PARQUET)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read: the trace, and an account of every row of the files.

    Attributes:
        trace: the requests, in order of time.
        rows: rows in the files, headers and blank lines not counted: len(trace) + len(skipped).
        skipped: the rows that are not in the trace.
        sorted_rows: rows of the trace that were earlier than one before them in their file, and were put in order.
    """

    trace: Trace
    rows: int
    skipped: SkippedRows
    sorted_rows: int


def read_trace(path: Path, format: str = "auto", service: Service | None = None) -> Trace:
    """Read a trace from one file, whose first bad row is an error; see `read_traces`."""
    return read_traces([path], format, service).trace


def read_traces(
    paths: Sequence[Path], format: str = "auto", service: Service | None = None, on_error: OnError = "stop"
) -> Reading:
    """Read one trace from one or several files of one format, packed with gzip, zstd or bz2 or not.

    Several files are merged in order of time, on the clock that they share (BurstGPT's count from one day, Azure's hold
    dates); formats whose files each count from their own start cannot be merged. A session is told by its id, in
    whatever file; requests without one stay sessions of their own. Requests of the same instant keep the order of
    their file, and of the files by their first request.

    Args:
        paths: the files.
        format: 'auto' or one of FORMATS, for all of them.
        service: what all requests are, for a format that does not say (None = conversation).
        on_error: 'stop' = the first row that is bad, or earlier than the one before it, is an error; 'skip' = bad rows
            are left out and counted, rows that are out of order are sorted in and counted.

    Raises:
        InputError: a file is unreadable or in no known format, the files do not belong together, `service` is given
            for a format that says it, no row is good, or (with 'stop') one is bad.
    """
    _check_paths(paths)
    if format != "auto" and format not in FORMATS:
        raise InputError(f"unknown trace format '{format}'; known: auto, {', '.join(FORMATS)}")
    formats = [detect_format(path) if format == "auto" else format for path in paths]
    for path, other in zip(paths, formats, strict=True):
        if other != formats[0]:
            raise InputError(f"{path}: is in format '{other}', {paths[0]} in '{formats[0]}'; give files of one format")
    chosen = _ROW_FORMATS.get(formats[0])
    if service is not None and (chosen is None or chosen.has_service):
        raise InputError(
            f"{paths[0]}: the format '{formats[0]}' says itself which service a request is of; give no service"
        )
    if len(paths) > 1 and (chosen is None or chosen.clock is None):
        raise InputError(
            f"{paths[1]}: cannot be merged with {paths[0]}: each file of format '{formats[0]}' counts from its own "
            "start; give one file"
        )
    if chosen is None:
        trace = read_parquet(paths[0])
        return Reading(trace, len(trace), SkippedRows(), 0)
    name = " + ".join(plain_name(path) for path in paths)
    return _merge(name, paths, [chosen.read_rows(path, on_error) for path in paths], chosen, service)


def detect_format(path: Path) -> str:
    """The name of the format that the file is in.

    Raises:
        InputError: the file is unreadable or in no known format; lists those that are known.
    """
    if is_parquet(path):
        return _PARQUET
    first = head_lines(path)[0]
    header = _json_keys(first) if first.lstrip().startswith("{") else csv_cells(first)
    for name, format in _ROW_FORMATS.items():
        if set(format.columns) <= set(header):
            return name
    if is_rate_series(header):
        raise InputError(
            f"{path}: holds rates, not requests; a workload model turns them into requests "
            "(a stream with `arrivals: {process: counts, ...}`, for `burstscale trace make`)"
        )
    known = ", ".join(f"{name} ({','.join(format.columns)})" for name, format in _ROW_FORMATS.items())
    raise InputError(
        f"{path}: the header '{shown(first, 100)}' is of no known format; known: {known}, {_PARQUET} "
        "(made by `burstscale trace convert`)"
    )


def holds_rates(path: Path) -> bool:
    """Whether the file is a rate series, which `loadgen.rate_series` reads.

    Raises:
        InputError: the file is unreadable, empty, or no text.
    """
    return not is_parquet(path) and is_rate_series(csv_cells(head_lines(path)[0]))


def _check_paths(paths: Sequence[Path]) -> None:
    """At least one file, and none twice."""
    if not paths:
        raise InputError("no trace file is given; give at least one")
    seen = [path.resolve() for path in paths]
    for place, path in enumerate(paths):
        if seen[place] in seen[:place]:
            raise InputError(f"{path}: is given twice; give each file once")


def _merge(
    name: str, paths: Sequence[Path], parts: Sequence[Rows], format: TraceFormat, service: Service | None
) -> Reading:
    """The rows of files on one clock, as one trace."""
    types = [part.table.schema.field(format.time).type for part in parts]
    for path, type_ in zip(paths, types, strict=True):
        if type_ != types[0]:
            raise InputError(
                f"{path}: cannot be merged with {paths[0]}: only one of them has times with a UTC offset; give files "
                "of one collection"
            )
    in_order = sorted(parts, key=lambda part: pc.min(part.table[format.time]).as_py())
    table = pa.concat_tables([part.table for part in in_order], promote_options="default")
    time = table[format.time].to_numpy()
    if np.any(time[1:] < time[:-1]):
        table = table.unify_dictionaries().take(pa.array(np.argsort(time, kind="stable")))
    skipped = SkippedRows.joined([part.skipped for part in parts])
    trace = format.make_trace(name, table, Service.CONVERSATION if service is None else service)
    return Reading(trace, len(trace) + len(skipped), skipped, sum(part.backward for part in parts))


def _json_keys(line: str) -> list[str]:
    """The keys of a JSON object; none where it is no such object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return list(row) if isinstance(row, dict) else []
