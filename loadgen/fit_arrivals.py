"""Gamma arrivals whose rate and shape are fitted anew in each window of a trace."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadgen.arrivals.gamma import GammaArrivals
from loadgen.arrivals.piecewise import Floats
from loadgen.arrivals.schedule import Point, Schedule
from loadgen.fit_lengths import rounded
from loadgen.gamma_fit import fit_gammas

_LEAST_GAPS = 50  # with fewer, the standard error of alpha is above 20 %
_ALPHA_RANGE = (0.01, 1e4)  # that a workload model takes


def fit_arrivals(arrival_s: Floats, duration_s: float, window_s: float, resolution_s: float) -> GammaArrivals:
    """Fit a rate and an alpha to each window, as steps.

    Neighbouring windows with too few requests are taken together. Where alpha cannot be told it is that of the nearest
    window where it can, or 1 where there is none.

    Args:
        arrival_s: f64[n], sorted, in [0, duration_s), at least one.
        duration_s: the last window ends there; it is half as long as the others, or up to one and a half times.
        window_s: length of a window.
        resolution_s: the tick to which the arrivals were rounded.
    """
    windows = max(1, round(duration_s / window_s))
    edges_s = np.append(np.arange(windows) * window_s, duration_s)
    bounds = np.searchsorted(arrival_s, edges_s)
    first = _groups(np.diff(bounds))
    edges_s, bounds = np.append(edges_s[first], duration_s), np.append(bounds[first], len(arrival_s))
    rates_per_s = np.diff(bounds) / np.diff(edges_s)
    gaps_s = [np.diff(arrival_s[low:high]) for low, high in pairwise(bounds)]
    alphas = _with_nearest(_alphas(gaps_s, resolution_s), (edges_s[:-1] + edges_s[1:]) / 2)
    return GammaArrivals(
        process="gamma", rate_per_s=_steps(edges_s[:-1], rates_per_s), alpha=_steps(edges_s[:-1], alphas)
    )


def _groups(requests: NDArray[np.integer]) -> NDArray[np.int64]:
    """The first window of each group: a window with enough requests, or neighbours that have enough together."""
    firsts, gathered, is_open = [], 0, False
    for window, count in enumerate(requests.tolist()):
        is_sparse = count <= _LEAST_GAPS
        if not (is_sparse and is_open):
            firsts.append(window)
            gathered = 0
        gathered += count
        is_open = is_sparse and gathered <= _LEAST_GAPS
    return np.array(firsts)


def _alphas(gaps_s: list[Floats], resolution_s: float) -> Floats:
    """The shape of each group's gaps; NaN where it cannot be told."""
    alphas = np.full(len(gaps_s), np.nan)
    told = [place for place, gaps in enumerate(gaps_s) if len(gaps) >= _LEAST_GAPS and gaps.mean() > 0]
    for place, fit in zip(told, fit_gammas([gaps_s[place] for place in told], resolution_s), strict=True):
        if fit is not None:
            alphas[place] = np.clip(fit.alpha, *_ALPHA_RANGE)
    return alphas


def _with_nearest(values: Floats, at_s: Floats) -> Floats:
    """NaN replaced by the value that is nearest in time, or by 1 where all are NaN."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) == 0:
        return np.ones(len(values))
    after = (
        np.clip(np.searchsorted(at_s[known], at_s), 1, len(known) - 1) if len(known) > 1 else np.zeros(len(at_s), int)
    )
    before = np.maximum(after - 1, 0)
    is_before = at_s - at_s[known[before]] <= at_s[known[after]] - at_s
    filled: Floats = values[known[np.where(is_before, before, after)]]
    return filled


def _steps(start_s: Floats, values: Floats) -> Schedule | float:
    """Each value from its start on, in as few steps as give the same; a constant if that is one."""
    told = [rounded(value) for value in values.tolist()]
    points = [
        Point(at_s=start, value=value)
        for start, value, before in zip(start_s.tolist(), told, [None, *told[:-1]], strict=True)
        if value != before
    ]
    return told[0] if len(points) == 1 else Schedule(interpolation="steps", points=tuple(points))
