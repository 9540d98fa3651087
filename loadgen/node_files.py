"""Brings what actors wrote on another machine home, in pieces, so that no machine holds a file in its memory."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PIECE_BYTES = 8 * 2**20


def away_folder_name(run_tag: str, node_id: str) -> str:
    """The folder of a run's actors on a machine that is not the driver's."""
    return f"burstscale-replay-{run_tag}-{node_id[:8]}"


def folder_there(name: str) -> Path:
    """Where actors write on a machine that is not the driver's."""
    return Path(tempfile.gettempdir()) / name


def fetch_folder(do_there: Callable[..., Any], name: str, home: Path) -> None:
    """Copy the files of a folder on another machine into `home`, and remove it there once all are copied.

    Args:
        do_there: does a function's work on that machine and gives what it returns.
    """
    for file_name in do_there(list_files, name):
        with (home / file_name).open("xb") as file:
            while piece := do_there(read_piece, name, file_name, file.tell()):
                file.write(piece)
    do_there(remove_folder, name)


def list_files(name: str) -> list[str]:
    """The names of the files there; none where no actor came to write."""
    folder = folder_there(name)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def read_piece(name: str, file_name: str, begin_bytes: int) -> bytes:
    """What follows in a file there; nothing at its end."""
    with (folder_there(name) / file_name).open("rb") as file:
        file.seek(begin_bytes)
        return file.read(PIECE_BYTES)


def remove_folder(name: str) -> None:
    """Remove it there."""
    shutil.rmtree(folder_there(name), ignore_errors=True)
