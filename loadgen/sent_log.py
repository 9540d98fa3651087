"""Which requests a process has sent, in a file that survives its being killed at any instant."""

import mmap
import struct
from pathlib import Path

import numpy as np

_ENTRY = struct.Struct("<dq")  # the instant, then the id plus one: an entry counts once its last part is there
_ENTRY_TYPE = np.dtype([("sent_s", "<f8"), ("id_plus_one", "<i8")])
_GROWTH_ENTRIES = 65_536


def sent_log_path(part: Path) -> Path:
    """Where the log lies that belongs to a file of records."""
    return part.with_suffix(".sent")


class SentLog:
    """Notes requests as they are sent: two words in mapped memory, no call to the system.

    The system writes the pages out; what a killed process has noted is not lost.
    """

    def __init__(self, path: Path) -> None:
        """Open a new file (FileExistsError where there is one)."""
        self.path = path
        self._file = path.open("x+b")
        self._entries = 0
        self._grow()

    def note(self, request_id: int, sent_s: float) -> None:
        """Note one request."""
        if self._entries == self._capacity:
            self._grow()
        _ENTRY.pack_into(self._map, self._entries * _ENTRY.size, sent_s, request_id + 1)
        self._entries += 1

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        self._file.close()

    def remove(self) -> None:
        """Close and delete it: every request that it holds has its record."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _grow(self) -> None:
        self._capacity = self._entries + _GROWTH_ENTRIES
        self._file.truncate(self._capacity * _ENTRY.size)
        self._map = mmap.mmap(self._file.fileno(), self._capacity * _ENTRY.size)


def read_sent_log(path: Path) -> dict[int, float]:
    """When each request was sent, by id, in seconds from the run's start; the first time where it was sent again."""
    content = path.read_bytes()
    entries = np.frombuffer(content[: len(content) - len(content) % _ENTRY.size], _ENTRY_TYPE)
    entries = entries[entries["id_plus_one"] > 0]
    ids, first = np.unique(entries["id_plus_one"] - 1, return_index=True)
    return dict(zip(ids.tolist(), entries["sent_s"][first].tolist(), strict=True))
