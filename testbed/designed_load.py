"""The load that an engine is measured with: prefill alone, decode alone and both in one step, over a grid of sizes."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError
from testbed.engine_load import Generate, TokenTimes, time_request

DECODED_TOKENS = 16  # of each request whose decode is measured
SMALLEST_PROMPT = 16
CONTEXTS = (16, 64, 256, 1024, 4096, 16384)
MIXED_PROMPTS = ((32, 128), (512, 2048))  # the large ones apart: a short round leaves them out


@dataclass(frozen=True, slots=True)
class LoadPiece:
    """Requests that are put on an idle engine.

    Attributes:
        decoding: (prompt, output tokens) of requests that are sent together first.
        prompts: of requests of one token, sent one after the other when all of `decoding` have begun to answer.
    """

    decoding: tuple[tuple[int, int], ...]
    prompts: tuple[int, ...]

    @property
    def prompt_tokens(self) -> int:
        """Of all requests together: what the piece mostly costs."""
        return sum(prompt for prompt, _ in self.decoding) + sum(self.prompts)


@dataclass(frozen=True, slots=True)
class PieceTimes:
    """When the requests of a piece got their tokens."""

    piece: LoadPiece
    decoding: Sequence[TokenTimes]
    prompts: Sequence[TokenTimes]


def designed_load(limits: EngineLimits, round_prompt_tokens: float) -> list[LoadPiece]:
    """The pieces of one round for an engine with these limits, with about so many prompt tokens in all.

    Prompts double from 16 to the token budget of a step; a longer one is computed in chunks that attend to those
    before. Decoding batches grow fourfold from 1 to the most sequences, and so do their contexts, as far as the
    KV cache holds them. For mixed steps prompts are sent to batches that decode. Where that is more than there is time
    for, the largest pieces are left out.
    """
    pieces = sorted((*_prefills(limits), *_decodes(limits), *_mixed(limits)), key=lambda piece: piece.prompt_tokens)
    needed = np.cumsum([piece.prompt_tokens for piece in pieces])
    return pieces[: max(int(np.searchsorted(needed, round_prompt_tokens)), 1)]


async def drive_piece(generate: Generate, piece: LoadPiece) -> PieceTimes:
    """Put a piece on an idle engine and wait for all of it.

    Raises:
        InputError: the engine does not answer a request.
    """
    try:
        return await _drive_piece(generate, piece)
    except ExceptionGroup as group:  # of the requests that were under way together; one says why
        reasons = group.subgroup(InputError)
        raise (reasons.exceptions[0] if reasons else group) from None


async def _drive_piece(generate: Generate, piece: LoadPiece) -> PieceTimes:
    begun = [asyncio.Event() for _ in piece.decoding]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(time_request(generate, *request, event))
            for request, event in zip(piece.decoding, begun, strict=True)
        ]
        for event in begun:
            await event.wait()
        prompts = [await time_request(generate, tokens, 1) for tokens in piece.prompts]
    return PieceTimes(piece, [task.result() for task in tasks], prompts)


async def drive_round(generate: Generate, pieces: Sequence[LoadPiece], rng: np.random.Generator) -> list[PieceTimes]:
    """Drive every piece once, in an order of chance: a machine that slows down for a while hits no kind of step."""
    return [await drive_piece(generate, pieces[index]) for index in rng.permutation(len(pieces))]


def _prefills(limits: EngineLimits) -> Iterator[LoadPiece]:
    """Every size twice a round, and one prompt that is computed in chunks."""
    longest = limits.longest_request_tokens - 1
    for tokens in _growing(SMALLEST_PROMPT, min(limits.max_batched_tokens, longest), 2):
        yield LoadPiece((), (tokens, tokens))
    if longest > limits.max_batched_tokens:
        yield LoadPiece((), (min(longest, 4 * limits.max_batched_tokens),))


def _decodes(limits: EngineLimits) -> Iterator[LoadPiece]:
    for sequences, context in product(_growing(1, limits.max_sequences, 4), CONTEXTS):
        if _is_held(limits, sequences, context + DECODED_TOKENS):
            yield LoadPiece(((context, DECODED_TOKENS),) * sequences, ())


def _mixed(limits: EngineLimits) -> Iterator[LoadPiece]:
    """Prompts of every size that fit into a step beside the batch, which has one place left for them."""
    for sequences, context in product(_growing(1, limits.max_sequences - 1, 4), CONTEXTS[::2]):
        room = limits.max_batched_tokens - sequences
        for sizes in MIXED_PROMPTS:
            prompts = tuple(sorted({min(tokens, room) for tokens in sizes if room > 0}))
            if prompts and _is_held(limits, sequences + 1, max(context + 2 * DECODED_TOKENS, *prompts)):
                yield LoadPiece(((context, 2 * DECODED_TOKENS),) * sequences, prompts)


def _is_held(limits: EngineLimits, sequences: int, tokens: int) -> bool:
    """Whether the engine holds so many requests of so many tokens at a time."""
    blocks = sequences * -(-tokens // limits.block_tokens)
    return blocks <= limits.usable_blocks and tokens <= limits.longest_request_tokens


def _growing(first: int, last: int, factor: int) -> list[int]:
    """`first`, `factor` times that, and so on, and `last`."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= factor
    return [*sizes, last] if last > 0 else []
