"""Records -> the gaps between chunks of text, and between tokens (ITL), of which a chunk may carry several."""

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
    offsets_s = part["chunk_offsets_s"].dropna()
    return _gaps(_joined(offsets_s), np.repeat(np.arange(len(offsets_s)), offsets_s.map(len).to_numpy(np.int64)))[0]


def token_gaps(part: pd.DataFrame) -> TokenGaps:
    """The gaps before the tokens of all these requests, those of a first chunk left out."""
    if "chunk_offsets_s" not in part:
        return TokenGaps(np.zeros(0), np.zeros(0), 0, 0)
    kept = part[part["chunk_offsets_s"].notna()]
    chunks = kept["chunk_offsets_s"].map(len).to_numpy(np.int64)
    total = kept["output_tokens"].to_numpy(np.float64)
    told = kept["chunk_tokens"] if "chunk_tokens" in kept else pd.Series(None, kept.index, object)
    is_told = told.notna().to_numpy(bool)
    tokens = np.repeat(total / np.maximum(chunks, 1), chunks)
    tokens[np.repeat(is_told, chunks)] = _joined(told[is_told])
    carries_any = tokens > 0  # the rest of a token's text may come in a chunk of its own
    request = np.repeat(np.arange(len(kept)), chunks)[carries_any]
    gap_s, is_later = _gaps(_joined(kept["chunk_offsets_s"])[carries_any], request)
    tokens = tokens[carries_any][is_later]
    counted = int(((chunks > 1) & (is_told | (total == chunks))).sum())
    return TokenGaps(gap_s / tokens, tokens, counted, int((chunks > 1).sum()) - counted)


def _gaps(offsets_s: Floats, request: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """The gaps between instants of the same request, and before which instants there is one."""
    is_later = np.diff(request, prepend=-1) == 0
    return np.diff(offsets_s, prepend=0.0)[is_later], is_later


def _joined(lists: pd.Series) -> Floats:
    """All the numbers of a column of lists."""
    return np.concatenate([np.zeros(0), *lists]).astype(np.float64)
