"""Where a known number of arrivals lies within a span: as regularly or as burstily as asked for."""

import numpy as np
from numpy.typing import NDArray

from loadgen.arrivals.piecewise import Floats


def place_arrivals(
    counts: NDArray[np.int64], start_s: Floats, end_s: Floats, alpha: float, rng: np.random.Generator
) -> Floats:
    """Draw the times of counts[i] arrivals in [start_s[i], end_s[i]) for every span i; sorted within each span.

    The n + 1 gaps of a span, those to its edges included, are Gamma(alpha) and scaled to fill it; with alpha 1 that
    is a Poisson process of which n arrivals are known.
    """
    gaps = rng.standard_gamma(alpha, size=int(counts.sum()) + len(counts))
    span = np.repeat(np.arange(len(counts)), counts + 1)
    gaps_end = np.cumsum(counts + 1)
    reached = np.cumsum(gaps)
    before = np.concatenate([[0.0], reached[gaps_end[:-1] - 1]]) if len(counts) else np.zeros(0)
    whole = (reached[gaps_end - 1] - before)[span]
    # Gaps of a very small alpha may all underflow to 0: such arrivals lie at the span's start.
    place = np.divide(reached - before[span], whole, out=np.zeros_like(whole), where=whole > 0)
    is_arrival = np.ones(len(gaps), dtype=np.bool_)
    is_arrival[gaps_end - 1] = False  # a span's last gap ends at its edge
    arrival_s = start_s[span] + place * (end_s - start_s)[span]
    # Rounding must not push an arrival out of its span.
    inside_s: Floats = np.minimum(arrival_s, np.nextafter(end_s, -np.inf)[span])[is_arrival]
    return inside_s
