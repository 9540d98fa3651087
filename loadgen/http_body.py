"""The body of an HTTP/1.1 answer, taken out of what frames it: chunks, a length, or the connection's end."""

import re
from typing import Protocol

from loadgen.http_head import BadAnswer, ResponseHead

_MAX_LINE_BYTES = 1024
_MAX_TRAILER_BYTES = 16 * 1024
# Sixteen hexadecimal digits would be a chunk of exabytes; eight are 4 GB.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


class Body(Protocol):
    """Takes in what arrives and gives the body's bytes in it.

    Attributes:
        is_whole: the body has ended as announced.
        has_excess: bytes came after its end.
        ends_with_connection: it has no other end.
    """

    is_whole: bool
    has_excess: bool
    ends_with_connection: bool

    def feed(self, received: bytes) -> bytes:
        """The body's bytes in `received`. Raises BadAnswer."""
        ...


def body_of(head: ResponseHead) -> Body:
    """What reads the body that `head` announces."""
    if head.is_chunked:
        return ChunkedBody()
    return SizedBody(head.content_bytes) if head.content_bytes is not None else OpenBody()


class OpenBody:
    """A body that ends with the connection."""

    ends_with_connection = True
    __slots__ = ("has_excess", "is_whole")

    def __init__(self) -> None:
        self.is_whole = False
        self.has_excess = False

    def feed(self, received: bytes) -> bytes:
        """All of it."""
        return received


class SizedBody:
    """A body of known length."""

    ends_with_connection = False
    __slots__ = ("_missing_bytes", "has_excess", "is_whole")

    def __init__(self, content_bytes: int) -> None:
        self._missing_bytes = content_bytes
        self.is_whole = content_bytes == 0
        self.has_excess = False

    def feed(self, received: bytes) -> bytes:
        """What belongs to the body."""
        self.has_excess = len(received) > self._missing_bytes
        content = received[: self._missing_bytes]
        self._missing_bytes -= len(content)
        self.is_whole = self._missing_bytes == 0
        return content


class ChunkedBody:
    """A body in chunks, cut by the network wherever it likes.

    Servers write a chunk for each event, and it mostly arrives alone and whole: that case is read first and fast.

    Source: RFC 9112, section 7.1.
    """

    ends_with_connection = False
    __slots__ = ("_is_in_trailers", "_missing_bytes", "_rest", "has_excess", "is_whole")

    def __init__(self) -> None:
        self._rest = b""
        self._missing_bytes = 0  # of the chunk that has begun, its line end included
        self._is_in_trailers = False
        self.is_whole = False
        self.has_excess = False

    def feed(self, received: bytes) -> bytes:
        """The contents of the chunks in `received`.

        Raises:
            BadAnswer: a size is no number, a chunk is not closed, a line or the trailers are too long.
        """
        if not self._rest and not self._missing_bytes and (match := _SIZE_LINE.match(received)):
            begin, size = match.end(), int(match[1], 16)
            if size and len(received) == begin + size + 2 and received.endswith(b"\r\n"):
                return received[begin:-2]
        return self._feed_cut(received)

    def _feed_cut(self, received: bytes) -> bytes:
        if self._rest:
            received, self._rest = self._rest + received, b""
        contents: list[bytes] = []
        at = 0
        while at < len(received) and not self.is_whole:
            if self._is_in_trailers:
                at = self._skip_trailer(received, at)
            elif self._missing_bytes:
                at = self._take(received, at, contents)
            else:
                at = self._open_chunk(received, at)
        self.has_excess = self.is_whole and at < len(received)
        return b"".join(contents)

    def _open_chunk(self, received: bytes, at: int) -> int:
        match = _SIZE_LINE.match(received, at)
        if match is None:
            line = received[at : at + _MAX_LINE_BYTES]
            if b"\n" in line or len(line) == _MAX_LINE_BYTES or not _may_be_size(line):
                raise BadAnswer(f"size of a chunk is {line.split(bytes([10]))[0][:40]!r}, want a hexadecimal number")
            self._rest = received[at:]
            return len(received)
        size = int(match[1], 16)
        self._missing_bytes = size + 2 if size else 0
        self._is_in_trailers = not size
        return match.end()

    def _take(self, received: bytes, at: int, contents: list[bytes]) -> int:
        """Take the begun chunk's content as far as it is here; its line end once that is here as a whole."""
        content = received[at : at + max(0, self._missing_bytes - 2)]
        if content:
            contents.append(content)
            self._missing_bytes -= len(content)
            at += len(content)
        if self._missing_bytes > 2 or at == len(received):
            return at
        if len(received) - at == 1:
            self._rest = received[at:]
            return len(received)
        if received[at : at + 2] != b"\r\n":
            raise BadAnswer(f"chunk ends with {received[at : at + 2]!r}, want a line end")
        self._missing_bytes = 0
        return at + 2

    def _skip_trailer(self, received: bytes, at: int) -> int:
        end = received.find(b"\n", at)
        if (end if end >= 0 else len(received)) - at > _MAX_TRAILER_BYTES:
            raise BadAnswer(f"trailer is longer than {_MAX_TRAILER_BYTES} bytes")
        if end < 0:
            self._rest = received[at:]
            return len(received)
        self.is_whole = received[at : end + 1] in (b"\r\n", b"\n")
        return end + 1


def _may_be_size(line: bytes) -> bool:
    """Whether more bytes could make a size line of it."""
    return re.fullmatch(rb"[0-9A-Fa-f]{1,8}[ \t]*(;[^\r\n]*)?\r?", line) is not None
