"""How values spread: quantiles, middle and ends, histograms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of a set of values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How many values fall into each bin.

    Attributes:
        edges: f64[b + 1], ascending; bin i is [edges[i], edges[i + 1]). Together the bins hold every value above 0.
        counts: i64[b].
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


def spread(values: Sequence[float] | NDArray[np.number]) -> Spread:
    """The median and the ends of at least one value."""
    return Spread(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def quantiles(values: NDArray[np.number]) -> dict[str, float]:
    """The values at 5, 25, 50, 75, 95 and 99 %, by level ('p50'); empty where there are none."""
    if len(values) == 0:
        return {}
    found = np.quantile(values, _LEVELS)
    return {f"p{round(level * 100):02d}": float(value) for level, value in zip(_LEVELS, found, strict=True)}


def log_histogram(values: NDArray[np.floating], bins: int = 40) -> Histogram:
    """The values above 0 in bins of equal width on a logarithmic axis; one bin where all are alike."""
    positive = values[values > 0]
    if len(positive) == 0:
        return Histogram(edges=np.array([1.0, 2.0]), counts=np.zeros(1, dtype=np.int64))
    low, high = float(positive.min()), float(positive.max())
    edges = np.geomspace(low, high, bins + 1) if high > low else np.array([low, high])
    edges[0], edges[-1] = low, np.nextafter(high, np.inf)
    counts, _ = np.histogram(positive, edges)
    return Histogram(edges=edges, counts=counts.astype(np.int64))
