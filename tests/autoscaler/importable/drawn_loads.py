"""Loads at random for one engine: when requests come, how long they are, how their prompts begin."""

import random
from dataclasses import dataclass, replace

import numpy as np

from loadgen.prefix import PrefixBlocks


@dataclass(frozen=True)
class Load:
    """Requests as (step of arrival, prompt tokens, output tokens), and the engine that they meet.

    Attributes:
        prefix: what their prompts begin with; None = the engine has no prefix cache.
        priorities: the lowest goes first; None = first come, first served.
        watermark_fraction: share of the blocks that an admission leaves free.
    """

    blocks: int
    block_tokens: int
    max_sequences: int
    max_batched_tokens: int
    max_model_tokens: int
    requests: tuple[tuple[int, int, int], ...]
    prefix: PrefixBlocks | None = None
    priorities: tuple[int, ...] | None = None
    watermark_fraction: float = 0.0


def draw_load(seed: int) -> Load:
    """A load at random; about every second one is tight enough to preempt."""
    draw = random.Random(seed)
    block_tokens, max_sequences = draw.choice([4, 8, 16]), draw.randint(1, 10)
    blocks = draw.randint(14, 60) * 16 // block_tokens
    longest = min(192, (blocks - 1) * block_tokens)
    requests, step = [], 0
    for _ in range(draw.randint(3, 30)):
        step += draw.choice([0, 0, 1, 3, 10])
        prompt_tokens = draw.randint(1, longest - 2)
        requests.append((step, prompt_tokens, draw.randint(1, longest - prompt_tokens)))
    budget = max(draw.choice([16, 32, 64, 256]), max_sequences)
    return Load(blocks, block_tokens, max_sequences, budget, longest, tuple(requests))


def with_shared_prefixes(load: Load, seed: int) -> Load:
    """The load with prompts that begin alike, and with a prefix cache.

    Each prompt walks down a tree of texts and ends in it or goes on with text of its own. Recorded blocks are no
    multiple of the engine's, and a prompt may end inside one; whole prompts that are alike are among them.
    """
    draw = random.Random(seed)
    text_block_tokens = draw.choice([load.block_tokens, 4 * load.block_tokens, 10])
    prompts, blocks = [], []
    numbers: dict[tuple[int, ...], int] = {}
    for arrival, prompt_tokens, output_tokens in load.requests:
        path = draw.choices([1, 2, 3], [3, 1, 1], k=draw.randint(0, -(-prompt_tokens // text_block_tokens)))
        if path and draw.random() < 0.5:  # ends with the shared text, at a whole block of it
            prompt_tokens = min(prompt_tokens, len(path) * text_block_tokens)
        prompts.append((arrival, prompt_tokens, output_tokens))
        blocks.append([numbers.setdefault(tuple(path[: end + 1]), len(numbers)) for end in range(len(path))])
    first = np.cumsum([0] + [len(path) for path in blocks])
    block = np.array([number for path in blocks for number in path], np.int64)
    return replace(load, requests=tuple(prompts), prefix=PrefixBlocks(text_block_tokens, first, block))


def with_priorities(load: Load, seed: int) -> Load:
    """The load with three priorities."""
    draw = random.Random(seed)
    return replace(load, priorities=tuple(draw.randint(-1, 1) for _ in load.requests))


def prompt_of(load: Load, number: int) -> list[int]:
    """The prompt of a request as token ids: its recorded blocks' numbers, then text of its own."""
    tokens = load.requests[number][1]
    if load.prefix is None:
        return [1] * tokens
    shared = np.repeat(load.prefix.of(number), load.prefix.block_tokens).tolist()
    return (shared + [own_token(number)] * tokens)[:tokens]


def own_token(number: int) -> int:
    """A token that no other request has."""
    return 10**6 + number
