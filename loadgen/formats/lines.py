"""The lines of a text file in blocks of many: a row of a trace is one line."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.formats.compressed import open_bytes

_BLOCK_BYTES = 1 << 26
_HEAD_BYTES = 1 << 16
_COUNTED_BYTES = 1 << 18
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


def line_blocks(path: Path) -> Iterator[Any]:
    """Read a file, packed or not, as pyarrow buffers of whole lines; a last line without an end is given one.

    Raises:
        InputError: the file cannot be read, or its compressed form is cut off or damaged.
    """
    rest = b""
    with open_bytes(path) as file:
        while block := file.read_buffer(_BLOCK_BYTES):
            if rest:
                block = pa.py_buffer(rest + memoryview(block))
            end = _last_line_end(block)
            if end:
                yield block.slice(0, end)
            rest = bytes(memoryview(block)[end:])
    if rest:
        yield pa.py_buffer(rest if rest.endswith(b"\r") else rest + b"\n")


def split_lines(block: Any) -> list[bytes]:
    """The lines of a block without their ends, which may be those of any system."""
    data = bytes(block)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.removesuffix(b"\n").split(b"\n")


def has_lines(block: Any, rows: int) -> bool:
    """Whether a block has as many lines as rows were found in it: no row was of several lines, no line was blank."""
    codes = np.frombuffer(block, dtype=np.uint8)
    # One pass where line ends are the only control characters; tabs or CRLF take two more.
    if _count(codes, lambda piece: piece <= ord("\r")) == rows:
        return True
    line_feeds, returns = (_count(codes, partial(np.equal, ord(end))) for end in "\n\r")
    if line_feeds != rows or returns not in (0, line_feeds):
        return False
    after_a_letter = np.flatnonzero(codes[1:] == ord("\n")) if returns else np.empty(0, np.intp)
    return int(np.count_nonzero(codes[after_a_letter] == ord("\r"))) == returns


def _count(codes: NDArray[np.uint8], is_counted: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> int:
    """How many bytes are counted; taken in pieces that stay in the processor's cache."""
    pieces = (codes[start : start + _COUNTED_BYTES] for start in range(0, len(codes), _COUNTED_BYTES))
    return sum(int(np.count_nonzero(is_counted(piece))) for piece in pieces)


def head_lines(path: Path) -> list[str]:
    """The whole lines at the beginning of a text file that are not blank, from its first 64 KiB.

    Raises:
        InputError: the file cannot be read, is empty, or is no UTF-8 text.
    """
    with open_bytes(path) as file:
        data = bytes(file.read_buffer(_HEAD_BYTES + 1))
    is_whole = len(data) <= _HEAD_BYTES
    lines = split_lines(data.removeprefix(_BYTE_ORDER_MARK))
    lines = [line for line in (lines if is_whole else lines[:-1]) if line]
    if not lines:
        what = "is empty" if is_whole else f"has no line end in its first {_HEAD_BYTES} bytes"
        raise InputError(f"{path}: {what}; want a trace with a header and at least one row")
    try:
        lines[0].decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line 1 is no UTF-8 text; want a trace in a known format, as UTF-8") from error
    return [line.decode(errors="surrogateescape") for line in lines]


def without_byte_order_mark(block: Any) -> Any:
    """The first block of a file, as text."""
    has_mark = bytes(memoryview(block)[: len(_BYTE_ORDER_MARK)]) == _BYTE_ORDER_MARK
    return block.slice(len(_BYTE_ORDER_MARK)) if has_mark else block


def without_header(block: Any) -> tuple[Any, int]:
    """The first block of a file without its first line that is not blank, and how many lines that takes away."""
    head = bytes(memoryview(block)[:_HEAD_BYTES])
    start = 0
    for number, end in enumerate(_LINE_END.finditer(head), start=1):
        if end.start() > start:
            return block.slice(end.end()), number
        start = end.end()
    return block.slice(len(block)), 1


def _last_line_end(block: Any) -> int:
    """How far the last whole line of a block reaches; 0 = there is none."""
    view = memoryview(block)
    for start in range(len(view), 0, -_HEAD_BYTES):
        place = bytes(view[max(0, start - _HEAD_BYTES) : start]).rfind(b"\n")
        if place >= 0:
            return max(0, start - _HEAD_BYTES) + place + 1
    return 0
