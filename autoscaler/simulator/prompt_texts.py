"""The recorded prompt blocks of a trace as the prefix cache takes them."""

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator import prefix_cache_kernel
from autoscaler.simulator.compiled import allow_in_compiled_code, compiled
from autoscaler.simulator.prefix_cache import PromptTexts, own_texts
from autoscaler.simulator.prefix_cache_kernel import mixed
from loadgen.prefix import PrefixBlocks

allow_in_compiled_code(prefix_cache_kernel)


def prompt_texts(prefix: PrefixBlocks | None) -> PromptTexts:
    """The prompts' recorded blocks, hashed; without them no two prompts share text."""
    if prefix is None:
        return own_texts()
    numbers = np.unique(prefix.block, return_inverse=True)[1].astype(np.int64)
    return PromptTexts(prefix.first, _text_hashes(prefix.first, numbers), prefix.block_tokens)


@compiled
def _text_hashes(first: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each block, the hash of its number and of those before it in its prompt."""
    hashes = np.empty_like(numbers)
    for row in range(len(first) - 1):
        before = 1
        for place in range(first[row], first[row + 1]):
            before = mixed(before, numbers[place])
            hashes[place] = before
    return hashes
