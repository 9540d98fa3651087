"""Which prompts begin alike: the text of a prompt as numbered blocks, equal numbers for equal text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class PrefixBlocks:
    """The first blocks of each prompt, as a trace with recorded block hashes knows them.

    Two prompts whose first k block numbers are equal begin with the same k x `block_tokens` tokens. A prompt's last
    block may be shorter than a block. A prompt without blocks shares its text with no other.

    Attributes:
        block_tokens: tokens of a whole block (512 in Mooncake's traces).
        first: i64[n+1]; the blocks of row i are block[first[i]:first[i+1]].
        block: i64[m], block numbers in order of the text.
    """

    block_tokens: int
    first: NDArray[np.int64]
    block: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of prompts."""
        return len(self.first) - 1

    def of(self, row: int) -> NDArray[np.int64]:
        """The block numbers of one prompt."""
        return self.block[self.first[row] : self.first[row + 1]]

    def take(self, rows: NDArray[np.integer] | slice) -> "PrefixBlocks":
        """The blocks of these prompts, in this order."""
        counts = np.diff(self.first)[rows]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # Block j of the result lies as far into its prompt as j is past the prompt's first block.
        into = np.arange(first[-1]) - np.repeat(first[:-1], counts)
        return PrefixBlocks(self.block_tokens, first, self.block[np.repeat(self.first[rows], counts) + into])


def check_prefix_blocks(name: str, prefix: PrefixBlocks, rows: int) -> None:
    """Check that the blocks fit a trace of `rows` requests.

    Raises:
        InputError: they do not; `name` is the trace's.
    """
    if prefix.block_tokens < 1:
        raise InputError(f"trace '{name}': prefix block_tokens is {prefix.block_tokens}, want at least 1")
    if len(prefix) != rows:
        raise InputError(f"trace '{name}': prefix blocks are of {len(prefix)} prompts, arrival_s has {rows} rows")
    if prefix.first[0] != 0 or prefix.first[-1] != len(prefix.block) or np.any(np.diff(prefix.first) < 0):
        raise InputError(f"trace '{name}': the prefix blocks' bounds do not cover them; make the trace again")
