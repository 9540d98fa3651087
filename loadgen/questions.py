"""Asks actors the same thing again and again, and never waits long for one of them."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError


class Questions:
    """One question to each of some actors; who has not answered yet is not asked again meanwhile."""

    def __init__(self, ask: Callable[[int], Any]) -> None:
        """`ask` puts it to the actor of a number, and gives what `ray.get` takes."""
        self._ask = ask
        self._asked: dict[int, Any] = {}

    def answers(self, actors: Iterable[int], timeout_s: float) -> dict[int, Any]:
        """What those of `actors` say that answer within `timeout_s`; of an actor that has ended, nothing."""
        for index in actors:
            if index not in self._asked:
                self._asked[index] = self._ask(index)
        if not self._asked:
            return {}
        answered, _ = ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=timeout_s)
        said: dict[int, Any] = {}
        for index in [index for index, asked in self._asked.items() if asked in answered]:
            with suppress(RayError):
                said[index] = ray.get(self._asked[index])
            del self._asked[index]
        return said
