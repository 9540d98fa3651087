"""A timer for an event loop that goes off within a tenth of a millisecond; loops' own go by whole milliseconds.

At 500 requests a second the mean gap is 2 ms: sent on the ticks of a millisecond, gaps vary more than was planned.

Source: timerfd_create(2), timerfd_settime(2) of Linux.
"""

import asyncio
import ctypes
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from loadgen.run_clock import RunClock

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_NS_PER_S = 1_000_000_000


class Timer(Protocol):
    """Calls back once for each `set`, unless it is set anew or cancelled before; to be closed."""

    def set(self, monotonic_s: float) -> None:
        """Go off at this instant of the run's monotonic clock, not before; at once where it has passed."""
        ...

    def cancel(self) -> None:
        """Do not go off."""
        ...

    def close(self) -> None:
        """Let go of what it holds; it goes off no more."""
        ...


def open_timer(loop: asyncio.AbstractEventLoop, clock: RunClock, callback: Callable[[], None]) -> Timer:
    """The most precise timer there is for this clock: that of Linux for the machine's own, else the loop's."""
    if clock.monotonic_s is time.monotonic and sys.platform == "linux":
        with suppress(OSError, AttributeError):  # forbidden here, or another C library
            return LinuxTimer(loop, callback)
    return LoopTimer(loop, clock, callback)


class LoopTimer:
    """The loop's own timer, rounded up to milliseconds, so that uvloop's never goes off early."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: RunClock, callback: Callable[[], None]) -> None:
        self._loop, self._clock, self._callback = loop, clock, callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, monotonic_s: float) -> None:
        """See `Timer`."""
        self.cancel()
        wait_ms = math.ceil(monotonic_s * 1e3) - math.floor(self._clock.monotonic_s() * 1e3)
        self._handle = self._loop.call_later(wait_ms / 1e3, self._callback)

    def cancel(self) -> None:
        """See `Timer`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """See `Timer`."""
        self.cancel()


class _Times(ctypes.Structure):
    """struct itimerspec: the interval (none here) and the instant."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class LinuxTimer:
    """A file descriptor that becomes readable at an instant of CLOCK_MONOTONIC, which `time.monotonic` reads.

    Raises:
        OSError: the system gives none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._set_time = library.timerfd_settime
        self._file = library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self._loop, self._callback = loop, callback
        self._is_set = False
        loop.add_reader(self._file, self._go_off)

    def set(self, monotonic_s: float) -> None:
        """See `Timer`."""
        self._is_set = True
        self._write(max(1, math.ceil(monotonic_s * _NS_PER_S)))

    def cancel(self) -> None:
        """See `Timer`."""
        if self._is_set:
            self._is_set = False
            self._write(0)  # zero disarms

    def close(self) -> None:
        """See `Timer`."""
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file, self._is_set = -1, False

    def _write(self, instant_ns: int) -> None:
        times = _Times(0, 0, instant_ns // _NS_PER_S, instant_ns % _NS_PER_S)
        if self._set_time(self._file, _ABSOLUTE, ctypes.byref(times), None) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def _go_off(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew since it became readable
            return
        if self._is_set:
            self._is_set = False
            self._callback()
