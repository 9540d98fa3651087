"""A file that one process appends lines to, and that is whole up to its last line however the process ends."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from loadgen.file_lock import lock


class LineFile:
    """Appends lines, each handed to the operating system before `write_line` returns: killing the process loses none.

    At worst the last line is cut short, and `whole_lines` leaves it out. While it is open the file is locked, so that
    others can tell (`file_lock.is_locked`).
    """

    def __init__(self, path: Path) -> None:
        """Open a new file; one that exists is never appended to or overwritten (FileExistsError)."""
        self._file = path.open("xb", buffering=0)
        self._bytes = 0
        lock(self._file)

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
