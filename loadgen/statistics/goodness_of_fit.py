"""How well fitted Gamma distributions describe gaps, also gaps between times that were rounded to ticks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.special import gammainc, polygamma

from loadgen.gamma_fit import integrated_distribution

Floats = NDArray[np.float64]

_CLOSE_TICKS = 1000.0  # beyond, a tick is short enough to take its middle
_LEVELS = np.concatenate([np.arange(1, 100) / 100, [0.995, 0.999]])
_EXACT_TICKS = 32  # up to here the mixture is worked out at every tick, beyond at some
_GRID = 96

# 95 % quantile of sqrt(n) * (KS distance) when the gaps are Gamma and alpha, beta are fitted to these very gaps;
# columns by mean gap in ticks, the last one for times that are not rounded. From 6000 draws of 200 gaps a cell; with 30
# or 400 gaps it is within 5 % of that. The textbook's 1.36 holds for parameters known beforehand and times without
# ties: it would reject nearly nothing here.
_TABLE_ALPHA = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)
_TABLE_MEAN_TICKS = (0.3, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0, 256.0)
_TABLE = (
    (0.290, 0.361, 0.433, 0.514, 0.578, 0.683, 0.756, 1.029),
    (0.231, 0.355, 0.483, 0.587, 0.671, 0.794, 0.869, 0.996),
    (0.142, 0.305, 0.488, 0.622, 0.718, 0.820, 0.893, 0.957),
    (0.057, 0.208, 0.493, 0.619, 0.717, 0.832, 0.891, 0.922),
    (0.010, 0.098, 0.446, 0.594, 0.693, 0.806, 0.862, 0.918),
    (0.010, 0.010, 0.362, 0.540, 0.646, 0.792, 0.856, 0.901),
    (0.010, 0.010, 0.048, 0.331, 0.548, 0.736, 0.826, 0.891),
)
_LEAST_DISTANCE = 0.005  # what is closer is close, however many gaps there are to tell it by
_CRITICAL = RegularGridInterpolator((np.log(_TABLE_ALPHA), np.log(_TABLE_MEAN_TICKS)), np.array(_TABLE))


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
class GammaWindows:
    """Windows of gaps with the Gamma that was fitted to each.

    Attributes:
        gaps_s: one array of at least one gap per window.
        alpha, beta_s: f64[w].
        resolution_s: the tick of the times; 0 = none.
    """

    gaps_s: list[Floats]
    alpha: Floats
    beta_s: Floats
    resolution_s: float

    def gaps(self) -> NDArray[np.int64]:
        """How many gaps each window has, i64[w]."""
        return np.array([len(gaps_s) for gaps_s in self.gaps_s])


def ks_distances(windows: GammaWindows) -> Floats:
    """The Kolmogorov-Smirnov distance of each window, f64[w]: the most that the distribution functions differ.

    Where times were rounded, the fitted one is that of the rounded gap: it has steps where the measured one has.
    """
    tick_s = windows.resolution_s
    units = [np.rint(gaps_s / tick_s) if tick_s > 0 else gaps_s for gaps_s in windows.gaps_s]
    seen = [np.unique(gaps, return_counts=True) for gaps in units]
    sizes = [len(values) for values, _ in seen]
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    values = np.concatenate([values for values, _ in seen])
    alpha = np.repeat(windows.alpha, sizes)
    beta = np.repeat(windows.beta_s / (tick_s or 1.0), sizes)
    up_to = np.concatenate([np.cumsum(counts) / counts.sum() for _, counts in seen])
    below = np.concatenate([(np.cumsum(counts) - counts) / counts.sum() for _, counts in seen])
    if tick_s > 0:
        fitted = _rounded_distribution(values, alpha, beta)
        # Of neighbouring ticks of a window, the one's end is the other's beginning.
        is_apart = np.diff(values, prepend=np.nan) != 1
        is_apart[firsts] = True
        is_apart &= values > 0
        fitted_below = np.where(values > 0, np.roll(fitted, 1), 0.0)
        fitted_below[is_apart] = _rounded_distribution(values[is_apart] - 1, alpha[is_apart], beta[is_apart])
    else:
        fitted = fitted_below = gammainc(alpha, values / beta)
    distance = np.maximum(np.abs(up_to - fitted), np.abs(below - fitted_below))
    largest: Floats = np.maximum.reduceat(distance, firsts)
    return largest


def critical_ks_distances(windows: GammaWindows) -> Floats:
    """The distance that 5 % of windows of Gamma gaps exceed, at least 0.005, f64[w].

    The fit to the same gaps is allowed for, and the rounding.

    Source: simulated, after Lilliefors, "On the Kolmogorov-Smirnov test for normality with mean and variance unknown",
    Journal of the American Statistical Association 62 (1967), with a Gamma and ticks in place of the normal.
    """
    alpha = np.clip(windows.alpha, _TABLE_ALPHA[0], _TABLE_ALPHA[-1])
    mean_s = windows.alpha * windows.beta_s
    ticks = mean_s / windows.resolution_s if windows.resolution_s > 0 else np.full(len(mean_s), np.inf)
    ticks = np.clip(ticks, _TABLE_MEAN_TICKS[0], _TABLE_MEAN_TICKS[-1])
    scaled: Floats = _CRITICAL(np.stack([np.log(alpha), np.log(ticks)], axis=1))
    return np.maximum(_LEAST_DISTANCE, scaled / np.sqrt(windows.gaps()))


def alpha_standard_errors(windows: GammaWindows) -> Floats:
    """The standard error of ln(alpha) of each window's fit, f64[w]; rounding, which adds to it, is left out.

    Source: the inverse of the Fisher information of the Gamma distribution.
    """
    information = windows.alpha * (windows.alpha * polygamma(1, windows.alpha) - 1)
    errors: Floats = 1 / np.sqrt(windows.gaps() * information)
    return errors


def compare_quantiles(windows: GammaWindows) -> QuantilePairs:
    """All gaps of the windows against the mixture of their Gammas, each with the weight of its gaps."""
    observed_s = np.sort(np.concatenate(windows.gaps_s))
    observed_s = observed_s[np.ceil(_LEVELS * len(observed_s)).astype(np.int64) - 1]
    model_s = _mixture_quantiles(windows, float(observed_s[-1]))
    is_flat = np.ptp(observed_s) == 0 or np.ptp(model_s) == 0
    correlation = None if is_flat else float(np.corrcoef(model_s, observed_s)[0, 1])
    return QuantilePairs(levels=_LEVELS, model_s=model_s, observed_s=observed_s, correlation=correlation)


def _mixture_quantiles(windows: GammaWindows, longest_s: float) -> Floats:
    """The gaps at the levels, between grid points by interpolation; f64[m]."""
    unit_s = windows.resolution_s or 1.0
    alpha, beta = windows.alpha[:, None], windows.beta_s[:, None] / unit_s
    most = 20 * max(longest_s / unit_s, float((alpha * beta).max()), _EXACT_TICKS)
    weights = windows.gaps() / windows.gaps().sum()
    if windows.resolution_s > 0:
        grid = np.arange(_EXACT_TICKS + 1.0)
        grid = np.concatenate([grid, np.geomspace(_EXACT_TICKS, most, _GRID)[1:]])
        share = weights @ _rounded_distribution(np.broadcast_to(grid, (len(alpha), len(grid))), alpha, beta)
        return np.asarray(np.ceil(np.interp(_LEVELS, share, grid) - 1e-9) * unit_s)
    grid = np.geomspace(1e-9 * float((alpha * beta).min()), most, 4 * _GRID)
    return np.asarray(np.exp(np.interp(_LEVELS, weights @ gammainc(alpha, grid / beta), np.log(grid))))


def _rounded_distribution(ticks: Floats, alpha: Floats, beta: Floats) -> Floats:
    """The probability that a gap is seen as at most so many ticks."""
    far: Floats = gammainc(alpha, (ticks + 0.5) / beta)
    close = np.minimum(ticks, _CLOSE_TICKS)
    upper = integrated_distribution(close + 1, alpha, beta)
    exact = upper - integrated_distribution(close, alpha, beta)
    return np.where(ticks > _CLOSE_TICKS, far, exact)
