"""A pool of real texts, indexed by their number of tokens, and which of them each request gets."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.prompts.conversations import OnRead, human_turns
from loadgen.prompts.tokenizer import Tokenizer

_BATCH_TEXTS: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class TextPool:
    """Different texts, the shorter ones first.

    Attributes:
        texts: large_string[n]; a column, so that Ray's processes share its memory.
        tokens: i64[n], non-decreasing, each at least 1.
    """

    texts: Any
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.tokens)

    def text(self, place: int) -> str:
        """One of the texts."""
        return str(self.texts[place].as_py())


def read_pool(path: Path, tokenizer: Tokenizer, on_read: OnRead | None = None) -> TextPool:
    """Read the texts that people wrote in a file of conversations and count each once; a repeated text counts once.

    Raises:
        InputError: the file is unreadable or malformed, or holds no such text.
    """
    seen: set[int] = set()
    chunks: list[Any] = []
    tokens: list[int] = []
    for batch in _batches(human_turns(path, on_read)):
        # By their 64 bits of hash, not to hold all texts twice: two of a million collide once in 40 million files.
        new = [text for text in dict.fromkeys(batch) if hash(text) not in seen]
        seen.update(map(hash, new))
        kept = [(text, count) for text, count in zip(new, tokenizer.counts(new), strict=True) if count]
        chunks.append(pa.array([text for text, _ in kept], pa.large_string()))
        tokens += [count for _, count in kept]
    if not tokens:
        raise InputError(f"{path}: holds no text of a person; want turns from 'human' or 'user'")
    counted = np.array(tokens, dtype=np.int64)
    order = np.argsort(counted, kind="stable")
    return TextPool(pa.chunked_array(chunks).combine_chunks().take(pa.array(order)), counted[order])


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(texts, _BATCH_TEXTS)):
        yield batch


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Which texts of a pool each request gets: those of request i are `place[first[i]:first[i + 1]]`."""

    first: NDArray[np.int64]
    place: NDArray[np.int64]

    def of(self, row: int) -> list[int]:
        """The texts of one request, to be joined in this order."""
        found: list[int] = self.place[self.first[row] : self.first[row + 1]].tolist()
        return found


def assign_texts(
    pool_tokens: NDArray[np.int64], wanted_tokens: NDArray[np.int64], rng: np.random.Generator
) -> Assignment:
    """Give each request, in order, texts that together have at least the tokens that it wants; none if it wants 0.

    It gets the shortest unused text that is long enough; where there is none, the longest unused ones that together
    are. Only where the unused ones do not suffice, all count as unused again. Among texts of one length `rng` chooses.

    Args:
        pool_tokens: i64[m], non-decreasing.
    """
    # A place of the shuffled order lies among the places of the same length.
    shuffled = rng.permutation(len(pool_tokens))
    shuffled = shuffled[np.argsort(pool_tokens[shuffled], kind="stable")]
    unused = _Unused(len(pool_tokens))
    long_enough = np.searchsorted(pool_tokens, wanted_tokens).tolist()
    given: list[list[int]] = []
    for tokens, shortest in zip(wanted_tokens.tolist(), long_enough, strict=True):
        given.append(_take(unused, pool_tokens, tokens, shortest) if tokens else [])
    first = np.concatenate([[0], np.cumsum([len(places) for places in given])]).astype(np.int64)
    return Assignment(first, shuffled[np.array([place for places in given for place in places], dtype=np.int64)])


def _take(unused: "_Unused", pool_tokens: NDArray[np.int64], tokens: int, shortest: int) -> list[int]:
    taken: list[int] = []
    while tokens > 0:
        place = unused.from_place_on(shortest)
        if place is None:
            place = unused.before_place(shortest)
        if place is None:
            unused.renew()
            continue
        unused.use(place)
        taken.append(place)
        tokens -= int(pool_tokens[place])
        shortest = int(np.searchsorted(pool_tokens, max(tokens, 0)))
    return taken


class _Unused:
    """Which of the places 0 to n - 1 are unused; finds the nearest one on either side.

    Each place points to one at or beyond it that may be unused; a search makes what it passed point to what it found.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self.renew()

    def renew(self) -> None:
        """All are unused again."""
        self._up = list(range(self._places + 1))  # the last one stands for: none
        self._down = list(range(self._places + 1))  # shifted by one; the first one stands for: none

    def use(self, place: int) -> None:
        self._up[place] = place + 1
        self._down[place + 1] = place

    def from_place_on(self, place: int) -> int | None:
        """The first unused one from `place` on."""
        found = _follow(self._up, place)
        return None if found == self._places else found

    def before_place(self, place: int) -> int | None:
        """The last unused one before `place`."""
        found = _follow(self._down, place)
        return None if found == 0 else found - 1


def _follow(pointers: list[int], place: int) -> int:
    """Where the pointers from `place` end; those on the way are shortened."""
    end = place
    while pointers[end] != end:
        end = pointers[end]
    while pointers[place] != end:
        place, pointers[place] = pointers[place], end
    return end
