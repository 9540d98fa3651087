"""How arrivals are spaced: Gamma fits of the gaps, overall and per 20 minutes, and how well they fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.spread import Spread

FIT_WINDOW_S = 1200.0  # the BurstGPT paper fits alpha and beta anew every 20 minutes


@dataclass(frozen=True, slots=True, eq=False)
class QuantilePairs:
    """A QQ plot: gaps as measured against gaps as the model would have them.

    Attributes:
        levels: f64[m], ascending, in (0, 1).
        model_s, observed_s: f64[m], the quantiles; in whole ticks where the times were rounded to ticks.
        correlation: Pearson's, of the pairs: 1 = on a line; None = all on one point.
    """

    levels: NDArray[np.float64]
    model_s: NDArray[np.float64]
    observed_s: NDArray[np.float64]
    correlation: float | None


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
        cv: standard deviation / mean; 1 = Poisson, more = bursts.
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
