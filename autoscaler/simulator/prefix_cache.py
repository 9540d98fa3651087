"""The state of one engine's prefix cache: its KV blocks one by one, and which text each of them holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class KvBlock:
    """One KV block.

    Attributes:
        text_hash: of the text up to the block's end; 0 = the block is not full, or was given to another request since.
        references: requests that hold it; 0 = free.
        next_free, previous_free: neighbours in the queue of free blocks, a ring through the last `KvBlock`, which is
            no block.
        next_same, previous_same: ring of the blocks with this text, in the order in which they got it.
    """

    text_hash: int = 0
    references: int = 0
    next_free: int = 0
    previous_free: int = 0
    next_same: int = 0
    previous_same: int = 0


class PrefixCache(NamedTuple):
    """The prefix cache of an engine with B usable blocks.

    Attributes:
        blocks: B + 1, the last one is head and tail of the queue of free blocks.
        block_tables: of each slot, the blocks of its request in order of the text.
        by_hash: a hash table: first block with a text, plus 1; 0 = unused.
        text_first, text_hashes: hash of request r's text up to the end of each of its recorded prompt blocks:
            text_hashes[text_first[r]:text_first[r+1]].
        text_block_tokens: tokens of a recorded prompt block.
    """

    blocks: list[KvBlock]
    block_tables: list[NDArray[np.int32]]
    by_hash: list[int]
    text_first: Sequence[int] | NDArray[np.int64]
    text_hashes: Sequence[int] | NDArray[np.int64]
    text_block_tokens: int


class PromptTexts(NamedTuple):
    """What the requests' prompts hold, as `PrefixCache` has it: i64[requests + 1], i64[recorded blocks].

    An engine of Python objects takes sequences that grow with its requests as well.
    """

    text_first: Sequence[int] | NDArray[np.int64]
    text_hashes: Sequence[int] | NDArray[np.int64]
    text_block_tokens: int


def own_texts() -> PromptTexts:
    """No prompt shares text with another."""
    return PromptTexts(np.zeros(1, np.int64), np.zeros(0, np.int64), 1)


def hash_table_places(usable_blocks: int) -> int:
    """Size of the hash table: a power of two, never more than half full."""
    return int(2 ** np.ceil(np.log2(2 * usable_blocks)))


def empty_prefix_cache(slots: int, usable_blocks: int, table_blocks: int, texts: PromptTexts) -> PrefixCache:
    """A cache that holds nothing; a slot may hold up to `table_blocks` blocks."""
    ring = usable_blocks + 1
    return PrefixCache(
        blocks=[KvBlock(next_free=(place + 1) % ring, previous_free=(place - 1) % ring) for place in range(ring)],
        block_tables=[np.zeros(table_blocks, np.int32) for _ in range(slots)],
        by_hash=[0] * hash_table_places(usable_blocks),
        text_first=_as_objects(texts.text_first),
        text_hashes=_as_objects(texts.text_hashes),
        text_block_tokens=texts.text_block_tokens,
    )


def _as_objects(numbers: Sequence[int] | NDArray[np.int64]) -> Sequence[int]:
    """Plain numbers, which are quicker one by one; a sequence that may grow stays the same object."""
    if isinstance(numbers, np.ndarray):
        plain: list[int] = numbers.tolist()
        return plain
    return numbers


def add_block_tables(cache: PrefixCache, added: int) -> None:
    """Make room for the blocks of `added` further slots."""
    cache.block_tables.extend(np.zeros_like(cache.block_tables[0]) for _ in range(added))
