"""A table of steps and their times: sums over the layers of measured kernels, on a grid of batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoscaler.profile_fit.model_shapes import ModelShape

Times = NDArray[np.float64]

CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """What steps did and how long they took on the card alone, without host time; every array f64[steps]."""

    prefill_tokens: Times
    prefill_context: Times
    decodes: Times
    kv_tokens: Times
    duration_s: Times

    @property
    def is_prefill(self) -> NDArray[np.bool_]:
        """Steps without decodes."""
        return np.equal(self.decodes, 0)

    @property
    def is_decode(self) -> NDArray[np.bool_]:
        """Steps without prefill."""
        return np.equal(self.prefill_tokens, 0)

    @property
    def is_mixed(self) -> NDArray[np.bool_]:
        """Steps with both."""
        return ~(self.is_prefill | self.is_decode)


class KernelTimes(Protocol):
    """The measured kernels of one model on one card, in seconds."""

    def dense_s(self, tokens: int) -> float:
        """All layers but attention, for a step of so many tokens."""
        ...

    def sampling_s(self, sequences: int) -> float:
        """From the last layer to the next tokens of so many sequences."""
        ...

    def prefill_attention_s(self, sequences: int, tokens: int) -> float:
        """Attention of all layers for prompts of `tokens` tokens each."""
        ...

    def decode_attention_s(self, sequences: int, context: int) -> float:
        """Attention of all layers for one token of each sequence after `context` tokens."""
        ...


def step_table(kernels: KernelTimes, shape: ModelShape, kv_cache_tokens: int, max_batched_tokens: int) -> StepTable:
    """Sum the kernels of pure prefill and pure decode steps that the engine could do.

    Prompts count n * n / 2 of prefill context each, as in `step_duration_s`. Tables of kernels have no mixed steps.
    """
    rows = list(_prefill_rows(kernels, shape, max_batched_tokens))
    rows += _decode_rows(kernels, shape, kv_cache_tokens)
    return StepTable(*(np.asarray(column, dtype=np.float64) for column in zip(*rows, strict=True)))


def _prefill_rows(kernels: KernelTimes, shape: ModelShape, most_tokens: int) -> Iterator[tuple[float, ...]]:
    for sequences, tokens in product((1, 2, 4, 8), PROMPTS):
        total = sequences * tokens
        if total > most_tokens or tokens > shape.max_model_tokens:
            continue
        duration_s = kernels.dense_s(total) + kernels.sampling_s(sequences)
        yield total, sequences * tokens**2 / 2, 0, 0, duration_s + kernels.prefill_attention_s(sequences, tokens)


def _decode_rows(kernels: KernelTimes, shape: ModelShape, kv_cache_tokens: int) -> Iterator[tuple[float, ...]]:
    for sequences, context in product(SEQUENCES, CONTEXTS):
        total = sequences * context
        if total > kv_cache_tokens or context > shape.max_model_tokens:
            continue
        duration_s = kernels.dense_s(sequences) + kernels.sampling_s(sequences)
        yield 0, 0, sequences, total, duration_s + kernels.decode_attention_s(sequences, context)
