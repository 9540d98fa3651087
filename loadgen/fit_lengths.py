"""Length distributions fitted to the lengths of a trace."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from loadgen.lengths import (
    Constant,
    Geometric,
    Histogram,
    Lengths,
    Lognormal,
    Zipf,
    length_probabilities,
)
from loadgen.zipf_fit import fit_zipf

_LONGEST = 1_000_000  # that a workload model takes
_CLOSE_ENOUGH = 0.03  # KS distance up to which a formula is preferred to a histogram
_BINS = 40
_HEAP = 0.005  # share of the requests that makes one length a bin
_VOID = 1.5  # times a length, up to where the next one lies at least, that make what is between an empty bin
_TAIL_LEVELS = (0.001, 0.005, 0.01, 0.99, 0.995, 0.999)  # shares of requests below which a bin ends too
_DIGITS = 4  # that a fitted parameter is given with: it is not known better


def fit_lengths(lengths: NDArray[np.integer]) -> Lengths:
    """The distribution that describes lengths (at least one of them) best; those below 1 count as 1.

    Of Zipf, geometric and lognormal lengths between the shortest and the longest, each fitted by maximum likelihood,
    the first whose KS distance is no larger than chance makes it, else the one with the smallest; a histogram where
    that is above 0.03, as it is for lengths with two humps or a heap at a limit. (A lognormal cut off at both ends can
    look just like Zipf lengths; so the distributions with one parameter come first.)

    Source: the 5 % level of the KS distance, 1.36/sqrt(n): Massey, "The Kolmogorov-Smirnov test for goodness of fit",
    J. Am. Stat. Assoc. 46 (1951).
    """
    values, counts = np.unique(np.clip(lengths, 1, _LONGEST), return_counts=True)
    if len(values) == 1:
        return Constant(distribution="constant", value=int(values[0]))
    fitted = [fit for fit in (_zipf(values, counts), _geometric(values, counts), _lognormal(values, counts)) if fit]
    distances = [ks_distance(fit, values, counts) for fit in fitted]
    closest = min(distances, default=1.0)
    if closest > _CLOSE_ENOUGH:
        return _histogram(values, counts)
    by_chance = max(closest, min(1.36 / float(np.sqrt(counts.sum())), _CLOSE_ENOUGH))
    return next(fit for fit, distance in zip(fitted, distances, strict=True) if distance <= by_chance)


def ks_distance(lengths: Lengths, values: NDArray[np.integer], counts: NDArray[np.integer]) -> float:
    """The largest distance between two distribution functions: that of `lengths`, and that of `counts` at `values`."""
    tokens, probability = length_probabilities(lengths)
    every = np.union1d(tokens, values)
    distances = np.zeros(len(every))
    distances[np.searchsorted(every, tokens)] += probability
    distances[np.searchsorted(every, values)] -= counts / counts.sum()
    return float(np.abs(np.cumsum(distances)).max())


def _zipf(values: NDArray[np.integer], counts: NDArray[np.integer]) -> Zipf | None:
    fit = fit_zipf(values, counts)
    if fit is None or fit.theta <= 0:
        return None
    return Zipf(distribution="zipf", theta=rounded(fit.theta), min=fit.low, max=fit.high, step=fit.step)


def _lognormal(values: NDArray[np.integer], counts: NDArray[np.integer]) -> Lognormal | None:
    low, high = int(values[0]), int(values[-1])
    logs = np.log(values)
    mean = float(np.average(logs, weights=counts))
    sigma = float(np.sqrt(np.average((logs - mean) ** 2, weights=counts)))

    def lognormal(parameters: NDArray[np.float64]) -> Lognormal | None:
        log_median, log_sigma = parameters
        try:
            median, sigma = rounded(float(np.exp(log_median))), rounded(float(np.exp(log_sigma)))
            return Lognormal(distribution="lognormal", median=median, sigma=sigma, min=low, max=high)
        except ValueError:  # out of bounds, or nothing of it between the shortest and the longest
            return None

    def surprise(parameters: NDArray[np.float64]) -> float:
        guess = lognormal(parameters)
        if guess is None:
            return np.inf
        _, probability = length_probabilities(guess)
        return -float(counts @ np.log(np.maximum(probability[values - low], 1e-300)))

    return lognormal(minimize(surprise, [mean, np.log(sigma)], method="Nelder-Mead", options={"xatol": 1e-4}).x)


def _geometric(values: NDArray[np.integer], counts: NDArray[np.integer]) -> Geometric | None:
    """The mean is what the likelihood wants it to be: that of the lengths."""
    low, high, mean = int(values[0]), int(values[-1]), rounded(float(np.average(values, weights=counts)))
    if not low < mean < (low + high) / 2:
        return None
    return Geometric(distribution="geometric", mean=mean, min=low, max=high)


def _histogram(values: NDArray[np.integer], counts: NDArray[np.integer]) -> Histogram:
    """About 40 bins of equal shares, finer at both ends; heaps and wide voids have a bin of their own."""
    edges, shares, filled, reached = [int(values[0])], [], 0.0, 0.0
    levels = sorted({*np.linspace(0, 1, _BINS + 1)[1:].tolist(), *_TAIL_LEVELS}, reverse=True)

    def close_at(edge: int) -> None:
        nonlocal filled
        if edge > edges[-1]:
            edges.append(edge)
            shares.append(rounded(filled))
            filled = 0.0

    previous = edges[0]
    for value, share in zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True):
        if value > _VOID * (previous + 1):
            close_at(previous + 1)
            close_at(value)
        if share >= _HEAP:
            close_at(value)
        filled, reached, previous = filled + share, reached + share, value
        if share >= _HEAP or reached >= levels[-1]:
            close_at(value + 1)
        while len(levels) > 1 and reached >= levels[-1]:
            levels.pop()
    close_at(int(values[-1]) + 1)
    return Histogram(distribution="histogram", edges=tuple(edges), shares=tuple(shares))


def rounded(value: float) -> float:
    """To as many digits as a fitted parameter deserves."""
    return float(f"{value:.{_DIGITS}g}")
