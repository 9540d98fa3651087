"""The engine kernel: which requests get how many tokens in the next step, and what that step brings. No clock.

One scheduler for both phases, as in vLLM V1: a request needs as many tokens computed as it has; a prompt is many at
once, a decode is one. Each step shares one budget of tokens: running requests first, in order of admission, then the
queue. KV blocks are taken as tokens are scheduled; where they run out, the request admitted last gives up all of its
blocks, goes to the front of the queue and is computed anew, its produced tokens as if they were prompt.
A request is admitted only where blocks for all of its known tokens are free, not just for its first chunk, and none
is in a step that preempted one.

Source: vllm 0.29.0, v1/core/sched/scheduler.py (Scheduler.schedule), v1/core/kv_cache_manager.py (allocate_slots,
full_sequence_must_fit), config/scheduler.py (scheduler_reserve_full_isl = True, watermark = 0).
Left out: prefix cache, priorities, speculative decoding, asynchronous scheduling (it hides host time).
"""

from autoscaler.simulator.compiled import compiled
from autoscaler.simulator.cost_model import StepCosts, step_seconds
from autoscaler.simulator.engine_state import EngineLimits, Engines


@compiled
def blocks_for(tokens: int, block_tokens: int) -> int:
    """Blocks that hold the KV of `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


@compiled
def add_request(engines: Engines, row: int, request: int, prompt_tokens: int, output_tokens: int) -> int:
    """Put a request at the end of the queue of engine `row`; a spare slot must be there. Returns its slot."""
    engine = engines.engine[row]
    engine.spare -= 1
    index = engines.spare[row, engine.spare]
    slot = engines.slot[row, index]
    slot.request = request
    slot.prompt_tokens = max(1, prompt_tokens)
    slot.output_tokens = max(1, output_tokens)
    slot.produced_tokens = 0
    slot.computed_tokens = 0
    slot.prefill_tokens = 0
    slot.scheduled_tokens = 0
    slot.blocks = 0
    engines.waiting[row, (engine.waiting_head + engine.waiting) % engines.waiting.shape[1]] = index
    engine.waiting += 1
    return int(index)


@compiled
def release(engines: Engines, row: int, index: int) -> None:
    """Free the blocks of a slot and make it spare; it must be out of the running list and the queue already."""
    engine = engines.engine[row]
    slot = engines.slot[row, index]
    engine.free_blocks += slot.blocks
    slot.blocks = 0
    slot.scheduled_tokens = 0
    engines.spare[row, engine.spare] = index
    engine.spare += 1


@compiled
def remove_request(engines: Engines, row: int, index: int) -> None:
    """Take the request in slot `index` out of engine `row`, running or waiting; its blocks are free at once."""
    engine = engines.engine[row]
    if engines.slot[row, index].blocks > 0:
        position = 0
        while engines.running[row, position] != index:
            position += 1
        engine.running -= 1
        for later in range(position, engine.running):
            engines.running[row, later] = engines.running[row, later + 1]
    else:
        slots = engines.waiting.shape[1]
        position = 0
        while engines.waiting[row, (engine.waiting_head + position) % slots] != index:
            position += 1
        engine.waiting -= 1
        for later in range(position, engine.waiting):
            here = (engine.waiting_head + later) % slots
            engines.waiting[row, here] = engines.waiting[row, (here + 1) % slots]
    release(engines, row, index)


@compiled
def preempt_last(engines: Engines, row: int) -> None:
    """The running request admitted last loses its blocks and goes to the front of the queue."""
    engine = engines.engine[row]
    engine.running -= 1
    index = engines.running[row, engine.running]
    slot = engines.slot[row, index]
    engine.free_blocks += slot.blocks
    slot.blocks = 0
    slot.computed_tokens = 0
    slots = engines.waiting.shape[1]
    engine.waiting_head = (engine.waiting_head - 1 + slots) % slots
    engines.waiting[row, engine.waiting_head] = index
    engine.waiting += 1
    engine.step_preempted += 1
    engine.preemptions += 1


@compiled
def schedule_tokens(engines: Engines, row: int, index: int, tokens: int, block_tokens: int) -> None:
    """Give the request in slot `index` `tokens` tokens of the step, and the blocks for them, which must be free."""
    engine = engines.engine[row]
    slot = engines.slot[row, index]
    slot.scheduled_tokens = tokens
    known = slot.computed_tokens + tokens
    added = blocks_for(known, block_tokens) - slot.blocks
    slot.blocks += added
    engine.free_blocks -= added
    if slot.computed_tokens < slot.prefill_tokens:
        engine.step_prefill_tokens += tokens
        engine.step_prefill_context += tokens * (slot.computed_tokens + 0.5 * tokens)
    else:
        engine.step_decodes += 1
        engine.step_kv_tokens += known


@compiled
def schedule_running(engines: Engines, row: int, limits: EngineLimits, budget: int) -> int:
    """Give tokens to the running requests in order of admission, preempt where blocks run out; the budget left."""
    engine = engines.engine[row]
    position = 0
    while position < engine.running and budget > 0:
        index = engines.running[row, position]
        slot = engines.slot[row, index]
        tokens = min(slot.prompt_tokens + slot.produced_tokens - slot.computed_tokens, budget)
        needed = blocks_for(slot.computed_tokens + tokens, limits.block_tokens) - slot.blocks
        while needed > engine.free_blocks and engine.running > position:
            preempt_last(engines, row)
        if engine.running == position:  # it was the last itself
            break
        schedule_tokens(engines, row, index, tokens, limits.block_tokens)
        budget -= tokens
        position += 1
    return budget


@compiled
def admit(engines: Engines, row: int, limits: EngineLimits, budget: int) -> None:
    """Let requests from the front of the queue run while sequences, blocks and tokens of the budget are left."""
    engine = engines.engine[row]
    slots = engines.waiting.shape[1]
    while engine.waiting > 0 and budget > 0 and engine.running < limits.max_sequences:
        index = engines.waiting[row, engine.waiting_head]
        slot = engines.slot[row, index]
        known = slot.prompt_tokens + slot.produced_tokens
        if blocks_for(known, limits.block_tokens) > engine.free_blocks:
            break
        engine.waiting_head = (engine.waiting_head + 1) % slots
        engine.waiting -= 1
        engines.running[row, engine.running] = index
        engine.running += 1
        slot.prefill_tokens = known
        tokens = min(known, budget)
        schedule_tokens(engines, row, index, tokens, limits.block_tokens)
        budget -= tokens


@compiled
def steady_steps(engines: Engines, row: int, limits: EngineLimits) -> int:
    """How many steps, the one just scheduled included, repeat it with one more token for each running request.

    True where all running requests decode, until one ends or blocks might run out. Nothing is admitted meanwhile: what
    keeps the front of the queue out of this step (sequences, blocks, budget) only gets scarcer. With f blocks free
    and n running, each can fill f // n more blocks whatever the others do.
    """
    engine = engines.engine[row]
    if engine.step_prefill_tokens > 0 or engine.step_preempted > 0 or engine.step_decodes < engine.running:
        return 1
    steps = 1 + engine.free_blocks // engine.running * limits.block_tokens
    for position in range(engine.running):
        slot = engines.slot[row, engines.running[row, position]]
        steps = min(steps, slot.output_tokens - slot.produced_tokens)
    return int(steps)


@compiled
def begin_step(engines: Engines, row: int, limits: EngineLimits, costs: StepCosts) -> float:
    """Schedule the next step of engine `row` and say how long it takes, in seconds; 0 where there is nothing to do."""
    engine = engines.engine[row]
    engine.step_prefill_tokens = 0
    engine.step_prefill_context = 0.0
    engine.step_decodes = 0
    engine.step_kv_tokens = 0
    engine.step_preempted = 0
    engine.step_delivered = 0
    engine.steady_steps = 0
    if engine.running + engine.waiting == 0:
        return 0.0
    budget = schedule_running(engines, row, limits, limits.max_batched_tokens)
    if engine.step_preempted == 0:
        admit(engines, row, limits, budget)
    engine.steady_steps = steady_steps(engines, row, limits)
    return step_seconds(
        costs, engine.step_prefill_tokens, engine.step_prefill_context, engine.step_decodes, engine.step_kv_tokens
    )


@compiled
def complete_step(engines: Engines, row: int) -> None:
    """Bring the step under way to its end: deliver tokens, let requests go that have all of theirs.

    `delivered` then lists the slots that got a token; those that ended are spare, their content is intact until the
    next `add_request`.
    """
    engine = engines.engine[row]
    kept = 0
    for position in range(engine.running):
        index = engines.running[row, position]
        slot = engines.slot[row, index]
        slot.computed_tokens += slot.scheduled_tokens
        slot.scheduled_tokens = 0
        if slot.computed_tokens == slot.prompt_tokens + slot.produced_tokens:
            slot.produced_tokens += 1
            engines.delivered[row, engine.step_delivered] = index
            engine.step_delivered += 1
            if slot.produced_tokens == slot.output_tokens:
                release(engines, row, index)
                continue
        engines.running[row, kept] = index
        kept += 1
    engine.running = kept
    engine.output_tokens += engine.step_delivered


@compiled
def repeat_step(engines: Engines, row: int, limits: EngineLimits, steps: int) -> None:
    """Bring `steps` steady steps to their end and begin the next: each running request is so many tokens further.

    `steps` < `engine.steady_steps`, so none of them ends a request or lacks a block.
    """
    engine = engines.engine[row]
    for position in range(engine.running):
        slot = engines.slot[row, engines.running[row, position]]
        slot.computed_tokens += steps
        slot.produced_tokens += steps
        added = blocks_for(slot.computed_tokens + 1, limits.block_tokens) - slot.blocks
        slot.blocks += added
        engine.free_blocks -= added
    engine.step_kv_tokens += steps * engine.running
    engine.output_tokens += steps * engine.running
    engine.steady_steps -= steps
