"""Tells a sender that is lost, though its process is there: it is frozen, or it waits for what never comes."""

import time
from collections.abc import Callable, Mapping

from loadgen.sender import SenderProgress
from loadgen.silence import Silence

# A sender that shows no sign of life for so long is taken as lost. One whose machine stalls for half a minute is not.
LONGEST_SILENCE_S = 60.0


class SenderSilence:
    """Watches the senders of a run by what they tell of where they stand."""

    def __init__(self, longest_deadline_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Each request ends within `longest_deadline_s` of its sending."""
        self._longest_standstill_s = longest_deadline_s + LONGEST_SILENCE_S
        self._moving = Silence(LONGEST_SILENCE_S, clock_s)
        self._getting_on = Silence(self._longest_standstill_s, clock_s)

    def look(self, told: Mapping[int, SenderProgress]) -> dict[int, str]:
        """Take in what each told last; says of those that are lost why."""
        stuck = self._getting_on.look({index: _achievement(each) for index, each in told.items()})
        silent = self._moving.look({index: each.as_of_s for index, each in told.items()})
        standstill = f"ended no request for {self._longest_standstill_s:g} s, although it had sent some"
        return dict.fromkeys(stuck, standstill) | dict.fromkeys(silent, f"no sign of life for {LONGEST_SILENCE_S:g} s")


def _achievement(told: SenderProgress) -> tuple[float | None, ...]:
    """What changes as long as a sender gets on: who has nothing on its way may wait for as long as it likes."""
    return (told.sent, told.finished) if told.sent > told.finished else (told.as_of_s,)
