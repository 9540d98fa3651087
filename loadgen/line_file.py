"""A file that one process appends lines to, and that is whole up to its last line however the process ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class LineFile:
    """Appends lines, each handed to the operating system before `write_line` returns: killing the process loses none.

    At worst the last line is cut short, and `whole_lines` leaves it out. While it is open the file is locked, so that
    others can tell (`is_being_written`); a lock ends with its process.
    """

    def __init__(self, path: Path) -> None:
        """Open a new file; one that exists is never appended to or overwritten (FileExistsError)."""
        self._file = path.open("xb", buffering=0)
        self._bytes = 0
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def write_line(self, line: bytes) -> None:
        """Write a line (without its end); OSError where there is no room for all of it, and then nothing is written."""
        rest = memoryview(line + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.seek(self._bytes)
            self._file.truncate()
            raise
        self._bytes += len(line) + 1

    def sync(self) -> None:
        """Return once the disk has what was appended; for another thread than the one that appends."""
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def whole_lines(path: Path) -> list[bytes]:
    """The lines of such a file without their ends, also while it is written; not a last one that was cut."""
    return path.read_bytes().split(b"\n")[:-1]


def is_being_written(path: Path) -> bool:
    """Whether a `LineFile` has the file open, in this process or another one."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False
