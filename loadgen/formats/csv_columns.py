"""Columns of a CSV file, checked: fast where all is well, exact about the line and column where it is not."""

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from loadgen.errors import InputError

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a format needs.

    Attributes:
        name: as in the header.
        want: what a cell must be, for the message about one that is not.
        arrow_type: what the fast reader makes of it.
        all_valid: whether a whole column, once converted, holds only what is wanted.
        parse: one cell as a value that can be ordered; None = not what is wanted.
    """

    name: str
    want: str
    arrow_type: Any
    all_valid: Callable[[Any], bool]
    parse: Callable[[str], Any]


def integers(name: str) -> Column:
    """A column of token counts."""
    return Column(name, "an integer >= 0", pa.int64(), _all_between_0_and_int32_max, _parse_integer)


def seconds(name: str) -> Column:
    """A column of instants in seconds, whole or with a fraction."""
    return Column(name, "a number of seconds >= 0", pa.float64(), _all_finite_and_not_negative, _parse_seconds)


def numbers(name: str) -> Column:
    """A column of rates or other numbers."""
    return Column(name, "a number >= 0", pa.float64(), _all_finite_and_not_negative, _parse_seconds)


def instants(name: str, zoned: bool) -> Column:
    """A column of dates with a time, to the nanosecond; `zoned` = they end in a UTC offset."""
    want = "a time like 2023-11-16 18:15:46.6805900" + ("+00:00" if zoned else "")
    return Column(
        name, want, pa.timestamp("ns", "UTC" if zoned else None), _anything, lambda cell: _parse_instant(cell, zoned)
    )


def texts(name: str) -> Column:
    """A column of free text."""
    return Column(name, "text", pa.string(), _anything, str)


def choices(name: str, known: Sequence[str]) -> Column:
    """A column that holds one of a few words."""
    return Column(
        name,
        " or ".join(f"'{word}'" for word in known),
        pa.string(),
        lambda values: bool(pc.all(pc.is_in(values, pa.array(known))).as_py()),
        lambda cell: cell if cell in known else None,
    )


def is_zoned(instant: str) -> bool:
    """Whether a date with a time ends in a UTC offset."""
    return re.search(r"(Z|[+-]\d\d:?\d\d)$", instant.strip()) is not None


def read_head(path: Path) -> tuple[list[str], list[str]]:
    """Read the header of a CSV file and its first row (empty where there is none).

    Raises:
        InputError: the file is unreadable, empty, or no text.
    """
    with _rows(path) as rows:
        head = [row for row, _ in zip((row for row in rows if row), range(2), strict=False)]
    if not head:
        raise InputError(f"{path}: is empty; want a trace with a header and at least one row")
    return head[0], head[1] if len(head) > 1 else []


def read_columns(path: Path, columns: Sequence[Column], in_order: str) -> Any:
    """Read the wanted columns of a CSV file as a pyarrow Table, whose column `in_order` never decreases.

    Further columns in the file are ignored. Quoted cells, CRLF and blank lines are fine.

    Raises:
        InputError: naming the missing column, or the line and column of the first bad cell.
    """
    header, _ = read_head(path)
    for column in columns:
        if header.count(column.name) != 1:
            what = "is missing" if column.name not in header else "appears twice"
            raise InputError(f"{path}: column '{column.name}' {what}; the header is '{','.join(header)}'")
    convert = pyarrow.csv.ConvertOptions(
        column_types={column.name: column.arrow_type for column in columns},
        include_columns=[column.name for column in columns],
        null_values=[],  # an empty or 'NaN' cell is a bad cell, not a missing one
        strings_can_be_null=False,
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=False)
    try:
        table = pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        _raise_first_problem(path, header, columns, in_order)
        raise InputError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: holds a header and no request; want at least one row")
    ordered = table[in_order].to_numpy()
    if not (all(column.all_valid(table[column.name]) for column in columns) and np.all(ordered[:-1] <= ordered[1:])):
        _raise_first_problem(path, header, columns, in_order)
        raise InputError(f"{path}: holds a bad cell or is not in order of '{in_order}'; check the file")
    return table


def _raise_first_problem(path: Path, header: list[str], columns: Sequence[Column], in_order: str) -> None:
    """Go through the file row by row and raise InputError for the first bad one; return if none is found."""
    places = [(header.index(column.name), column) for column in columns]
    before: tuple[Any, str] | None = None
    with _rows(path) as rows:
        for number, row in enumerate(row for row in rows if row):
            if number == 0:
                continue  # the header
            where = f"{path.name} line {rows.line_num}"
            if len(row) != len(header):
                raise InputError(f"{where}: has {len(row)} fields, the header has {len(header)}; repair the row")
            for place, column in places:
                value = column.parse(row[place])
                if value is None:
                    raise InputError(f"{where}: '{column.name}' is '{row[place]}', want {column.want}")
                if column.name != in_order:
                    continue
                if before is not None and value < before[0]:
                    raise InputError(
                        f"{where}: '{in_order}' goes backward ({before[1]}, then {row[place]}); "
                        f"sort the file by it first"
                    )
                before = value, row[place]


class _CountedRows:
    """A csv.reader whose errors are InputErrors with the file and line."""

    def __init__(self, path: Path, reader: Any) -> None:
        self._path = path
        self._reader = reader

    @property
    def line_num(self) -> int:
        """Lines read so far."""
        return int(self._reader.line_num)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        try:
            row: list[str] = next(self._reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{self._path.name} line {self.line_num + 1}: is no CSV text ({error}); want UTF-8 with commas"
            ) from error
        return row


@contextmanager
def _rows(path: Path) -> Iterator[_CountedRows]:
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    with file:
        yield _CountedRows(path, csv.reader(file))


def _all_between_0_and_int32_max(values: Any) -> bool:
    bounds = pc.min_max(values).as_py()
    return bool(bounds["min"] >= 0 and bounds["max"] <= _INT32_MAX)


def _all_finite_and_not_negative(values: Any) -> bool:
    array = values.to_numpy()
    return bool(np.all(np.isfinite(array) & (array >= 0)))


def _anything(_: Any) -> bool:
    return True


def _parse_integer(cell: str) -> int | None:
    cell = cell.strip()
    return int(cell) if re.fullmatch(r"[0-9]{1,10}", cell) and int(cell) <= _INT32_MAX else None


def _parse_seconds(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _parse_instant(cell: str, zoned: bool) -> tuple[datetime, int] | None:
    """The instant as (whole second, nanoseconds): `datetime` alone would drop the digits below a microsecond."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", cell.strip())
    if match is None or (match[3] is not None) != zoned:
        return None
    try:
        whole = datetime.fromisoformat(match[1] + (match[3] or ""))
    except ValueError:
        return None
    return whole, int((match[2] or "0").ljust(9, "0"))
