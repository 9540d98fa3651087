"""How arrivals are spaced: Gamma fits of the gaps, overall and per 20 minutes, and how well they fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.gamma_fit import GammaFit, fit_gamma, fit_gammas
from loadgen.statistics.goodness_of_fit import (
    GammaWindows,
    QuantilePairs,
    alpha_standard_errors,
    compare_quantiles,
    critical_ks_distances,
    ks_distances,
)
from loadgen.statistics.spread import Spread, spread

FIT_WINDOW_S = 1200.0  # the BurstGPT paper fits alpha and beta anew every 20 minutes
_LEAST_GAPS = 30  # a window with fewer says little about their shape
_MEDIAN_ABSOLUTE_NORMAL = 0.6745


@dataclass(frozen=True, slots=True, eq=False)
class WindowSeries:
    """The fitted windows in order of time, one entry each, all of length w.

    Attributes:
        start_s: f64[w].
        gaps: i64[w], how many the fit rests on.
        alpha, beta_s: f64[w], Gamma shape and scale.
        cv: f64[w], standard deviation / mean of the gaps as measured.
        ks_distance: f64[w], the largest distance between the distribution functions, measured and fitted.
        is_rejected: bool[w], the distance is beyond what 95 % of Gamma windows would show.
    """

    start_s: NDArray[np.float64]
    gaps: NDArray[np.int64]
    alpha: NDArray[np.float64]
    beta_s: NDArray[np.float64]
    cv: NDArray[np.float64]
    ks_distance: NDArray[np.float64]
    is_rejected: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AlphaDrift:
    """How far alpha moves from one window to the next; both must be fitted.

    Attributes:
        pairs: neighbouring windows compared.
        median_absolute_log_change: median of |ln alpha(next) - ln alpha|; 0.69 = it typically doubles or halves.
        by_chance: the same if alpha stood still and only the fits' sampling error moved it.
    """

    pairs: int
    median_absolute_log_change: float
    by_chance: float


@dataclass(frozen=True, slots=True, eq=False)
class WindowFits:
    """Gamma fits of the gaps within each window of the recording.

    Attributes:
        window_s: length of a window.
        windows: those that are fitted: with 30 gaps or more.
        hidden_windows: those with more than four arrivals per tick of the times, which hides the shape of the gaps.
        alpha, beta_s, cv, ks_distance: over the fitted windows.
        not_rejected_fraction: fitted windows that the KS test at 5 % lets pass as Gamma; 0.95 is expected if all are.
        drift: None = no two neighbouring windows are fitted.
        series: the windows one by one.
        quantiles: all gaps within fitted windows, against the mixture of the windows' Gammas.
    """

    window_s: float
    windows: int
    hidden_windows: int
    alpha: Spread
    beta_s: Spread
    cv: Spread
    ks_distance: Spread
    not_rejected_fraction: float
    drift: AlphaDrift | None
    series: WindowSeries
    quantiles: QuantilePairs


@dataclass(frozen=True, slots=True, eq=False)
class GapDescription:
    """How the arrivals are spaced.

    Attributes:
        resolution_s: the tick to which times were rounded; fits and tests allow for it. 0 = none seen.
        mean_s: mean gap.
        cv: standard deviation / mean; 1 = Poisson, more = bursts. Rounding adds to it, much where alpha is None.
        alpha, beta_s: shape and scale of one Gamma over all gaps; None = times are too coarse to tell.
        quantiles: all gaps against that one Gamma; None where alpha is.
        by_window: the fits per window of 20 minutes; None = no window could be fitted.
    """

    resolution_s: float
    mean_s: float
    cv: float
    alpha: float | None
    beta_s: float | None
    quantiles: QuantilePairs | None
    by_window: WindowFits | None


def describe_gaps(arrival_s: NDArray[np.float64], resolution_s: float) -> GapDescription | None:
    """Describe the gaps between arrivals; None = fewer than two, or all of them 0.

    Args:
        arrival_s: f64[n], ascending.
        resolution_s: the tick to which they were rounded (`time_resolution_s`); 0 = none.
    """
    gaps_s = np.diff(arrival_s)
    if len(gaps_s) < 2 or gaps_s.mean() == 0:
        return None
    fit = fit_gamma(gaps_s, resolution_s)
    return GapDescription(
        resolution_s=resolution_s,
        mean_s=float(gaps_s.mean()),
        cv=float(gaps_s.std() / gaps_s.mean()),
        alpha=fit.alpha if fit else None,
        beta_s=fit.beta_s if fit else None,
        quantiles=compare_quantiles(_gamma_windows([gaps_s], [fit], resolution_s)) if fit else None,
        by_window=_fit_windows(arrival_s, resolution_s),
    )


def _gamma_windows(gaps_s: list[NDArray[np.float64]], fits: list[GammaFit], resolution_s: float) -> GammaWindows:
    alpha, beta_s = np.array([fit.alpha for fit in fits]), np.array([fit.beta_s for fit in fits])
    return GammaWindows(gaps_s=gaps_s, alpha=alpha, beta_s=beta_s, resolution_s=resolution_s)


def _fit_windows(arrival_s: NDArray[np.float64], resolution_s: float) -> WindowFits | None:
    """Fit the gaps between arrivals of the same window, window by window."""
    index = (arrival_s / FIT_WINDOW_S).astype(np.int64)
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(index)) + 1])
    gaps_s = [np.diff(window_s) for window_s in np.split(arrival_s, firsts[1:])]
    dense = [place for place, gaps in enumerate(gaps_s) if len(gaps) >= _LEAST_GAPS and gaps.any()]
    fits = fit_gammas([gaps_s[place] for place in dense], resolution_s)
    fitted = [(place, fit) for place, fit in zip(dense, fits, strict=True) if fit]
    if not fitted:
        return None
    windows = _gamma_windows([gaps_s[place] for place, _ in fitted], [fit for _, fit in fitted], resolution_s)
    number = index[firsts[[place for place, _ in fitted]]]
    return _window_fits(windows, number, hidden_windows=len(dense) - len(fitted))


def _window_fits(windows: GammaWindows, number: NDArray[np.int64], hidden_windows: int) -> WindowFits:
    """Sum up fitted windows; `number` i64[w] counts the recording's windows from its start."""
    cv = np.array([gaps_s.std() / gaps_s.mean() for gaps_s in windows.gaps_s])
    ks_distance = ks_distances(windows)
    is_rejected = ks_distance > critical_ks_distances(windows)
    return WindowFits(
        window_s=FIT_WINDOW_S,
        windows=len(number),
        hidden_windows=hidden_windows,
        alpha=spread(windows.alpha),
        beta_s=spread(windows.beta_s),
        cv=spread(cv),
        ks_distance=spread(ks_distance),
        not_rejected_fraction=float(np.mean(~is_rejected)),
        drift=_drift(windows, number),
        series=WindowSeries(
            start_s=(number * FIT_WINDOW_S).astype(np.float64),
            gaps=windows.gaps(),
            alpha=windows.alpha,
            beta_s=windows.beta_s,
            cv=cv,
            ks_distance=ks_distance,
            is_rejected=is_rejected,
        ),
        quantiles=compare_quantiles(windows),
    )


def _drift(windows: GammaWindows, number: NDArray[np.int64]) -> AlphaDrift | None:
    is_neighbour = np.diff(number) == 1
    if not is_neighbour.any():
        return None
    change = np.abs(np.diff(np.log(windows.alpha)))[is_neighbour]
    error = alpha_standard_errors(windows)
    error_of_change = np.hypot(error[1:], error[:-1])[is_neighbour]
    return AlphaDrift(
        pairs=len(change),
        median_absolute_log_change=float(np.median(change)),
        by_chance=float(np.median(error_of_change) * _MEDIAN_ABSOLUTE_NORMAL),
    )
