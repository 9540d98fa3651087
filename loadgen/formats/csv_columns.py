"""Columns of a CSV file, checked: fast where all is well, exact about the line and column where it is not."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from loadgen.errors import InputError, shown
from loadgen.formats.bounds import INT32_MAX, LATEST, within
from loadgen.formats.lines import head_lines
from loadgen.formats.rows import OnError, RowFormat, Rows, read_rows
from loadgen.formats.skipped import BadRow

csv.field_size_limit(INT32_MAX)  # pyarrow has no limit, and both must agree on what is a row

# What pyarrow takes as such a cell, blanks and tabs around it aside.
_INTEGER = re.compile(r"-?[0-9]+|0[xX][0-9a-fA-F]{1,8}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a format needs.

    Attributes:
        name: as in the header.
        want: what a cell must be, for the message about one that is not.
        arrow_type: what the fast reader makes of it.
        all_good: whether a whole column, once converted, holds only what is wanted.
        is_good: whether one cell is what is wanted; agrees with the conversion and `all_good`.
        false_true: what the values of a column of booleans are called; the same for all such columns of a file.
    """

    name: str
    want: str
    arrow_type: Any
    all_good: Callable[[Any], bool]
    is_good: Callable[[str], bool]
    false_true: tuple[str, str] = ("false", "true")


def integers(name: str) -> Column:
    """A column of token counts, or other whole numbers from 0 to 2^31 - 1."""
    return Column(name, "an integer >= 0", pa.int32(), within, _is_integer)


def numbers(name: str, what: str = "a number") -> Column:
    """A column of rates or times, whole or with a fraction."""
    return Column(name, f"{what} from 0 to 10^15", pa.float64(), partial(within, high=LATEST), _is_number)


def optional_numbers(name: str, what: str = "a number") -> Column:
    """A column of numbers in which a cell may be empty (null in the table)."""
    column = numbers(name, what)
    return replace(column, want=f"{column.want}, or nothing", is_good=lambda cell: cell == "" or _is_number(cell))


def instants(name: str, zoned: bool) -> Column:
    """A column of dates with a time, to the nanosecond; `zoned` = they end in a UTC offset."""
    want = "a time like 2023-11-16 18:15:46.6805900" + ("+00:00" if zoned else "")
    type_ = pa.timestamp("ns", "UTC" if zoned else None)
    return Column(name, want, type_, _anything, lambda cell: _is_instant(cell, zoned))


def texts(name: str) -> Column:
    """A column of free text, as a dictionary of the different ones."""
    return Column(name, "UTF-8 text", _DICTIONARY, _are_of_one_line, _is_text)


def either(name: str, false: str, true: str) -> Column:
    """A column that holds one of two words, as booleans."""
    return Column(
        name, f"'{false}' or '{true}'", pa.bool_(), _anything, lambda cell: cell in (false, true), (false, true)
    )


def read_header(path: Path) -> list[str]:
    """The column names in the first line of a CSV file.

    Raises:
        InputError: the file is unreadable, empty, or no text.
    """
    return csv_cells(head_lines(path)[0])


def read_columns(path: Path, columns: Sequence[Column], time: str, on_error: OnError = "stop") -> Rows:
    """Read the wanted columns of a CSV file; `time` names the one whose values are not to go backward.

    A row is one line, blank ones aside. Further columns are ignored. Quotes, CRLF and a byte order mark are fine.

    Raises:
        InputError: naming the missing column, or (with 'stop') the line and column of the first bad cell.
    """
    header = read_header(path)
    for column in columns:
        if header.count(column.name) != 1:
            what = "is missing" if column.name not in header else "appears twice"
            raise InputError(f"{path}: column '{column.name}' {what}; the header is '{shown(','.join(header), 200)}'")
    time_place = header.index(time)
    format = RowFormat(
        has_header=True,
        parse=_parser(header, columns),
        explain=lambda line: _explain(line, header, columns),
        time=time,
        time_text=lambda line: csv_cells(line)[time_place],
    )
    return read_rows(path, format, on_error)


def csv_cells(line: str) -> list[str]:
    """The cells of one line."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return [line]


def is_zoned(instant: str) -> bool | None:
    """Whether a date with a time ends in a UTC offset; None = it is no such date."""
    match = _INSTANT.fullmatch(instant)
    return None if match is None else match[5] is not None


def _parser(header: Sequence[str], columns: Sequence[Column]) -> Callable[[bytes], Any]:
    """The function that turns whole lines into a table, or into None where a line is no good row."""
    wanted = {column.name: column for column in columns}
    names = [name if name in wanted else f"unused {place}" for place, name in enumerate(header)]
    read = pyarrow.csv.ReadOptions(column_names=names)
    words = next((column.false_true for column in columns if pa.types.is_boolean(column.arrow_type)), ("", ""))
    convert = pyarrow.csv.ConvertOptions(
        column_types={column.name: column.arrow_type for column in columns},
        include_columns=list(wanted),
        null_values=[""],
        false_values=[words[0]],
        true_values=[words[1]],
        strings_can_be_null=False,
    )
    required = [column.name for column in columns if not column.is_good("")]

    def parse(lines: Any) -> Any:
        try:
            table = pyarrow.csv.read_csv(pa.BufferReader(lines), read_options=read, convert_options=convert)
        except pa.ArrowInvalid:
            return None
        if any(table[name].null_count for name in required):
            return None
        return table if all(column.all_good(table[column.name]) for column in columns) else None

    return parse


def _explain(line: str, header: Sequence[str], columns: Sequence[Column]) -> BadRow | None:
    """The first thing that is wrong with a line."""
    try:
        cells = next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        return BadRow("is no CSV", f"is no CSV ({error}); a row is one line")
    if len(cells) != len(header):
        return BadRow(
            "has another number of fields than the header",
            f"has {len(cells)} fields, the header has {len(header)}; repair the row",
        )
    for name, cell in zip(header, cells, strict=True):
        for column in columns:
            if column.name == name and not column.is_good(cell):
                return BadRow(
                    f"'{name}' is not {column.want}",
                    f"'{name}' is '{shown(cell)}', want {column.want}",
                )
    return None


_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def _anything(_: Any) -> bool:
    return True


def _are_of_one_line(column: Any) -> bool:
    """Whether no text holds the end of a line, as one does whose quote is not closed."""
    texts = [chunk.dictionary for chunk in column.chunks]
    return not any(pc.any(pc.match_substring_regex(text, "[\r\n]")).as_py() for text in texts)


def _is_integer(cell: str) -> bool:
    cell = cell.strip(" \t")
    if _INTEGER.fullmatch(cell) is None:
        return False
    # As a float, which is exact where it matters: Python makes no int of more than 4,300 digits.
    return 0 <= (int(cell, 16) if "x" in cell.lower() else float(cell)) <= INT32_MAX


def _is_number(cell: str) -> bool:
    cell = cell.strip(" \t")
    return _NUMBER.fullmatch(cell) is not None and 0 <= float(cell) <= LATEST


def _is_instant(cell: str, zoned: bool) -> bool:
    match = _INSTANT.fullmatch(cell)
    if match is None or (match[5] is not None) != zoned:
        return False
    date, hour, minute, second, _ = match.groups(default="00")
    try:
        year = datetime.fromisoformat(f"{date} {hour}:{minute}:{second}").year
    except ValueError:
        return False
    return 1677 <= year <= 2262  # what 64 bits of nanoseconds hold; the fast reader knows the days at both ends


def _is_text(cell: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in cell)
