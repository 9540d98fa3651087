"""Compile the fleet simulator's inner loop once, keep the machine code on disk, and lay out its objects as arrays."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TypeVar, cast

import numba
import numpy as np
from numba.extending import register_jitable

Function = TypeVar("Function", bound=Callable[..., object])
FOLDER = Path(__file__).parent
# Files whose functions are compiled: those of the simulator, rules of policies, and the rule that all clients go by.
SOURCES = (
    *FOLDER.glob("*.py"),
    *(FOLDER.parent / "policies").glob("*.py"),
    FOLDER.parents[1] / "loadgen" / "client_config.py",
)


# Called by compiled code alone: no wrapper for calls from Python, which would take most of the time to compile. Always
# inlined: a call that is not counts a reference to every array of the fleet, which takes longer than the function.
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}


def compiled(function: Function) -> Function:
    """Compile `function` when Python first calls it, or load what an earlier run compiled."""
    return cast(Function, numba.njit(cache=True)(function))


def compiled_inner(function: Function) -> Function:
    """Compile `function` along with the compiled functions that call it."""
    return cast(Function, numba.njit(**INNER)(function))


def inlined(function: Function) -> Function:
    """Copy the body of `function` into the compiled functions that call it."""
    return cast(Function, numba.njit(inline="always")(function))


def allow_in_compiled_code(*modules: ModuleType) -> None:
    """Let compiled functions call the plain functions of these modules; they are compiled along with their callers."""
    for module in modules:
        for function in vars(module).values():
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                register_jitable(**INNER)(function)


def record_type(of: type) -> np.dtype[np.void]:
    """The array element with the fields of a dataclass of whole numbers and floats, in its order."""
    kinds = {int: np.int64, float: np.float64}
    return np.dtype([(field.name, kinds[cast(type, field.type)]) for field in fields(of)])


def drop_outdated_code(folder: Path = FOLDER, sources: tuple[Path, ...] = SOURCES) -> None:
    """Delete compiled code in `folder` that is older than any of the source files.

    The compiler looks at a function's own file alone, so a change in a function that it calls from another file
    would go unseen.
    """
    newest_source_s = max(source.stat().st_mtime for source in sources)
    for index in (folder / "__pycache__").glob("*.nbi"):
        try:
            if index.stat().st_mtime < newest_source_s:
                index.unlink()
        except OSError:  # another process was faster, or the folder is read-only
            continue


drop_outdated_code()
