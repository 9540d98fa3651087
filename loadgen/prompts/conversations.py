"""Reads what people wrote in a file of conversations, as ShareGPT's: a JSON list, or one conversation per line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from loadgen.errors import InputError

# The two forms: the key of the turns, the key of who speaks, the key of the text.
_FORMS: Final = {"conversations": ("from", "value"), "messages": ("role", "content")}
_HUMANS: Final = ("human", "user")
_CHUNK_CHARACTERS: Final = 2**22
# An error so near the end of what has been read may be one of the cut, as in the middle of 'true' or '\\u00e9'.
_NEAR_END_CHARACTERS: Final = 16

OnRead = Callable[[float, float], None]
"""Called with (bytes read, bytes of the file)."""


def human_turns(path: Path, on_read: OnRead | None = None) -> Iterator[str]:
    """The texts that people wrote, in the file's order, without white space around them; empty ones are left out.

    The file is read piece by piece, so that its size does not matter.

    Raises:
        InputError: the file is unreadable or malformed; names the conversation and the turn.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for place, entry in _entries(file, path, on_read):
                yield from _human_turns_of(entry, place)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason}); give a JSON or JSONL file") from error


def _entries(file: TextIO, path: Path, on_read: OnRead | None) -> Iterator[tuple[str, Any]]:
    """Each conversation with its place, for messages."""
    buffer = _Buffer(file, path, on_read)
    first = buffer.next_character()
    if first == "{":
        yield from _entries_by_line(buffer, path)
    elif first == "[":
        yield from _entries_of_list(buffer, path)
    else:
        begins = f"begins with {first!r}" if first else "is empty"
        raise InputError(f"{path}: {begins}; want a JSON list of conversations, or one conversation per line")


def _entries_of_list(buffer: "_Buffer", path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    buffer.skip(1)
    if buffer.next_character() == "]":
        return
    while True:
        number += 1
        place = f"{path} conversation {number}"
        yield place, buffer.take_value(place)
        separator = buffer.next_character()
        buffer.skip(1)
        if separator == "]":
            return
        if separator != ",":
            found = f"{separator!r} stands" if separator else "the file ends"
            raise InputError(f"{place}: {found} after it, want ',' or ']'; is the file whole?")


def _entries_by_line(buffer: "_Buffer", path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(buffer.lines(), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: is not JSON ({_reason(error)}); want a conversation on each line") from error


class _Buffer:
    """The part of a file that is being read, with a position in it."""

    def __init__(self, file: TextIO, path: Path, on_read: OnRead | None) -> None:
        self._file = file
        self._on_read = on_read
        self._total_bytes = path.stat().st_size
        self._text = ""
        self._at = 0
        self._is_at_end = False
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The first character that is no white space, which stays; '' at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read_more():
                return ""

    def skip(self, characters: int) -> None:
        self._at += characters

    def take_value(self, place: str) -> Any:
        """Read one JSON value, however long it is.

        Raises:
            InputError: there is none; `place` opens the message.
        """
        self.next_character()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                return value
            except (ValueError, RecursionError) as error:
                if not (self._may_be_cut(error) and self._read_more()):
                    raise InputError(f"{place}: is not JSON ({_reason(error)}); is the file whole?") from error

    def _may_be_cut(self, error: Exception) -> bool:
        """Whether the error may be that the value goes on in what has not been read."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR_END_CHARACTERS

    def lines(self) -> Iterator[str]:
        """The lines from the file's beginning on."""
        self._at = 0
        while True:
            end = self._text.find("\n", self._at)
            if end >= 0:
                yield self._text[self._at : end]
                self._at = end + 1
            elif not self._read_more():
                yield self._text[self._at :]
                return

    def _read_more(self) -> bool:
        """Drop what has been taken and read on, at least as much as is there, so that long values do not cost twice."""
        if self._is_at_end:
            return False
        self._text = self._text[self._at :]
        self._at = 0
        read = self._file.read(max(_CHUNK_CHARACTERS, len(self._text)))
        self._text += read
        self._is_at_end = not read
        if self._on_read is not None:
            self._on_read(self._file.buffer.tell(), self._total_bytes)
        return bool(read)


def _human_turns_of(entry: Any, place: str) -> Iterator[str]:
    """The texts of the people in one conversation."""
    key = next((key for key in _FORMS if isinstance(entry, dict) and key in entry), None)
    if key is None:
        found = f"has the keys {', '.join(map(str, entry))}" if isinstance(entry, dict) else f"is {_short(entry)}"
        raise InputError(f"{place}: {found}, want an object with 'conversations' or 'messages'")
    turns = entry[key]
    if not isinstance(turns, list):
        raise InputError(f"{place}: '{key}' is {_short(turns)}, want a list of turns")
    speaker_key, text_key = _FORMS[key]
    for number, turn in enumerate(turns, start=1):
        speaker = turn.get(speaker_key) if isinstance(turn, dict) else None
        if not isinstance(speaker, str):
            raise InputError(f"{place}, turn {number}: is {_short(turn)}, want an object with '{speaker_key}'")
        if speaker in _HUMANS and (text := _text(turn.get(text_key), text_key, f"{place}, turn {number}")):
            yield text


def _text(value: Any, key: str, place: str) -> str:
    """A turn's text: a string, or the text parts of a list of parts. What is no Unicode becomes a replacement mark."""
    if isinstance(value, list):
        value = "\n".join(str(part["text"]) for part in value if isinstance(part, dict) and "text" in part)
    if not isinstance(value, str):
        raise InputError(f"{place}: '{key}' is {_short(value)}, want text")
    if not value.isascii():  # half of a surrogate pair is valid JSON, and no text
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str(value).strip()


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=True)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
