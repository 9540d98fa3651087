"""How much better one forecaster is than another, with an interval that respects that errors come in runs."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_INTERVAL = (0.025, 0.975)
_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class Gain:
    """1 - loss / loss of the reference: 0.1 = a tenth less loss, below 0 = worse; low and high bound it at 95 %.

    NaN where the reference has no loss at all.
    """

    value: float
    low: float
    high: float


def gain_over(
    losses: NDArray[np.float64],
    reference: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    least_block: int = 1,
    draws: int = 1000,
) -> list[Gain]:
    """The gain in each column of f64[o, m] losses over those of the reference at the same o origins.

    Circular block bootstrap of the ratio of mean losses: both are drawn with the same blocks of neighbouring origins,
    so that what is common to them cancels. A block holds a 20th of the origins, at least `least_block`: losses are
    correlated over the hours of a busy afternoon, and too short a block makes the interval too narrow. With 20 blocks
    the interval is rough.

    Source: Politis and Romano, "A circular block-resampling procedure for stationary data", in "Exploring the Limits
    of Bootstrap", 1992; percentile interval: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13.
    """
    origins = len(losses)
    block = min(origins, max(least_block, math.ceil(origins / _BLOCKS)))
    starts = rng.integers(0, origins, size=(draws, math.ceil(origins / block)))
    drawn = _block_sums(losses, block)[starts].sum(axis=1)
    drawn_reference = _block_sums(reference, block)[starts].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = _without_infinity(1.0 - losses.sum(axis=0) / reference.sum(axis=0))
        ratios = _without_infinity(1.0 - drawn / drawn_reference)
    low, high = np.full(len(value), np.nan), np.full(len(value), np.nan)
    known = np.isfinite(ratios).any(axis=0)
    if known.any():
        low[known], high[known] = np.nanquantile(ratios[:, known], _INTERVAL, axis=0)
    return [Gain(*(float(number) for number in numbers)) for numbers in zip(value, low, high, strict=True)]


def _block_sums(losses: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """The sum over the block that starts at each origin, the end joined to the beginning; f64[o, m]."""
    joined = np.concatenate([losses, losses[: block - 1]])
    running = np.concatenate([np.zeros((1, losses.shape[1])), np.cumsum(joined, axis=0)])
    sums: NDArray[np.float64] = running[block:] - running[:-block]
    return sums


def _without_infinity(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Infinities (a reference without loss) as NaN."""
    return np.where(np.isfinite(values), values, np.nan)
