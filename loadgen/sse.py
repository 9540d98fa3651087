"""Server-sent events, and what the events of one streamed completion say: first token, counts, error, end."""

import json
import re
from typing import Any

# In a JSON string every quote is escaped, so generated text cannot look like one of these keys.
_CONTENT = re.compile(rb'"(?:content|text|reasoning_content|reasoning)"\s*:\s*"(?!")')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_ERROR = b'"error"'
_DONE = b"[DONE]"


class EventParser:
    """Cuts a byte stream into the data of its events, wherever the network cut it.

    Lines end with LF, CRLF or CR; comments and fields other than `data` are skipped; several `data` lines of one event
    are joined by LF.

    Source: WHATWG HTML Standard, section 9.2.6 "Interpreting an event stream".
    """

    __slots__ = ("_after_cr", "_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that `chunk` completes."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a CRLF that was split
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        lines = (self._rest + chunk).splitlines()
        self._rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        events = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events

    def finish(self) -> bytes:
        """The data of an event that the stream ended in before its closing blank line; empty if there is none."""
        self._take(self._rest)
        return b"\n".join(self._data)

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])


class StreamedAnswer:
    """What the stream of one chat completion or completion has said so far.

    A content chunk costs three searches in its bytes; only the last chunk with a usage block, and chunks that may hold
    an error, are decoded.

    Attributes:
        first_token_s: when the first chunk with text came; None = none so far.
        content_chunks: chunks with text; each holds one token or more.
        done: `[DONE]` came.
        error: the error that the server put into the stream; None = none.
    """

    __slots__ = ("_first_choice_s", "_parser", "_usage", "content_chunks", "done", "error", "first_token_s")

    def __init__(self) -> None:
        self._parser = EventParser()
        self._usage: bytes | None = None
        self._first_choice_s: float | None = None
        self.first_token_s: float | None = None
        self.content_chunks = 0
        self.done = False
        self.error: dict[str, Any] | None = None

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Take in the bytes that arrived at `now_s`."""
        for event in self._parser.feed(chunk):
            self._read(event, now_s)

    def finish(self) -> None:
        """Take in the end of the stream: some servers leave out the blank line after `[DONE]`."""
        self.done = self.done or self._parser.finish() == _DONE

    def settle(self) -> None:
        """Place the first token at the first chunk with a choice where tokens were counted but none had text.

        Special tokens print nothing; they were generated all the same.
        """
        if self.first_token_s is None and self.reported_tokens:
            self.first_token_s = self._first_choice_s

    @property
    def reported_tokens(self) -> int | None:
        """Output tokens by the last usage block; None where the server sent none."""
        if self._usage is None:
            return None
        try:
            return int(json.loads(self._usage)["usage"]["completion_tokens"])
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def output_tokens(self) -> int:
        """Tokens received: as the server reports them, else one for each chunk with text."""
        return self.reported_tokens or self.content_chunks

    def _read(self, event: bytes, now_s: float) -> None:
        if event == _DONE:
            self.done = True
            return
        if _CONTENT.search(event):
            self.content_chunks += 1
            if self.first_token_s is None:
                self.first_token_s = now_s
        elif self._first_choice_s is None and _CHOICE.search(event):
            self._first_choice_s = now_s
        if _USAGE.search(event):
            self._usage = event
        if _ERROR in event and self.error is None:
            self.error = read_error(event)


def read_error(body: bytes) -> dict[str, Any] | None:
    """The error object in a JSON body or event; None where it holds none.

    Takes `{"error": {...}}`, `{"error": "text"}`, `{"object": "error", ...}` and `{"detail": ...}`.
    """
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error") or document.get("detail")
    if document.get("object") == "error":
        error = document
    if isinstance(error, dict):
        return error
    return {"message": str(error)} if error else None
