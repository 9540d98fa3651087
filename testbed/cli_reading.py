"""Options of the commands that read trace files, and what these say about rows that were not as they should be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from loadgen.trace import SERVICE_LABELS, Service, Trace

if TYPE_CHECKING:
    from loadgen.formats.detect import Reading

TraceFiles = Annotated[
    list[Path],
    typer.Argument(help="A trace in any known format, packed (.gz, .zst, .bz2) or not, or several to merge by time."),
]
FormatName = Annotated[str, typer.Option("--format", help="Format of the files; auto = by their headers.")]
AsService = Annotated[
    str | None,
    typer.Option(help=f"What all requests are ({' or '.join(SERVICE_LABELS)}), for a format that does not say."),
]
OnErrorName = Annotated[
    Literal["stop", "skip"],
    typer.Option("--on-error", help="At a bad row: stop, or skip it and say so (rows out of order are then sorted)."),
]

_warnings = Console(stderr=True)


def read_files(paths: list[Path], format: str, as_service: str | None, on_error: Literal["stop", "skip"]) -> Trace:
    """Read one trace from the files of a command; rows that were skipped or sorted are told on standard error.

    Raises:
        InputError: as `read_traces`, or `as_service` is no service.
    """
    from loadgen.formats.detect import read_traces

    reading = read_traces(paths, format, _service(as_service), on_error)
    for line in account_lines(reading):
        _warnings.print(line, soft_wrap=True, markup=False, highlight=False)
    return reading.trace


def account_lines(reading: "Reading") -> list[str]:
    """What happened to the rows of the files, where it is not simply that all were read."""
    lines = []
    if len(reading.skipped):
        lines.append(f"skipped {len(reading.skipped):,} of {_rows(reading.rows)}:")
        lines += [f"  {_rows(rows)}: {reason}" for reason, rows in reading.skipped.counts.most_common()]
        lines += [f"  such as {example}" for example in reading.skipped.examples]
    if reading.sorted_rows:
        lines.append(f"sorted in {_rows(reading.sorted_rows)} that came after a later one")
    return lines


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _service(label: str | None) -> Service | None:
    """The service of that name."""
    from loadgen.errors import InputError

    if label is not None and label not in SERVICE_LABELS:
        raise InputError(f"--as-service: unknown service '{label}'; known: {', '.join(SERVICE_LABELS)}")
    return None if label is None else Service[label.upper()]
