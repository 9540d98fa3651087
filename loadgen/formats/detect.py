"""Any known trace file -> Trace: the format is told by the file itself, or named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loadgen.errors import InputError
from loadgen.formats.azure import AZURE_COLUMNS, read_azure
from loadgen.formats.burstgpt import BURSTGPT_COLUMNS, read_burstgpt
from loadgen.formats.csv_columns import read_head
from loadgen.formats.parquet import is_parquet, read_parquet
from loadgen.formats.skipped import SkippedRows
from loadgen.trace import Service, Trace

FORMATS: tuple[str, ...] = ("burstgpt", "azure", "parquet")

_KNOWN = (
    f"burstgpt ({','.join(BURSTGPT_COLUMNS)}), azure ({','.join(AZURE_COLUMNS)}), "
    "parquet (made by `burstscale trace convert`)"
)

OnError = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read: the trace, and an account of every row of the files.

    Attributes:
        trace: the requests, in order of time.
        rows: rows in the files, headers and blank lines not counted: len(trace) + len(skipped).
        skipped: the rows that are not in the trace.
    """

    trace: Trace
    rows: int
    skipped: SkippedRows


def read_traces(
    paths: Sequence[Path], format: str = "auto", service: Service | None = None, on_error: OnError = "stop"
) -> Reading:
    """Read one trace from one or several files.

    Args:
        paths: the files.
        format: 'auto' or one of FORMATS, for all of them.
        service: what all requests are, for a format that does not say (None = conversation).
        on_error: 'stop' = the first bad row is an error; 'skip' = bad rows are left out and counted.

    Raises:
        InputError: as `read_trace`.
    """
    if len(paths) != 1 or on_error == "skip":
        raise InputError("several files, or files with bad rows, cannot be read yet; give one good file")
    trace = read_trace(paths[0], format, service)
    return Reading(trace, len(trace), SkippedRows())


def read_trace(path: Path, format: str = "auto", service: Service | None = None) -> Trace:
    """Read a trace; the format 'auto' goes by the header.

    Args:
        path: the file.
        format: 'auto' or one of FORMATS.
        service: what all requests are, for a format that does not say (azure; None = conversation).

    Raises:
        InputError: the format is unknown, the file is not in it, or `service` is given for a format that says it.
    """
    if format == "auto":
        format = detect_format(path)
    if format not in FORMATS:
        raise InputError(f"unknown trace format '{format}'; known: auto, {', '.join(FORMATS)}")
    if format == "azure":
        return read_azure(path, Service.CONVERSATION if service is None else service)
    if service is not None:
        raise InputError(f"{path}: the format '{format}' says itself which service a request is of; give no service")
    return read_burstgpt(path) if format == "burstgpt" else read_parquet(path)


def detect_format(path: Path) -> str:
    """The name of the format that the file is in.

    Raises:
        InputError: the file is unreadable or in no known format; lists those that are known.
    """
    if is_parquet(path):
        return "parquet"
    header, _ = read_head(path)
    for name, columns in (("burstgpt", BURSTGPT_COLUMNS), ("azure", AZURE_COLUMNS)):
        if set(columns) <= set(header):
            return name
    shown = ",".join(header)
    shown = shown if len(shown) <= 100 else shown[:100] + "..."
    raise InputError(f"{path}: the header '{shown}' is of no known format; known: {_KNOWN}")
