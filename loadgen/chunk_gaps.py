"""Records -> the gaps between chunks of text, and between tokens (ITL), of which a chunk may carry several."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TokenGaps:
    """The gaps before the tokens of some requests, equal ones together.

    A chunk's tokens share the gap before it evenly: a client cannot tell when each of them was made.

    Attributes:
        gap_s: f64[n].
        tokens: f64[n], how many have this gap before them.
        counted: requests whose tokens are known for each chunk.
        averaged: requests of which only all tokens are known: each chunk is taken to carry as many as the others.
    """

    gap_s: Floats
    tokens: Floats
    counted: int
    averaged: int


def chunk_gaps_s(part: pd.DataFrame) -> Floats:
    """The gaps between chunks of all these requests; empty where no instants were kept."""
    if "chunk_offsets_s" not in part:
        return np.zeros(0)
    return _joined(np.diff(_floats(offsets_s)) for offsets_s in part["chunk_offsets_s"].dropna())


def token_gaps(part: pd.DataFrame) -> TokenGaps:
    """The gaps before the tokens of all these requests, those of a first chunk left out."""
    if "chunk_offsets_s" not in part:
        return TokenGaps(np.zeros(0), np.zeros(0), 0, 0)
    has_gaps = [offsets_s is not None and len(offsets_s) > 1 for offsets_s in part["chunk_offsets_s"]]
    kept = part[np.array(has_gaps, dtype=bool)]
    chunk_tokens = kept["chunk_tokens"] if "chunk_tokens" in kept else [None] * len(kept)
    gaps: list[Floats] = []
    tokens: list[Floats] = []
    counted = 0
    for offsets_s, told, total in zip(kept["chunk_offsets_s"], chunk_tokens, kept["output_tokens"], strict=True):
        carried = np.full(len(offsets_s), total / len(offsets_s)) if told is None else _floats(told)
        counted += told is not None or total == len(offsets_s)
        carries_any = carried > 0  # the rest of a token's text may come in a chunk of its own
        tokens.append(carried[carries_any][1:])
        gaps.append(np.diff(_floats(offsets_s)[carries_any]) / tokens[-1])
    return TokenGaps(_joined(gaps), _joined(tokens), counted, len(kept) - counted)


def _floats(values: object) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _joined(arrays: Iterator[Floats] | list[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *arrays])
