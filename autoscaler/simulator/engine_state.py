"""The state of one engine, as the engine kernel reads and writes it."""

from dataclasses import dataclass
from typing import NamedTuple

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.engine_options import VLLM_DEFAULTS, EngineOptions, Preemption
from autoscaler.simulator.prefix_cache import (
    PrefixCache,
    PromptTexts,
    add_block_tables,
    empty_prefix_cache,
)
from loadgen.errors import InputError


@dataclass(slots=True)
class Slot:
    """One request inside an engine.

    Attributes:
        request: the caller's number.
        output_tokens: as many are asked for.
        produced_tokens: delivered so far; they survive a preemption.
        computed_tokens: how many of the prompt and produced tokens have their KV in the cache.
        prefill_tokens: to compute before the next token comes: the prompt, and what a preemption lost.
        scheduled_tokens: computed in the step under way; 0 between steps.
        blocks: KV blocks held.
        swapped_blocks: blocks of its KV that are in host memory.
        rank: the queue is ordered by it, the lowest first.
        arrival: so many requests came to the engine before; orders those of equal rank.
    """

    request: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    produced_tokens: int = 0
    computed_tokens: int = 0
    prefill_tokens: int = 0
    scheduled_tokens: int = 0
    blocks: int = 0
    swapped_blocks: int = 0
    rank: float = 0.0
    arrival: int = 0


@dataclass(slots=True)
class EngineState:
    """The counters of one engine. The `step_` ones describe the step under way, and after it the last one.

    Attributes:
        running, waiting, spare: how many slots are in the three lists of `Engine`.
        waiting_head: where the ring of waiting slots begins.
        free_blocks: KV blocks that nobody holds.
        free_swap_blocks: room for KV blocks in host memory.
        step_swapped_blocks: copied to host memory or back.
        output_tokens, preemptions, arrivals: since the engine began.
        looked_up_tokens, found_tokens: of admitted requests, those known and those that the prefix cache had of them.
    """

    running: int = 0
    waiting: int = 0
    waiting_head: int = 0
    spare: int = 0
    free_blocks: int = 0
    free_swap_blocks: int = 0
    step_prefill_tokens: int = 0
    step_prefill_context: float = 0.0
    step_decodes: int = 0
    step_kv_tokens: int = 0
    step_preempted: int = 0
    step_swapped_blocks: int = 0
    step_delivered: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    arrivals: int = 0
    looked_up_tokens: int = 0
    found_tokens: int = 0


class Engine(NamedTuple):
    """One engine with S slots: Python objects here, one row of arrays in the compiled fleet simulator.

    Attributes:
        running_slots: the first `state.running` are the running slots in order of admission.
        waiting_slots: a ring of `state.waiting` slots that begins at `state.waiting_head`; see `engine_queue`.
        spare_slots: the first `state.spare` are the unused slots.
        delivered_slots: the first `state.step_delivered` got a token in the last step.
        cache: None = there is none: blocks are counted, not told apart.
    """

    state: EngineState
    slots: list[Slot]
    running_slots: list[int]
    waiting_slots: list[int]
    spare_slots: list[int]
    delivered_slots: list[int]
    cache: PrefixCache | None


class EngineLimits(NamedTuple):
    """What one engine holds.

    `usable_blocks` is one less than the cache has: vLLM keeps block 0 as a null block and never gives it out.
    Source: vllm 0.29.0, v1/core/block_pool.py, BlockPool.__init__ and get_usage.

    Attributes:
        watermark_blocks: an admission leaves so many free where any request runs.
        swap_blocks: that there is room for in host memory; 0 = preempted requests lose their KV.
    """

    usable_blocks: int
    block_tokens: int
    max_sequences: int
    max_batched_tokens: int
    max_model_tokens: int
    watermark_blocks: int = 0
    swap_blocks: int = 0

    @property
    def longest_request_tokens(self) -> int:
        """The most tokens that prompt and output may have together: a request with more would never end."""
        return min(self.max_model_tokens, self.usable_blocks * self.block_tokens)

    @property
    def longest_request_blocks(self) -> int:
        """The most KV blocks that one request may hold."""
        return -(-self.longest_request_tokens // self.block_tokens)


def engine_limits(hardware: HardwareProfile, options: EngineOptions = VLLM_DEFAULTS) -> EngineLimits:
    """The limits of an engine on `hardware`.

    Raises:
        InputError: KV is to be kept in host memory, and the profile does not say what that takes.
    """
    blocks, swap_blocks = hardware.kv_cache_tokens // hardware.block_tokens, 0
    if options.preemption is Preemption.SWAP:
        if hardware.kv_token_bytes is None or hardware.host_link_bytes_per_s is None:
            raise InputError(
                f"hardware '{hardware.name}' lacks kv_token_bytes or host_link_bytes_per_s, which preemption 'swap' "
                f"needs; add them to the profile or take 'recompute'"
            )
        swap_blocks = int(options.swap_space_gib * 2**30 / (hardware.kv_token_bytes * hardware.block_tokens))
    return EngineLimits(
        usable_blocks=blocks - 1,
        block_tokens=hardware.block_tokens,
        max_sequences=hardware.max_sequences,
        max_batched_tokens=hardware.max_batched_tokens,
        max_model_tokens=hardware.max_model_tokens,
        watermark_blocks=int(options.watermark_fraction * blocks),  # vLLM takes it of all blocks, the null block too
        swap_blocks=swap_blocks,
    )


def empty_engine(slots: int, limits: EngineLimits, texts: PromptTexts | None = None) -> Engine:
    """An engine without requests, with room for `slots` of them; a prefix cache where `texts` are given."""
    cache = None
    if texts is not None:
        cache = empty_prefix_cache(slots, limits.usable_blocks, limits.longest_request_blocks, texts)
    return Engine(
        state=EngineState(spare=slots, free_blocks=limits.usable_blocks, free_swap_blocks=limits.swap_blocks),
        slots=[Slot() for _ in range(slots)],
        running_slots=[0] * slots,
        waiting_slots=[0] * slots,
        spare_slots=list(range(slots - 1, -1, -1)),
        delivered_slots=[0] * slots,
        cache=cache,
    )


def add_slots(engine: Engine, added: int) -> None:
    """Make room for `added` further requests; between steps."""
    state, before = engine.state, len(engine.slots)
    ring = [engine.waiting_slots[(state.waiting_head + place) % before] for place in range(before)]
    state.waiting_head = 0
    engine.waiting_slots[:] = ring + [0] * added
    engine.slots.extend(Slot() for _ in range(added))
    engine.running_slots.extend([0] * added)
    engine.delivered_slots.extend([0] * added)
    if engine.cache is not None:
        add_block_tables(engine.cache, added)
    engine.spare_slots[state.spare :] = range(before + added - 1, before - 1, -1)
    engine.spare_slots.extend([0] * (before + added - len(engine.spare_slots)))
    state.spare += added
