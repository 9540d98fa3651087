"""Server-sent events, and what the events of one streamed completion say: tokens and when, counts, error, end."""

import json
import re
from itertools import pairwise
from typing import Any

# In a JSON string every quote is escaped, so generated text cannot look like one of these keys.
_CONTENT = re.compile(rb'"(?:content|text|reasoning_content|reasoning)"\s*:\s*"(?!")')
_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_USAGE_KEY = b'"usage"'
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,10})\b')
_ERROR = b'"error"'
_DONE = b"[DONE]"
# An event holds a token or two; one that never ends must not fill the memory.
MAX_EVENT_BYTES = 2**20
_MAX_TOKENS = 2**31 - 1


class EndlessEvent(Exception):  # noqa: N818 - it is the event that is at fault
    """An event is longer than `MAX_EVENT_BYTES`."""


class EventParser:
    """Cuts a byte stream into the data of its events, wherever the network cut it.

    Lines end with LF, CRLF or CR; comments and fields other than `data` are skipped; several `data` lines of one event
    are joined by LF. An event of one line that arrives alone and whole is the usual case, read without splitting lines.

    Source: WHATWG HTML Standard, section 9.2.6 "Interpreting an event stream".
    """

    __slots__ = ("_after_cr", "_data", "_held_bytes", "_rest")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that is not whole; in pieces, since joining each would be quadratic
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that `chunk` completes.

        Raises:
            EndlessEvent: the event that has begun is too long.
        """
        if (
            chunk.startswith(b"data: ")
            and chunk.find(b"\n") == len(chunk) - 2
            and chunk.endswith(b"\n\n")
            and not self._rest
            and not self._data
            and b"\r" not in chunk
        ):
            self._after_cr = False
            return [chunk[6:-2]]
        return self._feed_lines(chunk)

    def finish(self) -> bytes:
        """The data of an event that the stream ended in before its closing blank line; empty if there is none."""
        self._take(b"".join(self._rest))
        return b"\n".join(self._data)

    def _feed_lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a CRLF that was split
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        self._rest.append(chunk)
        self._held_bytes += len(chunk)
        events: list[bytes] = []
        if b"\n" in chunk or b"\r" in chunk:
            lines = b"".join(self._rest).splitlines()
            self._rest = [] if chunk.endswith((b"\n", b"\r")) else [lines.pop()]
            for line in lines:
                if line:
                    self._take(line)
                elif self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            self._held_bytes = sum(map(len, self._rest)) + sum(map(len, self._data))
        if self._held_bytes > MAX_EVENT_BYTES:
            raise EndlessEvent
        return events

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])


class StreamedAnswer:
    """What the stream of one chat completion or completion has said so far.

    A content chunk costs a few searches in its bytes; only the last chunk with a usage block, and chunks that may hold
    an error, are decoded. A server that is asked for `continuous_usage_stats` tells with each chunk how many tokens
    there are so far.

    Source: vllm, entrypoints/openai/chat_completion/serving.py and completion/serving.py (include_continuous_usage).

    Attributes:
        content_s: when each chunk with text came; a chunk holds one token or more.
        done_s: when `[DONE]` came; None = not yet.
        error: the error that the server put into the stream; None = none.
    """

    __slots__ = ("_first_choice_s", "_parser", "_running_tokens", "_usage", "content_s", "done_s", "error")

    def __init__(self) -> None:
        self._parser = EventParser()
        self._usage: bytes | None = None
        self._first_choice_s: float | None = None
        self._running_tokens: list[int] = []  # at each chunk with text that tells it
        self.content_s: list[float] = []
        self.done_s: float | None = None
        self.error: dict[str, Any] | None = None

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Take in the bytes that arrived at `now_s`.

        Raises:
            EndlessEvent: an event is longer than any that makes sense.
        """
        for event in self._parser.feed(chunk):
            self._read(event, now_s)

    def finish(self, now_s: float) -> None:
        """Take in the end of the stream: some servers leave out the blank line after `[DONE]`."""
        if self.done_s is None and self._parser.finish() == _DONE:
            self.done_s = now_s

    @property
    def first_token_s(self) -> float | None:
        """When the first chunk with text came; where tokens were counted but none had text, the first with a choice.

        Special tokens print nothing; they were generated all the same.
        """
        if self.content_s:
            return self.content_s[0]
        return self._first_choice_s if self.reported_tokens else None

    def chunk_offsets_s(self) -> tuple[float, ...] | None:
        """When each chunk with text came, from the first one on, to a microsecond; None where none came."""
        if not self.content_s:
            return None
        first_s = self.content_s[0]
        return tuple([round(instant_s - first_s, 6) for instant_s in self.content_s])

    def chunk_tokens(self) -> tuple[int, ...] | None:
        """The tokens that came with each chunk with text; None = not told, or one with each and none beside them.

        Tokens without text of their own count with the next chunk.
        """
        running = self._running_tokens
        if not running or len(running) != len(self.content_s):
            return None
        tokens = tuple([after - before for before, after in pairwise([0, *running])])
        is_plain = running[-1] == self.output_tokens and set(tokens) == {1}
        return None if is_plain or min(tokens) < 0 or running[-1] > self.output_tokens else tokens

    @property
    def reported_tokens(self) -> int | None:
        """Output tokens by the last usage block; None where the server sent none that makes sense."""
        if self._usage is None:
            return None
        try:
            tokens = int(json.loads(self._usage)["usage"]["completion_tokens"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return tokens if 0 <= tokens <= _MAX_TOKENS else None

    @property
    def output_tokens(self) -> int:
        """Tokens received: as the server reports them, else one for each chunk with text."""
        return self.reported_tokens or len(self.content_s)

    def _read(self, event: bytes, now_s: float) -> None:
        if event == _DONE:
            if self.done_s is None:
                self.done_s = now_s
            return
        if _CONTENT.search(event):
            self.content_s.append(now_s)
            if (at := event.find(_USAGE_KEY)) >= 0 and (tokens := _COMPLETION_TOKENS.search(event, at)):
                self._usage = event
                self._running_tokens.append(int(tokens[1]))
        else:
            if self._first_choice_s is None and _CHOICE.search(event):
                self._first_choice_s = now_s
            if _USAGE_KEY in event and _USAGE.search(event):
                self._usage = event
        if _ERROR in event and self.error is None:
            self.error = read_error(event)


def read_error(body: bytes) -> dict[str, Any] | None:
    """The error object in a JSON body or event; None where it holds none.

    Takes `{"error": {...}}`, `{"error": "text"}`, `{"object": "error", ...}` and `{"detail": ...}`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error") or document.get("detail")
    if document.get("object") == "error":
        error = document
    if isinstance(error, dict):
        return error
    return {"message": str(error)} if error else None
