"""The processes that this one has started, theirs and so on: to see that none of them outlives its work."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK_INTERVAL_S = 0.05
# Of /proc/PID/stat after the name in parentheses, which may hold anything (proc(5)).
_STATE_FIELD, _START_FIELD = 0, 19


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """A process, told from a later one with its number by when it began (clock ticks since the system did)."""

    process_id: int
    began_ticks: int

    def is_alive(self) -> bool:
        """Whether it has not ended yet; one that is frozen has not."""
        return _read(self.process_id) == self

    def kill(self) -> None:
        """End it at once."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGKILL)


def children_of(process_id: int) -> set[OwnProcess]:
    """Those that a process has started itself, as far as they have not ended; where there is no /proc, none."""
    numbers: list[int] = []
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            numbers += map(int, task.read_text().split())
    return {found for number in numbers if (found := _read(number)) is not None}


def with_descendants(processes: Iterable[OwnProcess]) -> set[OwnProcess]:
    """These, what they have started, and so on."""
    found: set[OwnProcess] = set()
    for each in processes:
        found |= {each} | with_descendants(children_of(each.process_id))
    return found


def end_all(processes: Iterable[OwnProcess], patience_s: float) -> None:
    """Return once all have ended: by themselves, or those that have not after `patience_s` by force."""
    until_s = time.monotonic() + patience_s
    left = [each for each in processes if each.is_alive()]
    while left and time.monotonic() < until_s:
        time.sleep(_LOOK_INTERVAL_S)
        left = [each for each in left if each.is_alive()]
    for each in left:
        each.kill()


def _read(process_id: int) -> OwnProcess | None:
    """The process of a number; None = it has ended, or waits only for its parent to hear of its end."""
    try:
        fields = (
            Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[_STATE_FIELD] in "ZX" else OwnProcess(process_id, int(fields[_START_FIELD]))
