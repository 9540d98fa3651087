"""Compile the simulator's inner loops once and keep the machine code on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])
FOLDER = Path(__file__).parent


def compiled(function: Function) -> Function:
    """Compile `function` when it is first called, or load what an earlier run compiled."""
    return cast(Function, numba.njit(cache=True)(function))


def drop_outdated_code(folder: Path = FOLDER) -> None:
    """Delete compiled code that is older than any source file here.

    The compiler looks at a function's own file alone, so a change in a function that it calls from another file
    would go unseen.
    """
    newest_source_s = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        try:
            if index.stat().st_mtime < newest_source_s:
                index.unlink()
        except OSError:  # another process was faster, or the folder is read-only
            continue


drop_outdated_code()
