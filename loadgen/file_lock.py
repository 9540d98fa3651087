"""Tells whether a process still has a file in use: a lock ends with the process that holds it, however that ends."""

import fcntl
from pathlib import Path
from typing import IO, Any


def lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False = another holds it. A file system without locks locks nothing."""
    return _locks(file, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Whether somebody, in this process or another one, holds the lock of the file."""
    with path.open("rb") as file:
        return not _locks(file, fcntl.LOCK_SH)


def _locks(file: IO[Any], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
