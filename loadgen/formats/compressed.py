"""The bytes of a file, unpacked where it is compressed; what is cut or damaged is an error, never a short file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from loadgen.errors import InputError

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_SUFFIXES = (".gz", ".zst", ".bz2")


class ByteReader:
    """A file that is read from its beginning, whatever it is packed with; its errors name the file."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path = path
        self._stream = stream

    def read_buffer(self, size: int) -> Any:
        """The next bytes as a pyarrow Buffer, `size` of them or fewer; none at the end.

        Raises:
            InputError: the file cannot be read, or its compressed form is cut off or damaged.
        """
        try:
            data = self._stream.read_buffer(size)
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot be read to its end ({str(error).splitlines()[0]}); get the file again"
            ) from error
        return data


@contextmanager
def open_bytes(path: Path) -> Iterator[ByteReader]:
    """Open a file whose bytes are read unpacked: gzip, zstd or bz2, told by its first bytes, or none of them.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        codec = next((codec for start, codec in _MAGIC.items() if magic.startswith(start)), None)
        # Read, not mapped: a mapped file that somebody shortens meanwhile ends the whole process.
        stream = pa.OSFile(str(path))
        yield ByteReader(path, stream if codec is None else pa.CompressedInputStream(stream, codec))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def plain_name(path: Path) -> str:
    """A file's name without its suffix, and without that of its compression: BurstGPT_1 of BurstGPT_1.csv.gz."""
    return Path(path.stem).stem if path.suffix in _SUFFIXES else path.stem
