"""Requests put on one engine, at once or at their times, and when their tokens came; whichever engine it is."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.engine_replay import ReplayTimes, replay_arrivals
from loadgen.errors import InputError

# generate(prompt tokens, output tokens) yields how many tokens there are, each time that some came.
Generate = Callable[[int, int], AsyncIterator[int]]


@dataclass(frozen=True, slots=True, eq=False)
class OfferedLoad:
    """Requests with the times at which they are sent, ascending, from 0; every array [requests]."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def replayed(self, hardware: HardwareProfile, slowdown_at: Callable[[float], float] | None = None) -> ReplayTimes:
        """The same on the engine kernel, in no time; `slowdown_at` as `replay_arrivals` takes it."""
        columns = (self.arrival_s, self.prompt_tokens, self.output_tokens)
        return replay_arrivals(hardware, *columns, slowdown_at=slowdown_at)


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """When a request was sent, and when tokens of it came: (monotonic seconds, tokens so far)."""

    sent_s: float
    came: Sequence[tuple[float, int]]

    @property
    def first_s(self) -> float:
        """When the first token came."""
        return self.came[0][0]

    @property
    def finished_s(self) -> float:
        """When the last token came."""
        return self.came[-1][0]


async def time_request(
    generate: Generate, prompt_tokens: int, output_tokens: int, begun: asyncio.Event | None = None
) -> TokenTimes:
    """Send a request now; `begun` is set at its first token.

    Raises:
        InputError: the engine ends it without a token.
    """
    sent_s = time.monotonic()
    came: list[tuple[float, int]] = []
    async for tokens in generate(prompt_tokens, output_tokens):
        came.append((time.monotonic(), tokens))
        if begun is not None:
            begun.set()
    if not came:
        raise InputError(f"the engine answered {prompt_tokens} tokens with none; see its log")
    return TokenTimes(sent_s, came)


async def send_at_times(generate: Generate, load: OfferedLoad) -> ReplayTimes:
    """Send each request at its time from now, whatever became of those before it; seconds from now.

    Times count from when a request was to be sent, so that a late client cannot hide what it did.
    """
    start_s = time.monotonic()

    async def send(at_s: float, prompt: int, output: int) -> TokenTimes:
        await asyncio.sleep(start_s + at_s - time.monotonic())
        return await time_request(generate, prompt, output)

    columns = (load.arrival_s, load.prompt_tokens, load.output_tokens)
    requests = zip(*(column.tolist() for column in columns), strict=True)
    done = await asyncio.gather(*(send(*request) for request in requests))
    return ReplayTimes(
        load.arrival_s,
        np.array([times.first_s - start_s for times in done]),
        np.array([times.finished_s - start_s for times in done]),
    )
