"""The prompts of a live engine as its prefix cache takes them: hashes of their blocks, while somebody needs them."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import overload

from autoscaler.simulator.prefix_cache import PromptTexts

FORGOTTEN_AT_ONCE = 4096


def block_hashes(tokens: Sequence[str], block_tokens: int) -> list[int]:
    """Of each full block of a prompt, the hash of its tokens and of all blocks before it, 0..2^62-1.

    Source: vllm 0.29.0, v1/core/kv_cache_utils.py, hash_block_tokens and get_request_block_hasher: a block's hash is
    that of its parent's hash and its own tokens, and a block that is not full has none.
    """
    hashes, before = [], 0
    for first in range(0, len(tokens) - block_tokens + 1, block_tokens):
        block = "\0".join(tokens[first : first + block_tokens])
        digest = blake2b(before.to_bytes(8, "big") + block.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        before = int.from_bytes(digest, "big") >> 2  # the kernel's hashes have 62 bits
        hashes.append(before)
    return hashes


class SlidingList(Sequence[int]):
    """A list that grows at its end and forgets its beginning; what is left keeps its place."""

    def __init__(self, items: Iterable[int] = ()) -> None:
        self._items = list(items)
        self._forgotten = 0

    def __len__(self) -> int:
        return self._forgotten + len(self._items)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[int]: ...
    def __getitem__(self, place: int | slice) -> int | Sequence[int]:
        if isinstance(place, slice):
            raise TypeError("a sliding list has no slices")
        if place < self._forgotten:
            raise IndexError(f"place {place} is forgotten")
        return self._items[place - self._forgotten]

    def extend(self, items: Iterable[int]) -> None:
        """Add items at the end."""
        self._items.extend(items)

    def forget_before(self, place: int) -> None:
        """Give up the items before `place`, not each at once: that would move the rest every time."""
        surplus = place - self._forgotten
        if surplus >= FORGOTTEN_AT_ONCE:
            del self._items[:surplus]
            self._forgotten = place


class LivePromptTexts:
    """The texts of requests 0, 1, ... of an engine that does not know what will come."""

    def __init__(self, block_tokens: int) -> None:
        self._first, self._hashes = SlidingList([0]), SlidingList()
        self.texts = PromptTexts(self._first, self._hashes, block_tokens)

    def add(self, hashes: Sequence[int]) -> None:
        """The next request's prompt begins with these blocks."""
        self._hashes.extend(hashes)
        self._first.extend([len(self._hashes)])

    def forget_before(self, request: int) -> None:
        """The requests before this one have ended."""
        self._hashes.forget_before(self._first[request])
        self._first.forget_before(request)
