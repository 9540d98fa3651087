"""The prefix cache of the engine kernel: which KV blocks hold which text, who holds them, and which go first.

A block that is full keeps its text when its requests let go of it, and is free all the same: a request whose text
begins alike takes it as computed, until it is given to another. Blocks are given out from the head of the queue of
free blocks; a full one joins at its tail, a request's last ones first, and one that is not full at its head.
A block counts as full as soon as the tokens that fill it are scheduled. Equal texts are not merged: a block that turns
out to hold what another does stays, and the first one is found.

Like the engine kernel, the functions run on Python objects and, compiled, on arrays. Without a cache (None) blocks are
only counted; the compiler leaves out what is below such a line, so that it costs nothing there.

Source: vllm 0.29.0, v1/core/block_pool.py (get_new_blocks, touch, free_blocks, cache_full_blocks,
BlockHashToBlockMap), v1/core/single_type_kv_cache_manager.py (get_num_blocks_to_allocate,
FullAttentionManager.find_longest_cache_hit), v1/core/kv_cache_manager.py (get_computed_blocks).
tests/autoscaler/test_engine_vllm.py holds the schedule against vLLM's own, step by step.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoscaler.simulator.engine_state import Slot
    from autoscaler.simulator.prefix_cache import KvBlock, PrefixCache

LOW_31_BITS = 2**31 - 1
OWN_TEXT = 2


def mixed(before: int, number: int) -> int:
    """A hash of a hash and a number below 2^31, 1..2^62-1: a Feistel network whose rounds multiply and fold.

    No product is beyond 62 bits: compiled code takes it that whole numbers with a sign do not overflow.
    """
    low, high = before & LOW_31_BITS, before >> 31
    for factor in (0x2545F491, 0x5BD1E995, 0x4F6CDD1D, 0x7ED55D17):
        product = (low ^ (number & LOW_31_BITS)) * factor + factor
        low, high = high ^ ((product ^ (product >> 31)) & LOW_31_BITS), low
    return max(1, high << 31 | low)


def text_hash(cache: "PrefixCache", slot: "Slot", place: int, block_tokens: int) -> int:
    """The hash of a request's text up to the end of its block number `place`.

    Within the recorded blocks of its prompt it is that of the recorded block in which it ends; all further text, and
    what the engine produced, is the request's own.
    """
    last_token = (place + 1) * block_tokens - 1
    if last_token < slot.prompt_tokens and slot.request + 1 < len(cache.text_first):
        recorded = cache.text_first[slot.request] + last_token // cache.text_block_tokens
        if recorded < cache.text_first[slot.request + 1]:
            return mixed(cache.text_hashes[recorded], place)
    return mixed(mixed(OWN_TEXT, slot.request), place)


def place_of(blocks: "list[KvBlock]", by_hash: list[int], wanted: int) -> int:
    """Where the hash table has this hash, or the unused place where it belongs."""
    last = len(by_hash) - 1
    place = wanted & last
    while by_hash[place] != 0 and blocks[by_hash[place] - 1].text_hash != wanted:
        place = (place + 1) & last
    return place


def close_gap(blocks: "list[KvBlock]", by_hash: list[int], gap: int) -> None:
    """Make a place of the hash table unused, and move those behind it that would not be found any more."""
    last = len(by_hash) - 1
    place = (gap + 1) & last
    while by_hash[place] != 0:
        home = blocks[by_hash[place] - 1].text_hash & last
        if (place - home) & last >= (place - gap) & last:
            by_hash[gap] = by_hash[place]
            gap = place
        place = (place + 1) & last
    by_hash[gap] = 0


def remember(blocks: "list[KvBlock]", by_hash: list[int], block: int, wanted: int) -> None:
    """The block holds this text from now on; it comes after others that do."""
    place = place_of(blocks, by_hash, wanted)
    kv_block = blocks[block]
    if by_hash[place] == 0:
        by_hash[place] = block + 1
        kv_block.next_same = block
        kv_block.previous_same = block
    else:
        first = by_hash[place] - 1
        last = blocks[first].previous_same
        kv_block.next_same = first
        kv_block.previous_same = last
        blocks[last].next_same = block
        blocks[first].previous_same = block
    kv_block.text_hash = wanted


def forget(blocks: "list[KvBlock]", by_hash: list[int], block: int) -> None:
    """The block's text is gone."""
    kv_block = blocks[block]
    place = place_of(blocks, by_hash, kv_block.text_hash)
    if kv_block.next_same == block:
        close_gap(blocks, by_hash, place)
    else:
        blocks[kv_block.previous_same].next_same = kv_block.next_same
        blocks[kv_block.next_same].previous_same = kv_block.previous_same
        if by_hash[place] == block + 1:
            by_hash[place] = kv_block.next_same + 1
    kv_block.text_hash = 0


def leave_free(blocks: "list[KvBlock]", block: int) -> None:
    """Take a block out of the queue of free blocks."""
    kv_block = blocks[block]
    blocks[kv_block.previous_free].next_free = kv_block.next_free
    blocks[kv_block.next_free].previous_free = kv_block.previous_free


def join_free(blocks: "list[KvBlock]", block: int) -> None:
    """Put a block into the queue of free blocks: at its tail where it holds text, else at its head."""
    kv_block = blocks[block]
    ends = len(blocks) - 1
    before = blocks[ends].previous_free if kv_block.text_hash != 0 else ends
    after = blocks[before].next_free
    kv_block.previous_free = before
    kv_block.next_free = after
    blocks[before].next_free = block
    blocks[after].previous_free = block


def take_blocks(
    cache: "PrefixCache | None", slot: "Slot", index: int, added: int, tokens: int, block_tokens: int
) -> None:
    """Give the request in slot `index` the first `added` free blocks, for its first `tokens` tokens in all.

    What they held is lost. The blocks that are full with so many tokens hold the request's text from now on; of those
    that it had, only the last one may not have been full.
    """
    if cache is None:
        return
    for place in range(slot.blocks, slot.blocks + added):
        block = cache.blocks[len(cache.blocks) - 1].next_free
        leave_free(cache.blocks, block)
        if cache.blocks[block].text_hash != 0:
            forget(cache.blocks, cache.by_hash, block)
        cache.blocks[block].references = 1
        cache.block_tables[index][place] = block
    for place in range(max(0, slot.blocks - 1), tokens // block_tokens):
        block = int(cache.block_tables[index][place])
        if cache.blocks[block].text_hash == 0:
            remember(cache.blocks, cache.by_hash, block, text_hash(cache, slot, place, block_tokens))


def find_computed(cache: "PrefixCache | None", slot: "Slot", index: int, block_tokens: int) -> tuple[int, int]:
    """How many blocks the request's text begins with that are there, and how many of them nobody holds.

    They are put into its block table, not taken yet. At least one of its tokens is left to compute.
    """
    if cache is None:
        return 0, 0
    found, unheld = 0, 0
    most = (slot.prompt_tokens + slot.produced_tokens - 1) // block_tokens
    while found < most:
        place = place_of(cache.blocks, cache.by_hash, text_hash(cache, slot, found, block_tokens))
        if cache.by_hash[place] == 0:
            break
        block = cache.by_hash[place] - 1
        cache.block_tables[index][found] = block
        unheld += cache.blocks[block].references == 0
        found += 1
    return found, unheld


def hold_computed(cache: "PrefixCache | None", index: int, found: int) -> None:
    """Let the request in slot `index` hold the blocks that `find_computed` found."""
    if cache is None:
        return
    for place in range(found):
        block = int(cache.block_tables[index][place])
        if cache.blocks[block].references == 0:
            leave_free(cache.blocks, block)
        cache.blocks[block].references += 1


def let_go(cache: "PrefixCache | None", slot: "Slot", index: int) -> int:
    """The request in slot `index` holds its blocks no more, the last one first; how many of them are free now."""
    if cache is None:
        return slot.blocks
    freed = 0
    for place in range(slot.blocks - 1, -1, -1):
        block = int(cache.block_tables[index][place])
        cache.blocks[block].references -= 1
        if cache.blocks[block].references == 0:
            join_free(cache.blocks, block)
            freed += 1
    return freed
