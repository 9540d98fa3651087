"""The state of one or many engines as arrays: row = replica, slot = request inside it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile

# One request inside an engine; 64 bytes, a cache line.
SLOT = np.dtype(
    [
        ("request", np.int64),  # the caller's number
        ("prompt_tokens", np.int64),
        ("output_tokens", np.int64),  # asked for
        ("produced_tokens", np.int64),  # delivered so far; survives a preemption
        ("computed_tokens", np.int64),  # of prompt and produced tokens, how many have their KV in the cache
        ("prefill_tokens", np.int64),  # to compute before the next token comes: prompt, and what a preemption lost
        ("scheduled_tokens", np.int64),  # in the step under way; 0 between steps
        ("blocks", np.int64),  # KV blocks held
    ]
)

# One engine. The `step_` fields describe the step under way, and after it the last one.
ENGINE = np.dtype(
    [
        ("running", np.int64),
        ("waiting", np.int64),
        ("waiting_head", np.int64),  # where the ring of waiting slots starts
        ("spare", np.int64),
        ("free_blocks", np.int64),
        ("step_prefill_tokens", np.int64),
        ("step_prefill_context", np.float64),
        ("step_decodes", np.int64),
        ("step_kv_tokens", np.int64),
        ("step_preempted", np.int64),
        ("step_delivered", np.int64),
        ("steady_steps", np.int64),  # this step and those after it that repeat it with one more token each
        ("output_tokens", np.int64),  # delivered since the engine began
        ("preemptions", np.int64),  # since the engine began
    ]
)


class EngineLimits(NamedTuple):
    """What one engine holds, as compiled code takes it.

    `usable_blocks` is one less than the cache has: vLLM keeps block 0 as a null block and never gives it out.
    Source: vllm 0.29.0, v1/core/block_pool.py, BlockPool.__init__ and get_usage.
    """

    usable_blocks: int
    block_tokens: int
    max_sequences: int
    max_batched_tokens: int
    max_model_tokens: int


class Engines(NamedTuple):
    """Engines of equal hardware. R rows (replicas), S slots each.

    Attributes:
        engine: ENGINE[R].
        slot: SLOT[R, S].
        running: i64[R, S], the first `engine.running` are the running slots in order of admission.
        waiting: i64[R, S], a ring of `engine.waiting` slots that begins at `engine.waiting_head`.
        spare: i64[R, S], the first `engine.spare` are the unused slots.
        delivered: i64[R, S], the first `engine.step_delivered` are the slots that got a token in the last step.
    """

    engine: NDArray[np.void]
    slot: NDArray[np.void]
    running: NDArray[np.int64]
    waiting: NDArray[np.int64]
    spare: NDArray[np.int64]
    delivered: NDArray[np.int64]


def engine_limits(hardware: HardwareProfile) -> EngineLimits:
    """The limits of an engine on `hardware`."""
    return EngineLimits(
        usable_blocks=hardware.kv_cache_tokens // hardware.block_tokens - 1,
        block_tokens=hardware.block_tokens,
        max_sequences=hardware.max_sequences,
        max_batched_tokens=hardware.max_batched_tokens,
        max_model_tokens=hardware.max_model_tokens,
    )


def longest_request_tokens(limits: EngineLimits) -> int:
    """The most tokens that prompt and output may have together: more would never end.

    The last token is given out but never computed, so a request with the whole cache has room for one more; vLLM
    does not count on it, and neither do we.
    """
    return min(limits.max_model_tokens, limits.usable_blocks * limits.block_tokens)


def empty_engines(rows: int, slots: int, limits: EngineLimits) -> Engines:
    """`rows` engines without requests, with room for `slots` requests each."""
    engines = Engines(
        engine=np.zeros(rows, ENGINE),
        slot=np.zeros((rows, slots), SLOT),
        running=np.zeros((rows, slots), np.int64),
        waiting=np.zeros((rows, slots), np.int64),
        spare=np.zeros((rows, slots), np.int64),
        delivered=np.zeros((rows, slots), np.int64),
    )
    for row in range(rows):
        reset_engine(engines, row, limits)
    return engines


def reset_engine(engines: Engines, row: int, limits: EngineLimits) -> None:
    """Make row `row` a new engine without requests."""
    slots = engines.slot.shape[1]
    engines.engine[row] = np.zeros((), ENGINE)
    engines.engine["free_blocks"][row] = limits.usable_blocks
    engines.engine["spare"][row] = slots
    engines.slot[row] = np.zeros((), SLOT)
    engines.spare[row] = np.arange(slots - 1, -1, -1)


def with_slots(engines: Engines, slots: int) -> Engines:
    """The same engines with room for `slots` requests each, more than now; used between steps."""
    rows, before = engines.slot.shape
    grown = Engines(
        engine=engines.engine.copy(),
        slot=np.zeros((rows, slots), SLOT),
        running=np.zeros((rows, slots), np.int64),
        waiting=np.zeros((rows, slots), np.int64),
        spare=np.zeros((rows, slots), np.int64),
        delivered=np.zeros((rows, slots), np.int64),
    )
    grown.slot[:, :before] = engines.slot
    grown.running[:, :before] = engines.running
    grown.delivered[:, :before] = engines.delivered
    for row in range(rows):
        waiting, head = int(engines.engine["waiting"][row]), int(engines.engine["waiting_head"][row])
        grown.waiting[row, :waiting] = np.roll(engines.waiting[row], -head)[:waiting]
        spare = int(engines.engine["spare"][row])
        grown.spare[row, : slots - before] = np.arange(slots - 1, before - 1, -1)
        grown.spare[row, slots - before : slots - before + spare] = engines.spare[row, :spare]
    grown.engine["waiting_head"] = 0
    grown.engine["spare"] += slots - before
    return grown


def check_engine(engines: Engines, row: int, limits: EngineLimits) -> None:
    """Raise AssertionError unless blocks, slots and tokens of row `row` add up; for tests, after any step or call."""
    engine = engines.engine[row]
    slots = engines.slot.shape[1]
    running = engines.running[row, : engine["running"]]
    ring = (engine["waiting_head"] + np.arange(engine["waiting"])) % slots
    waiting = engines.waiting[row, ring]
    spare = engines.spare[row, : engine["spare"]]
    everyone = np.sort(np.concatenate([running, waiting, spare]))
    assert np.array_equal(everyone, np.arange(slots)), "each slot is running, waiting or spare, and only one of them"
    assert engine["running"] <= limits.max_sequences, "at most max_sequences run"
    held = engines.slot["blocks"][row]
    assert held.sum() + engine["free_blocks"] == limits.usable_blocks, "blocks are held or free"
    assert engine["free_blocks"] >= 0, "no more blocks are held than there are"
    assert not held[np.concatenate([waiting, spare])].any(), "only running requests hold blocks"
    at_work = engines.slot[row, running]
    kv_tokens = at_work["computed_tokens"] + at_work["scheduled_tokens"]
    assert np.array_equal(at_work["blocks"], -(-kv_tokens // limits.block_tokens)), "blocks are exactly those needed"
    assert (kv_tokens <= at_work["prompt_tokens"] + at_work["produced_tokens"]).all(), "only known tokens are computed"
    assert (at_work["produced_tokens"] < at_work["output_tokens"]).all(), "a request that has all tokens has left"
    assert at_work["scheduled_tokens"].sum() <= limits.max_batched_tokens, "a step keeps to the token budget"
