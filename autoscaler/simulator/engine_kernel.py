"""The engine kernel: which requests get how many tokens in the next step, and what that step brings. No clock.

One scheduler for both phases, as in vLLM V1: a request needs as many tokens computed as it has; a prompt is many at
once, a decode is one. Each step shares one budget of tokens: running requests first, in order of admission, then the
queue. KV blocks are taken as tokens are scheduled; where they run out, the request admitted last gives up all of its
blocks, goes to the front of the queue and is computed anew, its produced tokens as if they were prompt.
A request is admitted only where blocks for all of its known tokens are free, not just for its first chunk, and none
is in a step that preempted one.

The functions run as they stand on Python objects, which makes a live replica light, and compiled on arrays in the
fleet simulator; the arithmetic is the same to the last bit.

Source: vllm 0.29.0, v1/core/sched/scheduler.py (Scheduler.schedule), v1/core/kv_cache_manager.py (allocate_slots,
full_sequence_must_fit), config/scheduler.py (scheduler_reserve_full_isl = True, watermark = 0).
tests/autoscaler/test_engine_vllm.py holds the schedule against that scheduler itself, step by step.
Left out: priorities, speculative decoding, asynchronous scheduling (it hides host time).
"""

from autoscaler.simulator.cost_model import StepCosts, step_seconds
from autoscaler.simulator.engine_state import Engine, EngineLimits
from autoscaler.simulator.prefix_cache_kernel import find_computed, hold_computed, let_go, take_blocks


def blocks_for(tokens: int, block_tokens: int) -> int:
    """Blocks that hold the KV of `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


def add_request(engine: Engine, request: int, prompt_tokens: int, output_tokens: int) -> int:
    """Put a request at the end of the queue; a spare slot must be there. Returns its slot."""
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
    engine.waiting_slots[(state.waiting_head + state.waiting) % len(engine.waiting_slots)] = index
    state.waiting += 1
    return int(index)


def release(engine: Engine, index: int) -> None:
    """Free the blocks of a slot and make it spare; it must be out of the running list and the queue already."""
    state = engine.state
    slot = engine.slots[index]
    state.free_blocks += let_go(engine.cache, slot, index)
    slot.blocks = 0
    slot.scheduled_tokens = 0
    engine.spare_slots[state.spare] = index
    state.spare += 1


def remove_request(engine: Engine, index: int) -> None:
    """Take the request in slot `index` out, running or waiting; its blocks are free at once."""
    state = engine.state
    if engine.slots[index].blocks > 0:
        position = 0
        while engine.running_slots[position] != index:
            position += 1
        state.running -= 1
        for later in range(position, state.running):
            engine.running_slots[later] = engine.running_slots[later + 1]
    else:
        ring = len(engine.waiting_slots)
        position = 0
        while engine.waiting_slots[(state.waiting_head + position) % ring] != index:
            position += 1
        state.waiting -= 1
        for later in range(position, state.waiting):
            here = (state.waiting_head + later) % ring
            engine.waiting_slots[here] = engine.waiting_slots[(here + 1) % ring]
    release(engine, index)


def preempt_last(engine: Engine) -> None:
    """The running request admitted last loses its blocks and goes to the front of the queue."""
    state = engine.state
    state.running -= 1
    index = engine.running_slots[state.running]
    slot = engine.slots[index]
    state.free_blocks += let_go(engine.cache, slot, index)
    slot.blocks = 0
    slot.computed_tokens = 0
    ring = len(engine.waiting_slots)
    state.waiting_head = (state.waiting_head - 1 + ring) % ring
    engine.waiting_slots[state.waiting_head] = index
    state.waiting += 1
    state.step_preempted += 1
    state.preemptions += 1


def schedule_tokens(engine: Engine, index: int, tokens: int, block_tokens: int) -> None:
    """Give the request in slot `index` `tokens` tokens of the step, and count its blocks, which must be free."""
    state = engine.state
    slot = engine.slots[index]
    slot.scheduled_tokens = tokens
    known = slot.computed_tokens + tokens
    added = blocks_for(known, block_tokens) - slot.blocks
    slot.blocks += added
    state.free_blocks -= added
    if slot.computed_tokens < slot.prefill_tokens:
        state.step_prefill_tokens += tokens
        state.step_prefill_context += tokens * (slot.computed_tokens + 0.5 * tokens)
    else:
        state.step_decodes += 1
        state.step_kv_tokens += known


def schedule_running(engine: Engine, limits: EngineLimits, budget: int) -> int:
    """Give tokens to the running requests in order of admission, preempt where blocks run out; the budget left."""
    state = engine.state
    position = 0
    while position < state.running and budget > 0:
        index = engine.running_slots[position]
        slot = engine.slots[index]
        tokens = min(slot.prompt_tokens + slot.produced_tokens - slot.computed_tokens, budget)
        needed = blocks_for(slot.computed_tokens + tokens, limits.block_tokens) - slot.blocks
        while needed > state.free_blocks and state.running > position:
            preempt_last(engine)
        if state.running == position:  # it was the last itself
            break
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
        if blocks_for(known, limits.block_tokens) - found + unheld > state.free_blocks:
            break
        state.waiting_head = (state.waiting_head + 1) % ring
        state.waiting -= 1
        engine.running_slots[state.running] = index
        state.running += 1
        slot.prefill_tokens = known
        hold_computed(engine.cache, index, found)
        state.free_blocks -= unheld
        slot.blocks = found
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
    state.step_delivered = 0
    if state.running + state.waiting == 0:
        return 0.0
    budget = schedule_running(engine, limits, limits.max_batched_tokens)
    if state.step_preempted == 0:
        admit(engine, limits, budget)
    return step_seconds(
        costs, state.step_prefill_tokens, state.step_prefill_context, state.step_decodes, state.step_kv_tokens
    )


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
