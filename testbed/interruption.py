"""Ctrl-C and SIGTERM end a command in order, a second signal ends it at once; the exit code says which it was."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Raise KeyboardInterrupt within at the first SIGINT or SIGTERM, and exit with 128 plus its number at the end.

    A signal that is ignored stays so, as in a shell's background job.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        came.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        print(
            f"burstscale: ending in order after {signal.Signals(number).name}; another one ends it at once",
            file=sys.stderr,
        )
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in _SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
    for each in before:
        signal.signal(each, on_signal)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        if came:
            sys.exit(128 + came[0])


@contextmanager
def keeps_sigterm() -> Iterator[None]:
    """Leave what SIGTERM does as it was before, also where something within takes it for itself, as `ray.init` does."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
