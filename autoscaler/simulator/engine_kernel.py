"""The engine kernel: which requests get how many tokens in the next step, and what that step brings. No clock.

One scheduler for both phases, as in vLLM V1: a request needs as many tokens computed as it has; a prompt is many at
once, a decode is one. Each step shares one budget of tokens: running requests first, in order of admission, then the
queue. KV blocks are taken as tokens are scheduled; where they run out, the request that goes after all others
(`engine_queue`; by default the one admitted last) gives up all of its blocks, goes back to the queue and is computed
anew, its produced tokens as if they were prompt. Where there is room in host memory, its blocks are copied there
instead, and back when it is admitted again; the step then takes longer by the time of the copies.
A request is admitted only where blocks for all of its known tokens are free, not just for its first chunk, and none
is in a step that preempted one. A schedule in which nobody gets tokens, since the first of the running requests gave up
its own blocks, is no step: the next one follows at once.

The functions run as they stand on Python objects, which makes a live replica light, and compiled on arrays in the
fleet simulator; the arithmetic is the same to the last bit.

Source: vllm 0.29.0, v1/core/sched/scheduler.py (Scheduler.schedule), v1/core/kv_cache_manager.py (allocate_slots,
full_sequence_must_fit, watermark_blocks), config/scheduler.py (scheduler_reserve_full_isl = True, watermark = 0).
tests/autoscaler/test_engine_vllm.py holds the schedule against that scheduler itself, step by step.
Left out: speculative decoding, asynchronous scheduling (it hides host time).
Swapping is that of vllm 0.6.0, core/scheduler.py (_preempt_by_swap, _schedule_swapped) with PreemptionMode.SWAP; V1 has
it no more. There a full host memory ends the engine, here requests then lose their KV.
"""

from autoscaler.simulator.cost_model import StepCosts, step_seconds
from autoscaler.simulator.engine_queue import first_to_preempt, join_queue, leave_queue, leave_running, rejoin_queue
from autoscaler.simulator.engine_state import Engine, EngineLimits, Slot
from autoscaler.simulator.prefix_cache_kernel import find_computed, hold_computed, let_go, take_blocks


def blocks_for(tokens: int, block_tokens: int) -> int:
    """Blocks that hold the KV of `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


def add_request(engine: Engine, request: int, prompt_tokens: int, output_tokens: int, rank: float = 0.0) -> int:
    """Queue a request behind those of its rank and better ones; a spare slot must be there. Returns its slot."""
    state = engine.state
    state.spare -= 1
    index = engine.spare_slots[state.spare]
    slot = engine.slots[index]
    slot.request = request
    slot.prompt_tokens = max(1, prompt_tokens)
    slot.output_tokens = max(1, output_tokens)
    slot.produced_tokens = 0
    slot.computed_tokens = 0
    slot.prefill_tokens = 0
    slot.scheduled_tokens = 0
    slot.blocks = 0
    slot.swapped_blocks = 0
    slot.rank = rank
    slot.arrival = state.arrivals
    state.arrivals += 1
    join_queue(engine, index)
    return int(index)


def release(engine: Engine, index: int) -> None:
    """Free the blocks of a slot and make it spare; it must be out of the running list and the queue already."""
    state = engine.state
    slot = engine.slots[index]
    state.free_blocks += let_go(engine.cache, slot, index)
    state.free_swap_blocks += slot.swapped_blocks
    slot.blocks = 0
    slot.swapped_blocks = 0
    slot.scheduled_tokens = 0
    engine.spare_slots[state.spare] = index
    state.spare += 1


def remove_request(engine: Engine, index: int) -> None:
    """Take the request in slot `index` out, running or waiting; its blocks are free at once."""
    if engine.slots[index].blocks > 0:
        position = 0
        while engine.running_slots[position] != index:
            position += 1
        leave_running(engine, position)
    else:
        leave_queue(engine, index)
    release(engine, index)


def preempt(engine: Engine, position: int, block_tokens: int) -> int:
    """Take the blocks of the running request at `position`, which waits again; the tokens of the step it gives back."""
    state = engine.state
    index = engine.running_slots[position]
    slot = engine.slots[index]
    leave_running(engine, position)
    tokens = slot.scheduled_tokens
    if tokens > 0:
        slot.scheduled_tokens = 0
        count_tokens(engine, slot, tokens, -1)
    state.free_blocks += let_go(engine.cache, slot, index)
    slot.blocks = 0
    kept = blocks_for(slot.computed_tokens, block_tokens)
    if kept <= state.free_swap_blocks:
        slot.swapped_blocks = kept
        state.free_swap_blocks -= kept
        state.step_swapped_blocks += kept
    else:
        slot.computed_tokens = 0
    rejoin_queue(engine, index)
    state.step_preempted += 1
    state.preemptions += 1
    return int(tokens)


def count_tokens(engine: Engine, slot: Slot, tokens: int, times: int) -> None:
    """Count `tokens` tokens of a request into the step (`times` 1), or out of it (-1)."""
    state = engine.state
    if slot.computed_tokens < slot.prefill_tokens:
        state.step_prefill_tokens += times * tokens
        state.step_prefill_context += times * (tokens * (slot.computed_tokens + 0.5 * tokens))
    else:
        state.step_decodes += times
        state.step_kv_tokens += times * (slot.computed_tokens + tokens)


def schedule_tokens(engine: Engine, index: int, tokens: int, block_tokens: int) -> None:
    """Give the request in slot `index` `tokens` tokens of the step, and count its blocks, which must be free."""
    state = engine.state
    slot = engine.slots[index]
    slot.scheduled_tokens = tokens
    added = blocks_for(slot.computed_tokens + tokens, block_tokens) - slot.blocks
    slot.blocks += added
    state.free_blocks -= added
    count_tokens(engine, slot, tokens, 1)


def schedule_running(engine: Engine, limits: EngineLimits, budget: int) -> int:
    """Give tokens to the running requests in order of admission, preempt where blocks run out; the budget left."""
    state = engine.state
    position = 0
    while position < state.running and budget > 0:
        index = engine.running_slots[position]
        slot = engine.slots[index]
        tokens = min(slot.prompt_tokens + slot.produced_tokens - slot.computed_tokens, budget)
        needed = blocks_for(slot.computed_tokens + tokens, limits.block_tokens) - slot.blocks
        while needed > state.free_blocks:
            last = first_to_preempt(engine)
            budget += preempt(engine, last, limits.block_tokens)
            if last == position:  # it was the last in order itself
                return budget
            if last < position:
                position -= 1
        take_blocks(engine.cache, slot, index, needed, slot.computed_tokens + tokens, limits.block_tokens)
        schedule_tokens(engine, index, tokens, limits.block_tokens)
        budget -= tokens
        position += 1
    return budget


def admit(engine: Engine, limits: EngineLimits, budget: int) -> None:
    """Let requests from the front of the queue run while sequences, blocks and tokens of the budget are left."""
    state = engine.state
    ring = len(engine.waiting_slots)
    while state.waiting > 0 and budget > 0 and state.running < limits.max_sequences:
        index = engine.waiting_slots[state.waiting_head]
        slot = engine.slots[index]
        known = slot.prompt_tokens + slot.produced_tokens
        if state.free_blocks == 0:  # one is needed, whatever the prefix cache has
            break
        found, unheld = find_computed(engine.cache, slot, index, limits.block_tokens)
        needed = blocks_for(known, limits.block_tokens) - found + unheld
        if needed + (limits.watermark_blocks if state.running > 0 else 0) > state.free_blocks:
            break
        state.waiting_head = (state.waiting_head + 1) % ring
        state.waiting -= 1
        engine.running_slots[state.running] = index
        state.running += 1
        hold_computed(engine.cache, index, found)
        state.free_blocks -= unheld
        slot.blocks = found
        if slot.swapped_blocks > 0:  # what the prefix cache has still need not be copied
            state.step_swapped_blocks += max(0, slot.swapped_blocks - found)
            state.free_swap_blocks += slot.swapped_blocks
            slot.swapped_blocks = 0
            slot.computed_tokens = max(slot.computed_tokens, found * limits.block_tokens)
        else:
            slot.prefill_tokens = known
            slot.computed_tokens = found * limits.block_tokens
            state.looked_up_tokens += known
            state.found_tokens += slot.computed_tokens
        tokens = min(known - slot.computed_tokens, budget)
        added = blocks_for(slot.computed_tokens + tokens, limits.block_tokens) - found
        take_blocks(engine.cache, slot, index, added, slot.computed_tokens + tokens, limits.block_tokens)
        schedule_tokens(engine, index, tokens, limits.block_tokens)
        budget -= tokens


def steady_steps(engine: Engine, limits: EngineLimits) -> int:
    """How many steps, the one just scheduled included, repeat it with one more token for each running request.

    True where all running requests decode, until one ends or blocks might run out. Nothing is admitted meanwhile: what
    keeps the front of the queue out of this step (sequences, blocks, budget) only gets scarcer. With f blocks free
    and n running, each can fill f // n more blocks whatever the others do.
    """
    state = engine.state
    if state.step_prefill_tokens > 0 or state.step_preempted > 0 or state.step_decodes < state.running:
        return 1
    if state.step_swapped_blocks > 0:  # the next step takes less
        return 1
    steps = 1 + state.free_blocks // state.running * limits.block_tokens
    for position in range(state.running):
        slot = engine.slots[engine.running_slots[position]]
        steps = min(steps, slot.output_tokens - slot.produced_tokens)
    return int(steps)


def begin_step(engine: Engine, limits: EngineLimits, costs: StepCosts) -> float:
    """Schedule the next step and say how long it takes, in seconds; 0 where there is nothing to do."""
    state = engine.state
    state.step_prefill_tokens = 0
    state.step_prefill_context = 0.0
    state.step_decodes = 0
    state.step_kv_tokens = 0
    state.step_preempted = 0
    state.step_swapped_blocks = 0
    state.step_delivered = 0
    if state.running + state.waiting == 0:
        return 0.0
    while state.step_prefill_tokens + state.step_decodes == 0:
        preempted = state.step_preempted
        budget = schedule_running(engine, limits, limits.max_batched_tokens)
        if state.step_preempted == preempted:
            admit(engine, limits, budget)
    duration_s = step_seconds(
        costs, state.step_prefill_tokens, state.step_prefill_context, state.step_decodes, state.step_kv_tokens
    )
    return duration_s + state.step_swapped_blocks * costs.block_copy_s


def complete_step(engine: Engine) -> None:
    """Bring the step under way to its end: deliver tokens, let requests go that have all of theirs.

    `delivered` then lists the slots that got a token; those that ended are spare, their content is intact until the
    next `add_request`.
    """
    state = engine.state
    kept = 0
    for position in range(state.running):
        index = engine.running_slots[position]
        slot = engine.slots[index]
        slot.computed_tokens += slot.scheduled_tokens
        slot.scheduled_tokens = 0
        if slot.computed_tokens == slot.prompt_tokens + slot.produced_tokens:
            slot.produced_tokens += 1
            engine.delivered_slots[state.step_delivered] = index
            state.step_delivered += 1
            if slot.produced_tokens == slot.output_tokens:
                release(engine, index)
                continue
        engine.running_slots[kept] = index
        kept += 1
    state.running = kept
    state.output_tokens += state.step_delivered


def repeat_step(engine: Engine, limits: EngineLimits, steps: int) -> None:
    """Bring `steps` steady steps to their end and begin the next: each running request is so many tokens further.

    `steps` is less than `steady_steps`, so none of them ends a request or lacks a block.
    """
    state = engine.state
    for position in range(state.running):
        index = engine.running_slots[position]
        slot = engine.slots[index]
        slot.computed_tokens += steps
        slot.produced_tokens += steps
        known = slot.computed_tokens + 1
        added = blocks_for(known, limits.block_tokens) - slot.blocks
        take_blocks(engine.cache, slot, index, added, known, limits.block_tokens)
        slot.blocks += added
        state.free_blocks -= added
    state.step_kv_tokens += steps * state.running
    state.output_tokens += steps * state.running
