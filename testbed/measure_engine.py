"""Measure a running engine: warm it up, see how fast it is, drive the designed load in rounds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError
from testbed.designed_load import LoadPiece, PieceTimes, designed_load, drive_round
from testbed.engine_load import Generate, time_request

PREFILL_SHARE = 0.7  # of a round's time; the rest is decodes
WARM_UP_REQUESTS = 3


@dataclass(frozen=True, slots=True)
class MeasuredRounds:
    """The pieces of all rounds, and (start, end) of each round in monotonic seconds."""

    pieces: Sequence[PieceTimes]
    spans_s: Sequence[tuple[float, float]]


async def plan_rounds(generate: Generate, limits: EngineLimits, round_s: float) -> list[LoadPiece]:
    """Warm the engine up, and plan rounds that take it about so long.

    Raises:
        InputError: so short a round has no decodes.
    """
    prompt_tokens = min(limits.max_batched_tokens, limits.longest_request_tokens // 2)
    for _ in range(WARM_UP_REQUESTS):
        await time_request(generate, prompt_tokens, 4)
    times = [await time_request(generate, prompt_tokens, 1) for _ in range(WARM_UP_REQUESTS)]
    prefill_s = min(one.finished_s - one.sent_s for one in times)
    pieces = designed_load(limits, PREFILL_SHARE * round_s * prompt_tokens / prefill_s)
    if sum(len(piece.decoding) > 1 for piece in pieces) < 2 or len(pieces) < 8:
        raise InputError(
            f"measuring: {prompt_tokens} tokens take this engine {prefill_s:.2g} s, too long for rounds of "
            f"{round_s:g} s; give it more time"
        )
    return pieces


async def drive_for(
    generate: Generate, pieces: Sequence[LoadPiece], seconds: float, rng: np.random.Generator
) -> MeasuredRounds:
    """Drive whole rounds until the time is over, one at least."""
    start_s = time.monotonic()
    done: list[PieceTimes] = []
    spans_s: list[tuple[float, float]] = []
    while not spans_s or time.monotonic() - start_s < seconds:
        began_s = time.monotonic()
        done += await drive_round(generate, pieces, rng)
        spans_s.append((began_s, time.monotonic()))
    return MeasuredRounds(done, spans_s)
