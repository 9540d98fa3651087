"""Maximum-likelihood fits of the BurstGPT workload model: Gamma gaps between arrivals, Zipf lengths."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import digamma, gammainc, gammaln, logsumexp

Floats = NDArray[np.float64]

_ALPHA_RANGE = (1e-3, 1e5)  # beyond: as good as one heap, or as a clock
_CLOSE_TICKS = 32  # up to here a gap's probability is integrated over the ticks, beyond the density is flat enough

# Gauss-Legendre on (0, 1) with x = w**4, which tames a density like x**(alpha - 1) at 0.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_PLACE = ((_NODES + 1) / 2) ** 4
_WEIGHT = _WEIGHTS / 2 * 4 * ((_NODES + 1) / 2) ** 3


@dataclass(frozen=True, slots=True)
class GammaFit:
    """Gaps are Gamma(alpha, beta_s): mean alpha beta_s, CV 1/sqrt(alpha)."""

    alpha: float
    beta_s: float


def time_resolution_s(arrival_s: Floats) -> float:
    """The tick to which the arrival times were rounded (1 s in BurstGPT); 0 = none can be seen.

    It is the largest tick of 1 ms or more of which all gaps are multiples. Where there is none (times that were sped
    up, say) but some gaps are 0 or all are multiples of the smallest, it is the smallest gap above 0.
    """
    gaps_s = np.diff(arrival_s)
    positive_s = gaps_s[gaps_s > 0]
    if len(positive_s) == 0:
        return 0.0
    common_us = int(np.gcd.reduce(np.rint(positive_s * 1e6).astype(np.int64)))
    if common_us >= 1000:
        return common_us / 1e6
    smallest_s = float(positive_s.min())
    ticks = positive_s / smallest_s
    on_grid = bool(np.all(np.abs(ticks - np.rint(ticks)) < 1e-3))
    return smallest_s if on_grid or len(positive_s) < len(gaps_s) else 0.0


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
    mean_s = float(gaps_s.mean())
    if mean_s < resolution_s / 4:
        return None
    if resolution_s > 0:
        ticks, counts = np.unique(np.rint(gaps_s / resolution_s), return_counts=True)
        low, high = np.log(_ALPHA_RANGE)
        found = minimize_scalar(
            lambda log_alpha: -_rounded_log_likelihood(float(np.exp(log_alpha)), mean_s / resolution_s, ticks, counts),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-4},
        )
        alpha = float(np.exp(found.x))
    else:
        spread = np.log(mean_s) - float(np.log(gaps_s).mean())
        alpha = _alpha_of_spread(spread)
    return GammaFit(alpha, mean_s / alpha)


def fit_zipf_theta(tokens: NDArray[np.integer], low: int, high: int) -> float | None:
    """Fit theta of P(length) ~ length ** -theta on [low, high] by maximum likelihood; None where low = high."""
    within = tokens[(tokens >= low) & (tokens <= high)]
    if low >= high or len(within) == 0:
        return None
    mean_log = float(np.log(within).mean())
    log_lengths = np.log(np.arange(low, high + 1))
    found = minimize_scalar(
        lambda theta: theta * mean_log + logsumexp(-theta * log_lengths), bounds=(-5.0, 20.0), method="bounded"
    )
    return float(found.x)


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


def _rounded_log_likelihood(alpha: float, mean_ticks: float, ticks: Floats, counts: NDArray[np.integer]) -> float:
    """The log-likelihood of gaps counted in ticks, up to a constant."""
    beta = mean_ticks / alpha

    def log_density(gap: Floats) -> Floats:
        value: Floats = (alpha - 1) * np.log(gap) - gap / beta - gammaln(alpha) - alpha * np.log(beta)
        return value

    log_probability = np.empty_like(ticks)
    # Both arrivals in one tick: the mean of the distribution function over the tick.
    log_probability[ticks == 0] = np.log(max(float(_WEIGHT @ gammainc(alpha, _PLACE / beta)), 1e-300))
    close = (ticks > 0) & (ticks <= _CLOSE_TICKS)
    sides = np.concatenate([ticks[close, None] - 1 + _PLACE, ticks[close, None] + 1 - _PLACE], axis=1)
    log_probability[close] = logsumexp(log_density(sides), b=np.tile(_WEIGHT * _PLACE, 2), axis=1)
    far = ticks > _CLOSE_TICKS
    log_probability[far] = log_density(ticks[far])
    return float(counts @ log_probability)
