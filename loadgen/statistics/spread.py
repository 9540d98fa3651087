"""How values spread: quantiles, middle and ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


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
