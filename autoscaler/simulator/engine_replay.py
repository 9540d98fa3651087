"""Replay of requests on one engine, with no fleet around it: at their times, or so many at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.cost_model import step_costs
from autoscaler.simulator.engine_kernel import add_request, begin_step, complete_step, repeat_step, steady_steps
from autoscaler.simulator.engine_state import Engine, empty_engine, engine_limits
from autoscaler.simulator.prefix_cache import PromptTexts


@dataclass(frozen=True, slots=True, eq=False)
class ReplayTimes:
    """When each request was sent, got its first token, and got its last; every array f64[requests]."""

    sent_s: NDArray[np.float64]
    first_token_s: NDArray[np.float64]
    finished_s: NDArray[np.float64]

    @property
    def ttft_s(self) -> NDArray[np.float64]:
        """Time to the first token."""
        return self.first_token_s - self.sent_s

    @property
    def e2e_s(self) -> NDArray[np.float64]:
        """Time to the last token."""
        return self.finished_s - self.sent_s

    def tpot_s(self, output_tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Time per token after the first."""
        return (self.finished_s - self.first_token_s) / np.maximum(output_tokens - 1, 1)


def replay_arrivals(
    hardware: HardwareProfile,
    arrival_s: NDArray[np.float64],
    prompt_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    texts: PromptTexts | None = None,
    slowdown_at: Callable[[float], float] | None = None,
) -> ReplayTimes:
    """Send each request at its time, ascending; the engine sees it at the end of the step under way.

    An idle engine begins with the first request that comes, alone: others of that instant come after it, during its
    step. What comes at the very instant at which a step ends is too late for the step that begins then.

    Args:
        texts: the engine has a prefix cache, and these are the requests' prompts; None = it has none.
        slowdown_at: a step that begins at this second takes so many times as long; None = as the hardware says.
    """
    requests = len(arrival_s)
    limits, costs = engine_limits(hardware), step_costs(hardware)
    engine = empty_engine(requests, limits, texts)
    times = ReplayTimes(arrival_s, np.full(requests, np.nan), np.full(requests, np.nan))
    now_s, sent = 0.0, 0
    while sent < requests or engine.state.running + engine.state.waiting > 0:
        while sent < requests and (arrival_s[sent] < now_s or engine.state.running + engine.state.waiting == 0):
            now_s = max(now_s, float(arrival_s[sent]))
            add_request(engine, sent, int(prompt_tokens[sent]), int(output_tokens[sent]))
            sent += 1
        duration_s = begin_step(engine, limits, costs)
        now_s += duration_s if slowdown_at is None else duration_s * slowdown_at(now_s)
        complete_step(engine)
        _note_tokens(engine, times, now_s)
    return times


def replay_concurrent(
    hardware: HardwareProfile,
    concurrency: int,
    prompt_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
) -> ReplayTimes:
    """Keep `concurrency` requests in the engine: all at once first, then one for each that ends, in order.

    Steps that only decode, with none ending, are done in one go: step time is linear in the KV tokens, so that their
    sum is their number times the step at the mean.
    """
    requests = len(prompt_tokens)
    limits, costs = engine_limits(hardware), step_costs(hardware)
    engine = empty_engine(requests, limits)
    times = ReplayTimes(*(np.full(requests, np.nan) for _ in range(3)))
    now_s, sent, ended = 0.0, 0, 0
    while ended < requests:
        while sent < min(requests, ended + concurrency):
            add_request(engine, sent, int(prompt_tokens[sent]), int(output_tokens[sent]))
            times.sent_s[sent] = now_s
            sent += 1
        duration_s = begin_step(engine, limits, costs)
        again = steady_steps(engine, limits) - 1
        if again > 0:
            growth_s = costs.kv_token_s * engine.state.step_decodes  # of each step over the one before
            now_s += again * (duration_s + growth_s * (again - 1) / 2)
            duration_s += again * growth_s
            repeat_step(engine, limits, again)
        now_s += duration_s
        complete_step(engine)
        ended += _note_tokens(engine, times, now_s)
    return times


def _note_tokens(engine: Engine, times: ReplayTimes, now_s: float) -> int:
    """Write down first and last tokens of the step that has ended; how many requests it ended."""
    ended = 0
    for index in engine.delivered_slots[: engine.state.step_delivered]:
        slot = engine.slots[index]
        if slot.produced_tokens == 1:
            times.first_token_s[slot.request] = now_s
        if slot.produced_tokens == slot.output_tokens:
            times.finished_s[slot.request] = now_s
            ended += 1
    return ended
