"""The clock of a run: seconds from its start."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class RunClock:
    """Seconds from the run's start, by this process's monotonic clock (or another one that only goes forward)."""

    start_monotonic_s: float
    monotonic_s: Callable[[], float] = time.monotonic

    @classmethod
    def starting_at(cls, start_epoch_s: float) -> Self:
        """The clock of a run that starts, or started, at `start_epoch_s` of the machine's wall clock."""
        return cls(time.monotonic() + (start_epoch_s - time.time()))

    def now_s(self) -> float:
        """Seconds since the run's start; negative before it."""
        return self.monotonic_s() - self.start_monotonic_s
