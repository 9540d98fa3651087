"""What each line of a trace file is, by the formats' descriptions alone: a plain oracle, one line after the other."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np

from loadgen.formats.detect import Reading

INT32_MAX = 2**31 - 1
LATEST = 10**15
LINE_END = re.compile(rb"\r\n|\n|\r")


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
