"""The rows of a trace file: read many at a time where all are good, one by one where some are not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from loadgen.errors import InputError, shown
from loadgen.formats.lines import has_lines, line_blocks, split_lines, without_byte_order_mark, without_header
from loadgen.formats.skipped import BadRow, SkippedRows

OnError = Literal["stop", "skip"]

_SIFTED_LINES = 4096


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How the lines of a format become rows.

    Attributes:
        has_header: whether the first line that is not blank is no row.
        parse: whole lines, as bytes or a pyarrow Buffer -> a pyarrow Table of one row for each; None where any line is
            no good row. It need not notice rows of several lines.
        explain: one line -> what is wrong with it; None where nothing is seen.
        time: the name of the column that puts rows in order.
        time_text: one line -> its time, as it is written.
    """

    has_header: bool
    parse: Callable[[Any], Any]
    explain: Callable[[str], BadRow | None]
    time: str
    time_text: Callable[[str], str]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of a file.

    Attributes:
        table: a pyarrow Table of the good rows, as they stand in the file.
        skipped: the others.
        backward: good rows that are earlier than one before them.
    """

    table: Any
    skipped: SkippedRows
    backward: int


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Good rows that follow one another: the table, and their lines as they are in the file."""

    table: Any
    lines: Callable[[], Sequence[tuple[int, bytes]]]


def read_rows(path: Path, format: RowFormat, on_error: OnError) -> Rows:
    """Read all rows of a file; with 'stop', the first one that is bad or goes backward in time is an error.

    Raises:
        InputError: the file cannot be read, holds no good row, or (with 'stop') a row is bad: file, line, value.
    """
    skipped = SkippedRows()

    def report(line: int, row: BadRow) -> None:
        if on_error == "stop":
            raise InputError(f"{path.name} line {line}: {row.problem}")
        skipped.add(f"{path.name} line {line}", row)

    tables, backward = [], 0
    latest: Any = None
    before: _Part | None = None
    for part in _good_parts(path, format, report, on_error):
        time = _comparable(part.table[format.time])
        if (latest is not None and time[0] < latest) or np.any(time[1:] < time[:-1]):
            is_backward = _is_backward(time, latest)
            if on_error == "stop":
                _raise_backward(path, format, before, part, int(np.argmax(is_backward)))
            backward += int(np.count_nonzero(is_backward))
        latest = time.max() if latest is None else max(time.max(), latest)
        tables.append(part.table)
        before = part
    if not tables:
        _raise_empty(path, format, skipped)
    return Rows(pa.concat_tables(tables), skipped, backward)


def _good_parts(
    path: Path, format: RowFormat, report: Callable[[int, BadRow], None], on_error: OnError
) -> Iterator[_Part]:
    """The good rows of a file, in order; a bad one is reported when those before it have been given out."""
    first_line = 1
    for place, block in enumerate(line_blocks(path)):
        if place == 0:
            block = without_byte_order_mark(block)
            if format.has_header:
                block, header_lines = without_header(block)
                first_line += header_lines
            if len(block) == 0:
                continue
        table = format.parse(block)
        if table is not None and has_lines(block, table.num_rows):
            yield _Part(table, partial(_numbered, block, first_line))
            first_line += table.num_rows
            continue
        numbered = list(enumerate(split_lines(block), start=first_line))
        first_line += len(numbered)
        rows = [(number, line) for number, line in numbered if line]
        for first in range(0, len(rows), _SIFTED_LINES):
            yield from _sifted(rows[first : first + _SIFTED_LINES], format, report, on_error)


def _numbered(block: Any, first_line: int) -> list[tuple[int, bytes]]:
    """Number and text of every line of a block that is not blank."""
    return [(number, line) for number, line in enumerate(split_lines(block), start=first_line) if line]


def _sifted(
    lines: Sequence[tuple[int, bytes]], format: RowFormat, report: Callable[[int, BadRow], None], on_error: OnError
) -> Iterator[_Part]:
    """The good rows among some lines, which are looked at one by one unless all are good."""
    table = _parse_lines(lines, format)
    if table is not None:
        yield _Part(table, lambda: lines)
        return
    good, bad = [], []
    for number, line in lines:
        row = _explain(line, format)
        if row is None:
            good.append((number, line))
            continue
        bad.append((number, row))
        if on_error == "stop":
            break
    table = _parse_lines(good, format)
    if table is not None:
        yield _Part(table, lambda: good)
    else:
        # Lines of which `explain` finds no fault but `parse` does.
        for number, line in good:
            table = _parse_lines([(number, line)], format)
            if table is not None:
                yield _Part(table, partial(list, [(number, line)]))
                continue
            bad.append((number, BadRow("is no row of this format", f"'{shown(_text(line))}' is no row of this format")))
            if on_error == "stop":
                break
    for number, row in sorted(bad, key=lambda numbered: numbered[0]):
        report(number, row)


def _parse_lines(lines: Sequence[tuple[int, bytes]], format: RowFormat) -> Any:
    """One good row for each line, or None."""
    table = format.parse(b"".join(line + b"\n" for _, line in lines)) if lines else None
    return table if table is not None and table.num_rows == len(lines) else None


def _explain(line: bytes, format: RowFormat) -> BadRow | None:
    """What is wrong with a line. Quotes can be read in more ways than one: there `parse` has the last word."""
    row = format.explain(_text(line))
    is_good_after_all = row is not None and b'"' in line and _parse_lines([(0, line)], format) is not None
    return None if is_good_after_all else row


def _comparable(column: Any) -> Any:
    """A column of times as an array that can be compared: f64, or i64 for dates."""
    array = column.to_numpy()
    return array.view(np.int64) if array.dtype.kind == "M" else array


def _is_backward(time: Any, latest: Any) -> Any:
    """bool[n]: which rows are earlier than one before them, the latest of earlier parts included."""
    latest_before = np.maximum.accumulate(np.concatenate([time[:1] if latest is None else [latest], time[:-1]]))
    return time < latest_before


def _raise_backward(path: Path, format: RowFormat, before: _Part | None, part: _Part, row: int) -> None:
    """Raise InputError for the first row of a part that is earlier than the one before it."""
    lines = part.lines()
    previous = lines[row - 1] if row else before.lines()[-1] if before else lines[0]
    earlier, later = (shown(format.time_text(_text(line))) for _, line in (previous, lines[row]))
    raise InputError(
        f"{path.name} line {lines[row][0]}: '{format.time}' goes backward ({earlier}, then {later}); sort the file by "
        "it, or read it with --on-error skip, which sorts"
    )


def _raise_empty(path: Path, format: RowFormat, skipped: SkippedRows) -> None:
    if len(skipped) == 0:
        what = "a header and no request" if format.has_header else "no request"
        raise InputError(f"{path}: holds {what}; want at least one row")
    raise InputError(f"{path}: none of its {len(skipped)} rows can be read; the first: {skipped.examples[0]}")


def _text(line: bytes) -> str:
    return line.decode(errors="surrogateescape")
