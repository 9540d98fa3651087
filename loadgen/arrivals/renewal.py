"""Arrival times of bursty traffic: a renewal process with Gamma gaps whose rate and shape change with time."""

from collections.abc import Iterator, Sequence

import numpy as np

from loadgen.arrivals.bursts import Burst, RateBurst, ShapeBurst, shapes_of_burst, with_rate_burst
from loadgen.arrivals.piecewise import Floats, PiecewiseLinear


def draw_renewal(
    rate_per_s: PiecewiseLinear, alpha: PiecewiseLinear, rng: np.random.Generator, bursts: Sequence[Burst] = ()
) -> Floats:
    """Draw the arrival times (s, sorted) of a Gamma renewal process with a rate and a shape that change.

    The process is drawn in operational time, in which one arrival is due per unit: gaps are Gamma(alpha, 1/alpha),
    of mean 1 and CV 1/sqrt(alpha). Operational time is the integral of the rate, so a gap that spans a change of rate
    runs faster or slower from the change on: after a jump from 0.1/s to 10/s, nobody waits for the end of a gap that
    began as 10 s. Where the rate stands still, gaps in seconds are Gamma(alpha, beta) with beta = 1/(alpha rate).
    A gap keeps the shape that holds where it begins. The first gap is drawn as if the process had always been
    running, so that the expected number of arrivals is the integral of the rate from the start. A burst begins at the
    arrival that sets it off; arrivals up to that one are as they are without it.

    Source: Gamma gaps with changing alpha and beta: Wang et al., "BurstGPT", arXiv 2401.17644. Operational time:
    Berman, "Inhomogeneous and modulated gamma processes", Biometrika 68(1), 1981. Stationary first gap: Cox, "Renewal
    Theory", 1962, on recurrence times.

    Args:
        rate_per_s: >= 0.
        alpha: > 0, over the same span.
        rng: the only source of chance.
        bursts: in any order. Where two of the rate overlap, their factors multiply; one of the shape ends before the
            next begins.
    """
    stretches_s = _stretches_s(rate_per_s, alpha, rng, sorted(bursts, key=lambda burst: burst.after_requests))
    arrival_s: Floats = np.maximum.accumulate(np.concatenate([np.zeros(0), *stretches_s]))
    return arrival_s


def _stretches_s(
    rate_per_s: PiecewiseLinear, alpha: PiecewiseLinear, rng: np.random.Generator, bursts: Sequence[Burst]
) -> Iterator[Floats]:
    """The first arrival, those up to each burst, those of each burst of the shape, and those after the last burst."""
    shape_edges_s, shapes = _constant_shapes(alpha)
    edges = rate_per_s.integral_until(shape_edges_s)
    # The time until the next arrival of a running process: a gap chosen by its length, at a uniform place in it.
    last, count = float(rng.standard_gamma(shapes[0] + 1) / shapes[0] * rng.random()), 1
    if last >= edges[-1]:
        return
    yield rate_per_s.when_integral_reaches(np.array([last]))
    for burst in bursts:
        missing = max(0, burst.after_requests - count)
        until_burst = _arrivals_after(last, edges, shapes, rng, missing)
        yield rate_per_s.when_integral_reaches(until_burst)
        if len(until_burst) < missing:
            return
        count += missing
        last = float(until_burst[-1]) if missing else last
        if isinstance(burst, RateBurst):
            rate_per_s = with_rate_burst(rate_per_s, _when(rate_per_s, last), burst)
            edges = rate_per_s.integral_until(shape_edges_s)
            continue
        in_burst_s = _draw_shape_burst(rate_per_s, alpha, _when(rate_per_s, last), burst, rng)
        yield in_burst_s
        if len(in_burst_s) < 2 * burst.rise_requests:
            return
        count += len(in_burst_s)
        last = float(rate_per_s.integral_until(in_burst_s[-1:])[0])
    yield rate_per_s.when_integral_reaches(_arrivals_after(last, edges, shapes, rng, np.inf))


def expected_renewal(rate_per_s: PiecewiseLinear, alpha: PiecewiseLinear, bursts: Sequence[Burst] = ()) -> float:
    """The mean number of arrivals that `draw_renewal` gives.

    A burst counts as if it always began when the arrival that sets it off is due; where the rate is constant and the
    burst surely ends in time, that is exact.
    """
    last, count, beyond = (1 + 1 / float(alpha.left[0])) / 2, 1.0, 0.0  # when the first is due, in mean gaps
    for burst in sorted(bursts, key=lambda burst: burst.after_requests):
        missing = max(0.0, burst.after_requests - count)
        last, count = last + missing, count + missing
        if last >= rate_per_s.integral()[-1]:
            break
        start_s = _when(rate_per_s, last)
        if isinstance(burst, RateBurst):
            rate_per_s = with_rate_burst(rate_per_s, start_s, burst)
            continue
        gaps_s = shapes_of_burst(burst, alpha.at(start_s)) * _beta_s(rate_per_s, alpha, start_s)
        in_time = int(np.searchsorted(start_s + np.cumsum(gaps_s), rate_per_s.edges_s[-1]))
        end_s = min(start_s + float(gaps_s.sum()), float(rate_per_s.edges_s[-1]))
        due = float(rate_per_s.integral_until(np.array([end_s]))[0])
        last, count, beyond = due, count + in_time, beyond + in_time - (due - last)
    return float(rate_per_s.integral()[-1]) + beyond


def _arrivals_after(last: float, edges: Floats, shapes: Floats, rng: np.random.Generator, most: float) -> Floats:
    """Arrivals in operational time after the one at `last`: `most` of them, or those before the last edge."""
    drawn, count = [np.array([last])], 0
    while count < most and (last := float(drawn[-1][-1])) < edges[-1]:
        piece = int(np.searchsorted(edges, last, side="right")) - 1
        drawn.append(_gaps_from(last, float(edges[piece + 1]), float(shapes[piece]), rng))
        count += len(drawn[-1])
    following: Floats = np.concatenate(drawn)[1 : 1 + int(min(most, count))]
    return following[: np.searchsorted(following, edges[-1])]


def _draw_shape_burst(
    rate_per_s: PiecewiseLinear, alpha: PiecewiseLinear, start_s: float, burst: ShapeBurst, rng: np.random.Generator
) -> Floats:
    """The arrivals of a burst after the one at `start_s`; fewer than it has where the span ends first."""
    gaps_s = rng.standard_gamma(shapes_of_burst(burst, alpha.at(start_s))) * _beta_s(rate_per_s, alpha, start_s)
    arrival_s: Floats = start_s + np.cumsum(gaps_s)
    return arrival_s[: np.searchsorted(arrival_s, rate_per_s.edges_s[-1])]


def _beta_s(rate_per_s: PiecewiseLinear, alpha: PiecewiseLinear, at_s: float) -> float:
    """The scale of the gaps at an instant; where an arrival came, the rate was above 0 just before."""
    return 1 / (alpha.at(at_s) * max(rate_per_s.at(at_s), 1e-12))


def _when(rate_per_s: PiecewiseLinear, operational: float) -> float:
    """Operational time to clock time (s)."""
    return float(rate_per_s.when_integral_reaches(np.array([operational]))[0])


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
