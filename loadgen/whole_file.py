"""Writes a file that others see whole or not at all, also after the process was killed or the power was cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives the path to write to; once that is on the disk it takes the place of `path` at once."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # a full disk is left some room
        raise
