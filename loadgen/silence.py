"""Tells who has fallen silent from who is slow: of each of some processes, how long its signs have not changed."""

import time
from collections.abc import Callable, Hashable, Mapping

# Between two looks, so much counts at most: while the one who looks was stalled, the others may have been as well.
_LONGEST_LOOK_S = 5.0


class Silence:
    """How long each of some processes has given no new sign of life.

    Only time counts in which the one who looks was awake: a machine that stalls as a whole makes nobody silent.
    """

    def __init__(self, limit_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Who gives no new sign for `limit_s` is silent."""
        self._limit_s = limit_s
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._silent_s: dict[int, float] = {}
        self._signs: dict[int, Hashable] = {}

    def look(self, signs: Mapping[int, Hashable]) -> list[int]:
        """Take in the latest sign of each, whatever it is; gives those that are silent now."""
        now_s = self._clock_s()
        passed_s = min(now_s - self._looked_s, _LONGEST_LOOK_S)
        self._looked_s = now_s
        for each, sign in signs.items():
            is_new = each not in self._signs or self._signs[each] != sign
            self._silent_s[each] = 0.0 if is_new else self._silent_s[each] + passed_s
            self._signs[each] = sign
        return [each for each in signs if self._silent_s[each] >= self._limit_s]
