"""What must hold in one engine between steps: blocks, slots and tokens add up, and the prefix cache finds its texts."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from autoscaler.simulator.engine_queue import goes_before
from autoscaler.simulator.engine_state import Engine, EngineLimits, EngineState, Slot
from autoscaler.simulator.prefix_cache import PrefixCache
from autoscaler.simulator.prefix_cache_kernel import place_of, text_hash


def check_engine(engine: Engine, limits: EngineLimits) -> None:
    """Raise AssertionError unless blocks, slots and tokens add up; for tests, after any step or call."""
    state, ring = engine.state, len(engine.waiting_slots)
    running = [int(index) for index in engine.running_slots[: state.running]]
    waiting = [int(engine.waiting_slots[(state.waiting_head + place) % ring]) for place in range(state.waiting)]
    spare = [int(index) for index in engine.spare_slots[: state.spare]]
    assert sorted(running + waiting + spare) == list(range(ring)), "each slot is in one list, once"
    assert state.running <= limits.max_sequences, "at most max_sequences run"
    assert state.free_blocks >= 0, "no more blocks are held than there are"
    if engine.cache is not None:
        check_prefix_cache(
            engine.cache, {index: engine.slots[index] for index in running}, state.free_blocks, limits.block_tokens
        )
    else:
        held = sum(engine.slots[index].blocks for index in range(ring))
        assert held + state.free_blocks == limits.usable_blocks, "blocks are held or free"
    assert not any(engine.slots[index].blocks for index in waiting + spare), "only running requests hold blocks"
    check_queue([engine.slots[index] for index in waiting], limits, state)
    assert not any(engine.slots[index].swapped_blocks for index in running + spare), "only waiting ones are swapped out"
    at_work = [engine.slots[index] for index in running]
    assert sum(slot.scheduled_tokens for slot in at_work) <= limits.max_batched_tokens, "a step keeps to its budget"
    for slot in at_work:
        computed = slot.computed_tokens + slot.scheduled_tokens
        assert slot.blocks == -(-computed // limits.block_tokens), "blocks are exactly those needed"
        assert computed <= slot.prompt_tokens + slot.produced_tokens, "only known tokens are computed"
        assert slot.produced_tokens < slot.output_tokens, "a request that has all of its tokens has left"


def check_queue(waiting: list[Slot], limits: EngineLimits, state: EngineState) -> None:
    """Raise AssertionError unless the queue is in order and host memory holds what its requests have there."""
    assert all(goes_before(slot, after) for slot, after in pairwise(waiting)), "the queue is in order"
    swapped = sum(slot.swapped_blocks for slot in waiting)
    assert swapped + state.free_swap_blocks == limits.swap_blocks, "host memory is held or free"
    for slot in waiting:
        assert slot.scheduled_tokens == 0, "who waits gets no tokens"
        assert slot.arrival < state.arrivals, "who waits has arrived"
        kept = -(-slot.computed_tokens // limits.block_tokens)
        assert slot.swapped_blocks == kept, "what is computed is in host memory, the rest is lost"


def check_prefix_cache(cache: PrefixCache, running: Mapping[int, Slot], free_blocks: int, block_tokens: int) -> None:
    """Raise AssertionError unless every block is held as often as requests hold it, free or not, and found by its text.

    Args:
        running: the running requests by slot.
        free_blocks: as many are to be free.
    """
    ends = len(cache.blocks) - 1
    tables = {index: cache.block_tables[index][: slot.blocks].tolist() for index, slot in running.items()}
    held = Counter(block for table in tables.values() for block in table)
    assert all(len(set(table)) == len(table) for table in tables.values()), "no request holds a block twice"
    assert [block.references for block in cache.blocks[:ends]] == [held[number] for number in range(ends)]
    free, number = [], cache.blocks[ends].next_free
    while number != ends:
        assert cache.blocks[cache.blocks[number].next_free].previous_free == number, "the queue is the same backwards"
        free.append(number)
        number = cache.blocks[number].next_free
    assert sorted(free + list(held)) == list(range(ends)), "each block is held or in the queue of free blocks, once"
    assert len(free) == free_blocks, "free blocks are counted"
    for index, slot in running.items():
        full = (slot.computed_tokens + slot.scheduled_tokens) // block_tokens
        texts = [text_hash(cache, slot, place, block_tokens) for place in range(full)]
        hashes = [cache.blocks[block].text_hash for block in tables[index]]
        assert hashes == texts + [0] * (slot.blocks - full), "full blocks hold their request's text, others none"
    by_text: dict[int, set[int]] = {}
    for number, block in enumerate(cache.blocks[:ends]):
        if block.text_hash != 0:
            by_text.setdefault(block.text_hash, set()).add(number)
    assert sum(entry != 0 for entry in cache.by_hash) == len(by_text), "the hash table has each text once"
    for wanted, holders in by_text.items():
        first = cache.by_hash[place_of(cache.blocks, cache.by_hash, wanted)] - 1
        ring, number = {first}, cache.blocks[first].next_same
        while number != first:
            ring.add(number)
            number = cache.blocks[number].next_same
        assert ring == holders, "a text is found in every block that holds it"
