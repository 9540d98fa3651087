"""The head of an HTTP/1.1 answer: its status, its headers, and where its body ends; nothing in it is taken on trust."""

import re
from dataclasses import dataclass

# Servers send heads of a few hundred bytes; one that never ends must not fill the memory.
MAX_HEAD_BYTES = 64 * 1024
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_LENGTH = re.compile(r"\d{1,15}")


class BadAnswer(Exception):  # noqa: N818 - it is the answer that is bad
    """What the server sent is no HTTP/1.1 answer; the message says in what."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of an answer.

    Attributes:
        headers: by name in lower case; the values of one name are joined by ', '.
        is_chunked: the body comes in chunks; else it has `content_bytes`, or (None) ends with the connection.
        keeps_alive: the server will take another request on the connection.
    """

    status: int
    headers: dict[str, str]
    is_chunked: bool
    content_bytes: int | None
    keeps_alive: bool

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; empty where none is named."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


def end_of_head(received: bytes) -> int | None:
    """Where the head ends in the bytes received so far; None = not yet.

    Raises:
        BadAnswer: it is too long, or its first bytes are none of HTTP.
    """
    if not b"HTTP/1.".startswith(received[:7]):
        raise BadAnswer(f"answer starts with {received[:20]!r}, want 'HTTP/1.1 STATUS'")
    match = _END_OF_HEAD.search(received)
    if (match.start() if match else len(received)) > MAX_HEAD_BYTES:
        raise BadAnswer(f"head of the answer is longer than {MAX_HEAD_BYTES} bytes")
    return match.end() if match else None


def parse_head(head: bytes) -> ResponseHead:
    """Read a whole head, blank line included.

    Raises:
        BadAnswer: a line is malformed, or the headers contradict each other about the body's length.

    Source: RFC 9112, sections 4 (status line), 5 (headers), 6.3 (length of the body), 9.3 (persistence).
    """
    status_line, *lines = head.rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise BadAnswer(f"status line is {status_line[:60]!r}, want 'HTTP/1.1 STATUS REASON'")
    minor, status = match[1], int(match[2])
    headers: dict[str, str] = {}
    for line in lines:
        field = _HEADER.fullmatch(line)
        if field is None:
            raise BadAnswer(f"header line is {line[:60]!r}, want 'name: value'")
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    is_chunked = _is_chunked(headers)
    length = _content_bytes(headers)
    if status < 200 or status in (204, 304):
        is_chunked, length = False, 0
    options = headers.get("connection", "").lower()
    keeps_alive = ("keep-alive" in options) if minor == b"0" else ("close" not in options)
    # A server that names both lengths is confused or lies: RFC 9112, section 6.1.
    has_one_length = is_chunked != (length is not None)
    return ResponseHead(status, headers, is_chunked, None if is_chunked else length, keeps_alive and has_one_length)


def _is_chunked(headers: dict[str, str]) -> bool:
    coding = headers.get("transfer-encoding")
    if coding is None:
        return False
    if coding.lower() != "chunked":
        raise BadAnswer(f"transfer-encoding is '{coding[:40]}', want chunked")
    return True


def _content_bytes(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    lengths = {length.strip() for length in text.split(",")}
    if len(lengths) != 1 or not _LENGTH.fullmatch(length := lengths.pop()):
        raise BadAnswer(f"content-length is '{text[:40]}', want one number")
    return int(length)
