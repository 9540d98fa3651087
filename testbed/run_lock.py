"""Says whether the run of a results folder still goes on: its process holds a lock there, which ends with it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadgen.errors import InputError
from loadgen.file_lock import is_locked, lock
from testbed.results import Results

RUN_LOCK = "run.lock"
LIVE_KINDS = ("live", "load")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for as long as something is written into it.

    Raises:
        InputError: another process holds it, or what is written there finds no room.
    """
    path = folder / RUN_LOCK
    with path.open("a", encoding="ascii") as file:
        if not lock(file):
            raise InputError(goes_on(folder))
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise InputError(
                f"{folder}: cannot be written to ({os.strerror(error.errno)}); make room, then "
                f"`burstscale recover {folder}` completes the run"
            ) from error
        finally:
            path.unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether a process, this one or another, holds the folder."""
    path = folder / RUN_LOCK
    return path.exists() and is_locked(path)


def check_ended(results: Results) -> Results:
    """The same results, of a run that has its summary; a simulated one may lack it.

    Raises:
        InputError: the run goes on, or was killed and waits to be recovered.
    """
    if results.summary is not None or results.environment.get("kind") not in LIVE_KINDS:
        return results
    folder = results.path
    if is_running(folder):
        raise InputError(goes_on(folder))
    raise InputError(f"{folder}: its run was cut short; `burstscale recover {folder}` completes the folder")


def goes_on(folder: Path) -> str:
    """What is to be said of a folder that is held."""
    try:
        process = f" in process {int((folder / RUN_LOCK).read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        process = ""
    return f"{folder}: its run is still going on{process}; wait for its end, or end it"
