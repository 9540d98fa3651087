"""Arrival times of bursty traffic: a renewal process with Gamma gaps whose rate and shape change with time."""

from collections.abc import Sequence

import numpy as np
from pydantic import PositiveInt

from loadgen.arrivals.piecewise import Floats, PiecewiseLinear
from loadgen.strict_config import Positive, StrictModel


class RateBurst(StrictModel):
    """From the arrival with this number on (the first is 1), the rate is `factor` times as high for `duration_s`.

    Source: "burst event after N requests" of the workload settings in Wang et al., "BurstGPT", arXiv 2401.17644.
    """

    after_requests: PositiveInt
    factor: Positive
    duration_s: Positive


def draw_renewal(
    rate_per_s: PiecewiseLinear, alpha: PiecewiseLinear, rng: np.random.Generator, bursts: Sequence[RateBurst] = ()
) -> Floats:
    """Draw the arrival times (s, sorted) of a Gamma renewal process with a rate and a shape that change.

    The process is drawn in operational time, in which one arrival is due per unit: gaps are Gamma(alpha, 1/alpha),
    of mean 1 and CV 1/sqrt(alpha). Operational time is the integral of the rate, so a gap that spans a change of rate
    runs faster or slower from the change on: after a jump from 0.1/s to 10/s, nobody waits for the end of a gap that
    began as 10 s. Where the rate stands still, gaps in seconds are Gamma(alpha, beta) with beta = 1/(alpha rate).
    A gap keeps the shape that holds where it begins. The first gap is drawn as if the process had always been
    running, so that the expected number of arrivals is the integral of the rate from the start. A burst changes the
    rate from the instant of the arrival that sets it off; arrivals up to that one are as they are without it.

    Source: Gamma gaps with changing alpha and beta: Wang et al., "BurstGPT", arXiv 2401.17644. Operational time:
    Berman, "Inhomogeneous and modulated gamma processes", Biometrika 68(1), 1981. Stationary first gap: Cox, "Renewal
    Theory", 1962, on recurrence times.

    Args:
        rate_per_s: >= 0.
        alpha: > 0, over the same span.
        rng: the only source of chance.
        bursts: in any order; where two overlap, their factors multiply.
    """
    shape_edges_s, shapes = _constant_shapes(alpha)
    edges = _operational(rate_per_s, shape_edges_s)
    pending = sorted(bursts, key=lambda burst: burst.after_requests, reverse=True)
    # The time until the next arrival of a running process: a gap chosen by its length, at a uniform place in it.
    drawn = [np.array([rng.standard_gamma(shapes[0] + 1) / shapes[0] * rng.random()])]
    count = 1
    while True:
        if pending and count >= pending[-1].after_requests:
            burst = pending.pop()
            drawn = [np.concatenate(drawn)[: burst.after_requests]]
            count = burst.after_requests
            if (at := float(drawn[-1][-1])) < edges[-1]:
                rate_per_s = with_burst(rate_per_s, at, burst)
                edges = _operational(rate_per_s, shape_edges_s)
            continue
        if (last := float(drawn[-1][-1])) >= edges[-1]:
            break
        piece = int(np.searchsorted(edges, last, side="right")) - 1
        drawn.append(_gaps_from(last, float(edges[piece + 1]), float(shapes[piece]), rng))
        count += len(drawn[-1])
    operational = np.concatenate(drawn)
    return _clock_times(rate_per_s, operational[operational < edges[-1]])


def with_burst(rate_per_s: PiecewiseLinear, operational: float, burst: RateBurst) -> PiecewiseLinear:
    """The rate with a burst that begins at this operational time."""
    start_s = float(_clock_times(rate_per_s, np.array([operational]))[0])
    end_s = min(start_s + burst.duration_s, float(rate_per_s.edges_s[-1]))
    edges_s = np.union1d(rate_per_s.edges_s, [start_s, end_s])
    pieces = rate_per_s.split_at(edges_s)
    factor = np.where((edges_s[:-1] >= start_s) & (edges_s[:-1] < end_s), burst.factor, 1.0)
    return PiecewiseLinear(edges_s, pieces.left * factor, pieces.right * factor)


def _gaps_from(start: float, end: float, shape: float, rng: np.random.Generator) -> Floats:
    """Arrivals after the one at `start` as long as their gap begins before `end`: the last one may lie beyond it."""
    due = end - start
    gaps = rng.standard_gamma(shape, size=int(due + 4 * np.sqrt(due / shape)) + 2) / shape
    arrivals = start + np.cumsum(gaps)
    beyond = int(np.searchsorted(arrivals, end, side="left"))
    return arrivals[: beyond + 1]


def _constant_shapes(alpha: PiecewiseLinear) -> tuple[Floats, Floats]:
    """Cut a changing alpha into pieces on which it moves by 2 % at most, and take the middle of each as constant."""
    edges_s = [alpha.edges_s[:1]]
    shapes = []
    for start_s, end_s, left, right in zip(alpha.edges_s[:-1], alpha.edges_s[1:], alpha.left, alpha.right, strict=True):
        pieces = max(1, int(np.ceil(abs(np.log(right / left)) / 0.02)))
        cuts = np.geomspace(left, right, pieces + 1)
        places = (cuts - left) / (right - left) if right != left else np.array([0.0, 1.0])
        edges_s.append(start_s + (end_s - start_s) * np.append(places[1:-1], 1.0))
        shapes.append((cuts[:-1] + cuts[1:]) / 2)
    return np.concatenate(edges_s), np.concatenate(shapes)


def _operational(rate_per_s: PiecewiseLinear, time_s: Floats) -> Floats:
    """Clock time to operational time: the arrivals that are due by then."""
    due = rate_per_s.integral()
    piece = np.clip(np.searchsorted(rate_per_s.edges_s, time_s, side="right") - 1, 0, len(rate_per_s.left) - 1)
    since_s = time_s - rate_per_s.edges_s[piece]
    width_s = rate_per_s.edges_s[piece + 1] - rate_per_s.edges_s[piece]
    slope = (rate_per_s.right[piece] - rate_per_s.left[piece]) / width_s
    operational: Floats = due[piece] + since_s * (rate_per_s.left[piece] + slope * since_s / 2)
    return operational


def _clock_times(rate_per_s: PiecewiseLinear, operational: Floats) -> Floats:
    """Operational time back to clock time; stretches of rate 0 take no operational time and get no arrival."""
    due = rate_per_s.integral()
    piece = np.clip(np.searchsorted(due, operational, side="right") - 1, 0, len(rate_per_s.left) - 1)
    wanted = operational - due[piece]
    left = rate_per_s.left[piece]
    width_s = rate_per_s.edges_s[piece + 1] - rate_per_s.edges_s[piece]
    slope = (rate_per_s.right[piece] - left) / width_s
    # Solves left x + slope x^2 / 2 = wanted in the form that does not cancel when the slope is near 0.
    root = left + np.sqrt(np.maximum(left * left + 2 * slope * wanted, 0.0))
    since_s = np.divide(2 * wanted, root, out=np.zeros_like(wanted), where=root > 0)
    times_s = rate_per_s.edges_s[piece] + np.minimum(since_s, width_s)
    # Rounding must neither swap two arrivals nor put one on the end.
    in_order: Floats = np.minimum(np.maximum.accumulate(times_s), np.nextafter(rate_per_s.edges_s[-1], 0.0))
    return in_order
