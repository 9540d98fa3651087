"""Steps as a client can tell them from when tokens came, where the engine keeps no log of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from autoscaler.profile_fit.step_log import MeasuredSteps
from autoscaler.profile_fit.step_table import StepTable
from loadgen.errors import InputError
from testbed.designed_load import PieceTimes
from testbed.engine_load import TokenTimes

Row = tuple[float, float, float, float, float]


def client_steps(pieces: Sequence[PieceTimes], max_batched_tokens: int, null_s: float) -> MeasuredSteps:
    """The steps that the designed load shows from outside.

    A prompt that is alone is one step, `null_s` aside. While a batch decodes, the time between two tokens of a request
    is one step. A prompt's token comes at the end of the step that computed it, which is the one that the decoding
    requests wait for. What the engine's own time between steps is cannot be told: it is in these durations, so
    `host_s` is 0, and may be nearly as long as short steps (the 10th percentile).

    Raises:
        InputError: the server sends several tokens at a time, so that no step can be told.
    """
    rows: list[Row] = []
    for times in pieces:
        if not times.decoding:
            rows += _prefills(times, max_batched_tokens, null_s)
        elif times.prompts:
            rows += _mixed(times, max_batched_tokens)
        else:
            rows += _decodes(times)
    if not rows:
        raise InputError("--url: the server streams no single tokens; want --stream-interval 1")
    table = StepTable(*np.array(rows, dtype=np.float64).T)
    return MeasuredSteps(table, 0.0, (0.0, float(np.quantile(table.duration_s, 0.1))))


def _prefills(times: PieceTimes, max_batched_tokens: int, null_s: float) -> Iterator[Row]:
    for tokens, prompt in zip(times.piece.prompts, times.prompts, strict=True):
        duration_s = prompt.finished_s - prompt.sent_s - null_s
        if tokens <= max_batched_tokens and duration_s > 0:
            yield tokens, tokens**2 / 2, 0, 0, duration_s


def _decodes(times: PieceTimes) -> Iterator[Row]:
    """The gaps of the request that began last, until one has ended."""
    all_decode_s = max(one.first_s for one in times.decoding)
    first_end_s = min(one.finished_s for one in times.decoding)
    last = max(times.decoding, key=lambda one: one.first_s)
    for (before_s, before), (now_s, now) in zip(last.came, last.came[1:], strict=False):
        if all_decode_s <= before_s and now_s <= first_end_s and now == before + 1:
            yield 0, 0, *_batch_at(times, before_s), now_s - before_s


def _mixed(times: PieceTimes, max_batched_tokens: int) -> Iterator[Row]:
    """For each prompt the gap of a decoding request that ends when the prompt's token comes."""
    for tokens, prompt in zip(times.piece.prompts, times.prompts, strict=True):
        gaps = [
            (abs(now_s - prompt.finished_s), before_s, now_s)
            for one in times.decoding
            for (before_s, before), (now_s, now) in zip(one.came, one.came[1:], strict=False)
            if now == before + 1
        ]
        if not gaps:
            continue
        _, before_s, now_s = min(gaps)
        decodes, kv_tokens = _batch_at(times, before_s)
        if decodes > 0 and tokens + decodes <= max_batched_tokens:
            yield tokens, tokens**2 / 2, decodes, kv_tokens, now_s - before_s


def _batch_at(times: PieceTimes, now_s: float) -> tuple[float, float]:
    """Requests that decode after this moment, and the KV tokens that they read then."""
    held = [
        prompt + tokens
        for (prompt, _), one in zip(times.piece.decoding, times.decoding, strict=True)
        if one.finished_s > now_s and (tokens := _tokens_at(one, now_s)) > 0
    ]
    return len(held), sum(held)


def _tokens_at(times: TokenTimes, now_s: float) -> int:
    return max((tokens for at_s, tokens in times.came if at_s <= now_s), default=0)
