"""A quantity that changes with time in straight lines and jumps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PiecewiseLinear:
    """A quantity over time: on [edges_s[i], edges_s[i+1]) it goes in a straight line from left[i] to right[i].

    Attributes:
        edges_s: f64[k+1], increasing.
        left, right: f64[k]; where right[i] differs from left[i+1], the quantity jumps.
    """

    edges_s: Floats
    left: Floats
    right: Floats

    def split_at(self, edges_s: Floats) -> "PiecewiseLinear":
        """The same quantity between other edges, which must contain its own where they lie within."""
        middle_s = (edges_s[:-1] + edges_s[1:]) / 2
        piece = np.clip(np.searchsorted(self.edges_s, middle_s, side="right") - 1, 0, len(self.left) - 1)
        start_s = self.edges_s[piece]
        slope = (self.right[piece] - self.left[piece]) / (self.edges_s[piece + 1] - start_s)
        return PiecewiseLinear(
            edges_s,
            self.left[piece] + slope * (edges_s[:-1] - start_s),
            self.left[piece] + slope * (edges_s[1:] - start_s),
        )

    def integral(self) -> Floats:
        """f64[k+1]: the integral from the first edge to each edge."""
        return np.concatenate([[0.0], np.cumsum(np.diff(self.edges_s) * (self.left + self.right) / 2)])
