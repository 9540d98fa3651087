"""Maximum-likelihood fit of Zipf lengths, as in the BurstGPT workload model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import zeta

_EXACT_TERMS = 4096  # terms of a power sum that are added one by one; the rest follows from its integral
_THETA_RANGE = (-5.0, 20.0)
_LEAST_ENDLESS_THETA = 1.0001  # at 1 the sum without end has no value
_CLEAR_GAIN = 3.0  # of the log-likelihood: twenty times as likely


@dataclass(frozen=True, slots=True)
class ZipfFit:
    """P(length) ~ length ** -theta for the lengths low, low + step, ... up to high.

    With `is_clipped` it goes on without end, and what is longer than `high` was cut to it.
    """

    theta: float
    low: int
    high: int
    step: int
    is_clipped: bool

    def cumulative(self, lengths: NDArray[np.integer]) -> NDArray[np.float64]:
        """The probability of at most each length, f64[n]."""
        steps = np.floor_divide(np.minimum(lengths, self.high) - self.low, self.step)
        total = np.exp(_log_total(self.theta, self.low, self.high, self.step, self.is_clipped))
        share = _power_sums(self.theta, self.low, self.step, np.maximum(steps, 0)) / total
        return np.where(lengths < self.low, 0.0, np.where(lengths >= self.high, 1.0, share))


def fit_zipf(lengths: NDArray[np.integer], counts: NDArray[np.integer]) -> ZipfFit | None:
    """Fit theta by maximum likelihood, between the shortest and the longest length; None = only one length.

    The lengths step by their greatest common divisor. Of two readings of the longest length, that nothing is longer or
    that what is longer was cut to it, the second is taken where it is clearly likelier.

    Args:
        lengths: i64[n], ascending, each above 0.
        counts: i64[n], how often each occurs, above 0.

    Source: the likelihood of a discrete power law, Clauset, Shalizi and Newman, "Power-law distributions in empirical
    data", SIAM Review 51 (2009), section 3.1; cut at the top, by 'length >= high' in place of 'length = high'.
    """
    if len(lengths) < 2:
        return None
    low, high, step = int(lengths[0]), int(lengths[-1]), int(np.gcd.reduce(np.diff(lengths)))
    requests, log_sum = float(counts.sum()), float(counts @ np.log(lengths / low))
    at_high, log_high = float(counts[-1]), float(np.log(high / low))

    def surprise_of_bounded(theta: float) -> float:
        return theta * log_sum + requests * _log_total(theta, low, high, step, False)

    def surprise_of_clipped(theta: float) -> float:
        beyond = np.log(zeta(theta, high / step)) + theta * np.log(low / step)
        below = theta * (log_sum - at_high * log_high)
        return float(below - at_high * beyond + requests * _log_total(theta, low, high, step, True))

    bounded = minimize_scalar(surprise_of_bounded, bounds=_THETA_RANGE, method="bounded")
    clipped_range = (_LEAST_ENDLESS_THETA, _THETA_RANGE[1])
    clipped = minimize_scalar(surprise_of_clipped, bounds=clipped_range, method="bounded")
    # One request at the top proves no heap there: some request has to be the longest.
    is_clipped = bool((bounded.fun - clipped.fun) * (at_high - 1) / at_high > _CLEAR_GAIN)
    return ZipfFit(float((clipped if is_clipped else bounded).x), low, high, step, is_clipped)


def _log_total(theta: float, low: int, high: int, step: int, is_clipped: bool) -> float:
    """The logarithm of the sum of (length / low) ** -theta over all possible lengths."""
    if is_clipped:
        return float(np.log(zeta(theta, low / step)) + theta * np.log(low / step))
    return float(np.log(_power_sums(theta, low, step, np.array([(high - low) // step]))[0]))


def _power_sums(theta: float, low: int, step: int, last: NDArray[np.integer]) -> NDArray[np.float64]:
    """The sum of ((low + i step) / low) ** -theta over i = 0 .. last, for each `last`, f64[n].

    Source: beyond the terms added one by one, the Euler-Maclaurin formula up to the first derivative.
    """
    head = ((low + step * np.arange(_EXACT_TERMS + 1.0)) / low) ** -theta
    sums = np.cumsum(head)[np.minimum(last, _EXACT_TERMS)]
    first, end = (low + step * _EXACT_TERMS) / low, (low + step * np.maximum(last, _EXACT_TERMS)) / low
    per_step = step / low
    if abs(theta - 1) < 1e-9:
        integral = np.log(end / first) / per_step
    else:
        integral = (end ** (1 - theta) - first ** (1 - theta)) / ((1 - theta) * per_step)
    ends = (end**-theta - first**-theta) / 2
    slopes = -theta * per_step * (end ** (-theta - 1) - first ** (-theta - 1)) / 12
    beyond: NDArray[np.float64] = np.where(last > _EXACT_TERMS, sums + integral + ends + slopes, sums)
    return beyond
