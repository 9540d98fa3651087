"""Quantiles from a point forecast's own past errors: kept by lead, rolling, the same for every point model.

Errors are kept as differences of square roots. The spread of traffic grows with its level, and the square root makes
it nearly even (for a Poisson count its standard deviation is 1/2 at any level), so that errors from quiet bins serve
in a burst and those from a burst do not swell a quiet forecast. Pinball loss at 0.9 and (coverage) of last value,
leads 1 and 10 (BurstGPT: tokens per minute, the last of days 0-4) or 1 and 12 (Azure 2023: requests per 5 s, the
second half), with a mean of 6 bins and 500 errors:

    differences of      BurstGPT, 41 % of bins empty      Azure, 28 requests per bin
    counts              335 (.876)  368 (.871)            1.11 (.934)  1.28 (.946)
    square roots        313 (.881)  358 (.885)            1.14 (.914)  1.26 (.940)
    log(1 + count)      378 (.904)  466 (.910)            1.20 (.894)  1.27 (.937)

Ratios (the logarithm) break near zero: one error learned on an empty minute multiplies the next busy one, and the loss
at 0.99 on BurstGPT is 30 times that of the others. With single bins in place of the mean, differences of counts win:
394 against 482; a lone bin says too little about the level that the spread is scaled to.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from forecasting.interface import Forecast

# With 10 errors the quantile at 0.9 is the largest of them: (10 + 1) * 0.9 = 9.9. With fewer there is none.
FEWEST_RESIDUALS = 10

# Absorbs rounding in (n + 1) * level, such as 10 * 0.7 = 7.000000000000001.
_ROUNDING = 1e-9


def setting(default: Any, *, at_least: float, at_most: float = float("inf")) -> Any:
    """A dataclass field that is a forecaster's parameter, with the range that the registry checks."""
    return field(default=default, metadata={"at_least": at_least, "at_most": at_most})


@dataclass(kw_only=True, eq=False)
class ResidualForecaster(ABC):
    """A point forecast per lead with the spread of its own past errors around it.

    A model says how it learns a count and what it expects next; this class keeps what it expected, compares, and
    answers with quantiles. It is the `forecasting.interface.Forecaster` of every such model.

    Attributes:
        bin_s: length of a bin.
        levels: quantiles to answer, increasing, each in (0, 1).
        start_s: start of the first bin observed.
        residual_bins: errors kept per lead; older ones are forgotten.
        horizon_bins: leads whose errors are kept; a lead further ahead takes the spread of the last of them.
    """

    bin_s: float
    levels: tuple[float, ...]
    start_s: float = 0.0
    residual_bins: int = setting(500, at_least=FEWEST_RESIDUALS, at_most=100_000)
    horizon_bins: int = setting(120, at_least=1, at_most=10_000)

    def __post_init__(self) -> None:
        self.levels = tuple(float(level) for level in self.levels)
        self._observed_bins = 0
        self._residuals = RollingResiduals(self.horizon_bins, self.residual_bins)

    @abstractmethod
    def _learn(self, count: float) -> None:
        """Take in the next bin; `_observed_bins` does not count it yet."""

    @abstractmethod
    def _points(self, bins: int) -> NDArray[np.float64]:
        """What is expected in each of the next `bins` bins, f64[bins], >= 0."""

    def observe(self, counts: NDArray[np.float64]) -> None:
        """Take in the next complete bins, f64[n], oldest first; a bin is given exactly once."""
        for count in np.asarray(counts, dtype=np.float64).tolist():
            self._residuals.settle(count)
            self._learn(count)
            self._observed_bins += 1
            self._residuals.expect(self._points(self.horizon_bins))

    def forecast(self, bins: int) -> Forecast:
        """Forecast the next `bins` bins after the last one observed (values: f64[q, bins]).

        It answers from the start: before any bin as though one empty bin had been seen, and before there are
        `FEWEST_RESIDUALS` errors with the spread of `first_quantiles`.
        """
        levels = np.array(self.levels)
        return Forecast(
            issued_at_s=self.start_s + self._observed_bins * self.bin_s,
            bin_s=self.bin_s,
            levels=levels,
            values=self._residuals.quantiles(self._points(bins), levels),
        )


class RollingResiduals:
    """The latest errors of a point forecast at each lead, as differences of square roots."""

    def __init__(self, horizon_bins: int, residual_bins: int) -> None:
        self._leads = np.arange(1, horizon_bins + 1)
        self._bins = 0  # settled so far
        # Row: the number of bins settled when the points were made, modulo; column: lead - 1.
        self._expected = np.full((horizon_bins, horizon_bins), np.nan)
        # Row: lead - 1; column: the bin, modulo.
        self._residuals = np.full((horizon_bins, residual_bins), np.nan)

    def settle(self, count: float) -> None:
        """Compare the next bin with what was expected of it at every lead."""
        made_at = self._bins + 1 - self._leads
        expected = self._expected[made_at % len(self._leads), self._leads - 1]
        self._residuals[:, self._bins % self._residuals.shape[1]] = np.sqrt(count) - expected
        self._bins += 1

    def expect(self, points: NDArray[np.float64]) -> None:
        """Keep what is now expected of the next bins, f64[horizon_bins], to compare it when they have come."""
        self._expected[self._bins % len(self._leads)] = np.sqrt(points)

    def quantiles(self, points: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """The points with past errors added: f64[q, bins], >= 0, non-decreasing along the levels.

        The quantile at `level` of n errors is the k-th smallest, k = ceil((n + 1) * level): the next outcome is as
        likely to fall into any of the n + 1 gaps between them, so that it stays below with probability >= level,
        where the plain sample quantile covers too little. Where n is too small for that (k > n), the largest error
        or the first spread, whichever is higher. Leads that lack errors take those of the longest lead that has them.

        Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-Free Predictive Inference for
        Regression", JASA 113 (2018), section 2.2 (split conformal inference), one-sided.
        """
        warm_leads = min(self._bins - FEWEST_RESIDUALS, len(self._leads))
        if warm_leads < 1:
            return first_quantiles(points, levels)
        rows = np.minimum(np.arange(len(points)), warm_leads - 1)
        used = int(rows.max(initial=0)) + 1
        kept = np.minimum(self._bins - self._leads[:used], self._residuals.shape[1])[rows]
        ranks = np.ceil((kept + 1) * levels[:, None] - _ROUNDING).astype(np.int64)
        ordered = np.sort(self._residuals[:used], axis=1)  # NaN, a place not yet filled, sorts to the end
        errors = ordered[rows, np.clip(ranks, 1, kept) - 1]
        values: NDArray[np.float64] = np.square(np.maximum(np.sqrt(points) + errors, 0.0))
        out_of_reach = ranks > kept
        if out_of_reach.any():
            values = np.where(out_of_reach, np.maximum(values, first_quantiles(points, levels)), values)
        return values


def first_quantiles(points: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spread around a point before any error is known: f64[q, bins], from points f64[bins].

    A Gamma distribution with mean m = point + 1/2 and variance 2 m + (m / 2)^2. The first term is what one observed
    bin leaves open if arrivals are Poisson: their rate is uncertain by as much as the next count scatters (negative
    binomial; the 1/2 is Jeffreys' prior, by which one empty bin does not promise a second). The second, a relative
    spread of 1/2, is a guess that real traffic and token counts are burstier than that: after a bin of 28 requests
    the quantile at 0.9 is 50, after one of 3000 tokens 5000.
    """
    mean = points + 0.5
    scale = 2.0 + mean / 4.0  # variance / mean
    values: NDArray[np.float64] = gammaincinv(mean / scale, levels[:, None]) * scale
    return values
