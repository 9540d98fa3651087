"""Maximum-likelihood fit of Gamma gaps between arrivals, as in the BurstGPT workload model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, gammainc, gammaln, xlogy

Floats = NDArray[np.float64]

_ALPHA_RANGE = (1e-3, 1e5)  # beyond: as good as one heap, or as a clock
_CLOSE_TICKS = 16  # up to here a gap's probability is integrated over the ticks, beyond the density is flat enough
_SEARCH_STEPS = 26  # golden sections of log(alpha): 18.4 / 1.618**26 is below 1e-4
_BATCH = 256  # data sets whose likelihood is worked out at once: as much as fits a core's cache

_FINEST_TICK_S = 1e-6

_TICKS = np.arange(_CLOSE_TICKS + 2.0)
_LEAST_PROBABILITY = 1e-14  # what is below is the rounding of a difference


@dataclass(frozen=True, slots=True)
class GammaFit:
    """Gaps are Gamma(alpha, beta_s): mean alpha beta_s, CV 1/sqrt(alpha)."""

    alpha: float
    beta_s: float


def time_resolution_s(arrival_s: Floats) -> float:
    """The tick to which the arrival times were rounded (1 s in BurstGPT); 0 = none can be seen.

    It is the largest tick of 1 ms or more of which all gaps are multiples. Where there is none (times that were sped
    up, say) but some gaps are 0 or all are multiples of the smallest, it is the smallest gap above 0; 1 us at least
    where the gaps are no multiples of it, for then it may be chance that two drawn times are so near. Ticks that are a
    little uneven count too: Mooncake's arrivals come in heaps every 3 s, give or take 1 ms.
    """
    gaps_s = np.diff(arrival_s)
    positive_s = gaps_s[gaps_s > 0]
    if len(positive_s) == 0:
        return 0.0
    common_us = int(np.gcd.reduce(np.rint(positive_s * 1e6).astype(np.int64)))
    uneven_s = _uneven_tick_s(positive_s)
    if len(positive_s) < len(gaps_s) and uneven_s * 1e6 > 1.5 * common_us:
        return uneven_s
    if common_us >= 1000:
        return common_us / 1e6
    smallest_s = float(positive_s.min())
    ticks = positive_s / smallest_s
    if np.all(np.abs(ticks - np.rint(ticks)) < 1e-3):
        return smallest_s
    return max(smallest_s, _FINEST_TICK_S) if len(positive_s) < len(gaps_s) else 0.0


def _uneven_tick_s(positive_s: Floats) -> float:
    """The tick of which 99 % of the gaps are multiples within 1 % of a tick; 0 = none."""
    short_s = float(np.quantile(positive_s, 0.01, method="higher"))
    tick_s = float(np.median(positive_s[np.rint(positive_s / short_s) == 1]))
    ticks = positive_s / tick_s
    is_near = np.abs(ticks - np.rint(ticks)) <= 0.01
    return tick_s if np.mean(is_near) >= 0.99 else 0.0


def fit_gamma(gaps_s: Floats, resolution_s: float = 0.0) -> GammaFit | None:
    """Fit Gamma gaps by maximum likelihood; None where rounding hides their shape.

    With `resolution_s` > 0 the arrivals were rounded down to ticks of that length. A gap of k ticks, 0 included, then
    stands for any true gap between k - 1 and k + 1 ticks; with a first arrival anywhere within its tick, the
    probability of seeing k is the mean of the density under a triangle over them. Taking the gaps as they stand
    would not do: the logarithm of 0 has no value, and spreading the arrivals of a tick evenly makes them regular.
    The mean gap is taken from the data, for which rounding is harmless; alpha is what is searched. With more than
    four arrivals a tick nearly all gaps are 0 or 1 whatever their shape, and there is nothing to fit.

    Args:
        gaps_s: at least two, >= 0, with a mean above 0; without a resolution each above 0.
        resolution_s: the tick of the arrival times (`time_resolution_s`).

    Source: without rounding, the textbook equation log(alpha) - digamma(alpha) = log(mean) - mean(log).
    """
    return fit_gammas([gaps_s], resolution_s)[0]


def fit_gammas(gaps_s: Sequence[Floats], resolution_s: float = 0.0) -> list[GammaFit | None]:
    """`fit_gamma` of each of many data sets: thousands of windows in a second or two."""
    means_s = np.array([gaps.mean() for gaps in gaps_s])
    visible = np.flatnonzero(means_s >= resolution_s / 4)
    if resolution_s > 0:
        alphas = _rounded_alphas([gaps_s[place] / resolution_s for place in visible.tolist()])
    else:
        alphas = np.array([_alpha_of_spread(np.log(gaps.mean()) - np.log(gaps).mean()) for gaps in gaps_s])
    fits: list[GammaFit | None] = [None] * len(gaps_s)
    for place, alpha in zip(visible.tolist(), alphas.tolist(), strict=True):
        fits[place] = GammaFit(alpha, float(means_s[place]) / alpha)
    return fits


def integrated_distribution(gap: Floats, alpha: Floats | float, beta: Floats | float) -> Floats:
    """The integral of the Gamma distribution function from 0 to `gap`.

    A gap that is seen as at most k ticks, between arrivals that were rounded down, has the probability
    integrated_distribution(k + 1) - integrated_distribution(k), in ticks: the first arrival lies anywhere in its tick.
    """
    scaled = gap / beta
    below = gammainc(alpha, scaled)
    # The part of the mean that lies below the gap: gammainc(alpha + 1, scaled), which would take as long again.
    mean_below = below - np.exp(xlogy(alpha, scaled) - scaled - gammaln(alpha + 1))
    integral: Floats = gap * below - alpha * beta * mean_below
    return integral


def _alpha_of_spread(spread: float) -> float:
    """Solve log(alpha) - digamma(alpha) = spread, which falls from infinity to 0."""

    def surplus(log_alpha: float) -> float:
        return float(log_alpha - digamma(np.exp(log_alpha)) - spread)

    low, high = np.log(_ALPHA_RANGE)
    if surplus(high) >= 0:
        return _ALPHA_RANGE[1]
    if surplus(low) <= 0:
        return _ALPHA_RANGE[0]
    return float(np.exp(brentq(surplus, low, high)))


@dataclass(frozen=True, slots=True, eq=False)
class _TickCounts:
    """All that the likelihood needs to know of gaps in ticks, one row per data set.

    Attributes:
        mean: f64[n], the mean gap.
        close: f64[n, _CLOSE_TICKS + 1], how many gaps have 0, 1, ... ticks.
        far, far_sum, far_log_sum: f64[n], of the longer ones: how many, their sum, the sum of their logarithms.
    """

    mean: Floats
    close: Floats
    far: Floats
    far_sum: Floats
    far_log_sum: Floats


def _count_ticks(gaps: Sequence[Floats]) -> _TickCounts:
    close = np.empty((len(gaps), _CLOSE_TICKS + 1))
    sums = np.empty((3, len(gaps)))
    for place, of_one in enumerate(gaps):
        ticks = np.rint(of_one)
        is_far = ticks > _CLOSE_TICKS
        far = ticks[is_far]
        close[place] = np.bincount(ticks[~is_far].astype(np.int64), minlength=_CLOSE_TICKS + 1)
        sums[:, place] = len(far), far.sum(), np.log(far).sum()
    return _TickCounts(np.array([of_one.mean() for of_one in gaps]), close, *sums)


def _rounded_alphas(gaps: Sequence[Floats]) -> Floats:
    """The likeliest alpha of each data set of gaps in ticks, by golden-section search of log(alpha)."""
    batches = [_likeliest_alphas(_count_ticks(gaps[start : start + _BATCH])) for start in range(0, len(gaps), _BATCH)]
    return np.concatenate(batches) if batches else np.empty(0)


def _likeliest_alphas(ticks: _TickCounts) -> Floats:
    golden = (np.sqrt(5.0) - 1) / 2
    low, high = (np.full(len(ticks.mean), np.log(end)) for end in _ALPHA_RANGE)
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = _log_likelihoods(left, ticks), _log_likelihoods(right, ticks)
    for _ in range(_SEARCH_STEPS):
        leftward = at_left > at_right
        low, high = np.where(leftward, low, left), np.where(leftward, right, high)
        # Of the two inner points one stays, as the other inner point of the shorter interval.
        kept, at_kept = np.where(leftward, left, right), np.where(leftward, at_left, at_right)
        fresh = np.where(leftward, high - golden * (high - low), low + golden * (high - low))
        at_fresh = _log_likelihoods(fresh, ticks)
        left, right = np.where(leftward, fresh, kept), np.where(leftward, kept, fresh)
        at_left, at_right = np.where(leftward, at_fresh, at_kept), np.where(leftward, at_kept, at_fresh)
    alphas: Floats = np.exp((low + high) / 2)
    return alphas


def _log_likelihoods(log_alpha: Floats, ticks: _TickCounts) -> Floats:
    """The log-likelihood of each data set with its alpha, f64[n].

    The triangle's mean of the density is the second difference of the distribution function's integral. Gaps beyond
    the close ones take the density in the middle of the triangle.
    """
    alpha = np.exp(log_alpha)
    beta = ticks.mean / alpha
    integral = integrated_distribution(_TICKS, alpha[:, None], beta[:, None])
    probability = np.concatenate([integral[:, 1:2], np.diff(integral, n=2, axis=1)], axis=1)
    close = (ticks.close * np.log(np.maximum(probability, _LEAST_PROBABILITY))).sum(axis=1)
    scale = -gammaln(alpha) - alpha * np.log(beta)
    total: Floats = close + (alpha - 1) * ticks.far_log_sum - ticks.far_sum / beta + ticks.far * scale
    return total
