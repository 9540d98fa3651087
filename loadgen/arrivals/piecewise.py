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
        piece = self._piece(self.edges_s, (edges_s[:-1] + edges_s[1:]) / 2)
        start_s, slope = self.edges_s[piece], self._slope(piece)
        return PiecewiseLinear(
            edges_s,
            self.left[piece] + slope * (edges_s[:-1] - start_s),
            self.left[piece] + slope * (edges_s[1:] - start_s),
        )

    def integral(self) -> Floats:
        """f64[k+1]: the integral from the first edge to each edge."""
        return np.concatenate([[0.0], np.cumsum(np.diff(self.edges_s) * (self.left + self.right) / 2)])

    def at(self, time_s: float) -> float:
        """The quantity at one instant."""
        piece = int(self._piece(self.edges_s, np.array([time_s]))[0])
        width_s = self.edges_s[piece + 1] - self.edges_s[piece]
        share = (time_s - self.edges_s[piece]) / width_s
        return float(self.left[piece] + share * (self.right[piece] - self.left[piece]))

    def integral_until(self, time_s: Floats) -> Floats:
        """The integral from the first edge to each instant; f64 like `time_s`."""
        piece = self._piece(self.edges_s, time_s)
        since_s = time_s - self.edges_s[piece]
        reached: Floats = self.integral()[piece] + since_s * (self.left[piece] + self._slope(piece) * since_s / 2)
        return reached

    def when_integral_reaches(self, integral: Floats) -> Floats:
        """The instants (s) at which the integral of a quantity >= 0 reaches these values, which must ascend.

        The result ascends too and lies before the last edge, whatever the rounding.
        """
        reached = self.integral()
        piece = self._piece(reached, integral)
        wanted, left, slope = integral - reached[piece], self.left[piece], self._slope(piece)
        # Solves left x + slope x^2 / 2 = wanted in the form that does not cancel when the slope is near 0.
        root = left + np.sqrt(np.maximum(left * left + 2 * slope * wanted, 0.0))
        since_s = np.divide(2 * wanted, root, out=np.zeros_like(wanted), where=root > 0)
        times_s = self.edges_s[piece] + np.minimum(since_s, np.diff(self.edges_s)[piece])
        ascending: Floats = np.minimum(np.maximum.accumulate(times_s), np.nextafter(self.edges_s[-1], -np.inf))
        return ascending

    def _piece(self, edges: Floats, places: Floats) -> NDArray[np.intp]:
        """The piece that each place is in, the outermost for places beyond."""
        return np.clip(np.searchsorted(edges, places, side="right") - 1, 0, len(self.left) - 1)

    def _slope(self, piece: NDArray[np.intp]) -> Floats:
        slope: Floats = (self.right[piece] - self.left[piece]) / np.diff(self.edges_s)[piece]
        return slope
