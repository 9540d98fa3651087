"""Keeps the bodies of planned requests in a file until they are sent, so that a long trace fits into memory."""

import mmap
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from loadgen.errors import InputError
from loadgen.plan import PlannedRequest


def keep_bodies_in_file(requests: Iterable[PlannedRequest], folder: Path) -> list[PlannedRequest]:
    """The same requests with bodies that are views of a file without a name in `folder`; it goes with its last view.

    The system keeps what was just written in free memory, so that sending waits for no disk, and takes the memory
    back where it is needed.

    Raises:
        InputError: the file cannot be written, for want of space, say.
    """
    planned: list[PlannedRequest] = []
    ends = [0]
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            for request in requests:
                ends.append(ends[-1] + file.write(request.body))
                planned.append(replace(request, body=b""))
            file.flush()
        except OSError as error:
            raise InputError(
                f"{folder}: the bodies of the requests cannot be written there ({error.strerror}), after "
                f"{ends[-1] / 1e9:.1f} GB; choose another folder or a shorter part of the trace"
            ) from error
        if not ends[-1]:
            return planned
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return [
        replace(request, body=view[begin:end]) for request, begin, end in zip(planned, ends, ends[1:], strict=False)
    ]
