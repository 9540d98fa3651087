"""The project's own trace file, as a format among others."""

from pathlib import Path

from loadgen.errors import InputError
from loadgen.trace import Trace
from loadgen.trace_file import load_trace

_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Whether the file begins as every Parquet file does.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def read_parquet(path: Path) -> Trace:
    """Read a trace that `burstscale trace convert` or `trace make` wrote.

    Raises:
        InputError: the file is no trace of ours.
    """
    return load_trace(path)
