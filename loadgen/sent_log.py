"""Which requests a process has sent, in a file that survives its being killed at any instant."""

import mmap
import os
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa

# The request's instant, when it was sent, and last its id plus one: an entry counts once its last part is there.
_ENTRY = struct.Struct("<ddq")
_ENTRY_TYPE = np.dtype([("scheduled_s", "<f8"), ("sent_s", "<f8"), ("id_plus_one", "<i8")])
_GROWTH_ENTRIES = 65_536

SENT_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),
        pa.field("scheduled_s", pa.float64(), nullable=False),
        pa.field("sent_s", pa.float64(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)


def sent_log_path(part: Path) -> Path:
    """Where the log lies that belongs to a file of records."""
    return part.with_suffix(".sent")


class SentLog:
    """Notes requests as they are sent: three words in mapped memory, no call to the system.

    The system writes the pages out; what a killed process has noted is not lost.
    """

    def __init__(self, path: Path) -> None:
        """Open a new file (FileExistsError where there is one, OSError where there is no room)."""
        self.path = path
        self._file = path.open("x+b")
        self._entries = 0
        self._grow()

    def note(self, request_id: int, scheduled_s: float, sent_s: float) -> None:
        """Note one request."""
        if self._entries == self._capacity:
            self._grow()
        _ENTRY.pack_into(self._map, self._entries * _ENTRY.size, scheduled_s, sent_s, request_id + 1)
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
        capacity = self._entries + _GROWTH_ENTRIES
        # With the disk's blocks taken now, a full disk is an error here, not the process's end (SIGBUS) later.
        os.posix_fallocate(self._file.fileno(), 0, capacity * _ENTRY.size)
        self._map = mmap.mmap(self._file.fileno(), capacity * _ENTRY.size)
        self._capacity = capacity


def read_sent_log(path: Path) -> pa.Table:
    """What was sent, with `SENT_SCHEMA`, in order of request_id; of what was sent again, when it was the first time."""
    content = path.read_bytes()
    entries = np.frombuffer(content[: len(content) - len(content) % _ENTRY.size], _ENTRY_TYPE)
    entries = entries[entries["id_plus_one"] > 0]
    ids, first, attempts = np.unique(entries["id_plus_one"] - 1, return_index=True, return_counts=True)
    columns = [ids, entries["scheduled_s"][first], entries["sent_s"][first], attempts.astype(np.int32)]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=SENT_SCHEMA)
