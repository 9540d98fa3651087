"""The daily and the weekly cycle of the hourly counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.timeline import HOUR_S, bin_counts

_DAY_H = 24
_WEEK_H = 168


@dataclass(frozen=True, slots=True, eq=False)
class Periodicity:
    """Cycles in the requests per complete hour. Hours count from the start of the recording, not from midnight.

    What needs a longer recording than there is, or counts that vary, is None.

    Attributes:
        hours: complete hours of the recording.
        autocorrelation: f64[lags + 1], the correlation of the counts with those `lag` hours later, lag 0 (always 1) up
            to 336 h (two weeks) or half of the recording; NaN where either part does not vary. Needs 2 h.
        at_24_h, at_168_h: the autocorrelation a day and a week later. Need 48 h and 336 h.
        hour_of_day: f64[24], mean requests in each hour of the day. Needs 24 h.
        hour_of_week: f64[168], mean requests in each hour of the week; NaN in those that the recording does not cover.
            Needs 24 h.
        daily_fraction: share of the counts' variance that the hour of the day explains, adjusted for the 24 means that
            noise would explain too; 0 to 1. Needs 48 h.
        weekly_fraction: the same of the hour of the week, so the daily cycle included. Needs 336 h.
    """

    hours: int
    autocorrelation: NDArray[np.float64] | None
    at_24_h: float | None
    at_168_h: float | None
    hour_of_day: NDArray[np.float64] | None
    hour_of_week: NDArray[np.float64] | None
    daily_fraction: float | None
    weekly_fraction: float | None


def measure_periodicity(arrival_s: NDArray[np.float64], duration_s: float) -> Periodicity:
    """Measure the cycles of the requests per complete hour."""
    return periodicity_of(bin_counts(arrival_s, duration_s, HOUR_S).astype(np.float64))


def periodicity_of(counts: NDArray[np.float64]) -> Periodicity:
    """Measure the cycles of hourly counts, f64[hours], each a number."""
    hours = len(counts)
    autocorrelation = _autocorrelation(counts, min(2 * _WEEK_H, hours // 2)) if hours >= 2 else None
    return Periodicity(
        hours=hours,
        autocorrelation=autocorrelation,
        at_24_h=_at_lag(autocorrelation, _DAY_H),
        at_168_h=_at_lag(autocorrelation, _WEEK_H),
        hour_of_day=_profile(counts, _DAY_H) if hours >= _DAY_H else None,
        hour_of_week=_profile(counts, _WEEK_H) if hours >= _DAY_H else None,
        daily_fraction=_explained_fraction(counts, _DAY_H) if hours >= 2 * _DAY_H else None,
        weekly_fraction=_explained_fraction(counts, _WEEK_H) if hours >= 2 * _WEEK_H else None,
    )


def _autocorrelation(counts: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """Pearson's correlation of the counts with themselves `lag` hours later, for lag 0 .. lags."""
    earlier_and_later = [(counts[: len(counts) - lag], counts[lag:]) for lag in range(lags + 1)]
    return np.array([_correlation(earlier, later) for earlier, later in earlier_and_later])


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    left, right = left - left.mean(), right - right.mean()
    scale = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / scale) if scale > 0 else float("nan")


def _at_lag(autocorrelation: NDArray[np.float64] | None, lag: int) -> float | None:
    """The value at the lag; None where the lags do not reach so far or the counts do not vary."""
    if autocorrelation is None or lag >= len(autocorrelation) or np.isnan(autocorrelation[lag]):
        return None
    return float(autocorrelation[lag])


def _profile(counts: NDArray[np.float64], period_hours: int) -> NDArray[np.float64]:
    """The mean count at each place of the period, f64[period_hours]; NaN where there is none."""
    padded = np.append(counts, np.full(-len(counts) % period_hours, np.nan)).reshape(-1, period_hours)
    covered = np.count_nonzero(~np.isnan(padded), axis=0)
    return np.where(covered > 0, np.nansum(padded, axis=0) / np.maximum(covered, 1), np.nan)


def _explained_fraction(counts: NDArray[np.float64], period_hours: int) -> float | None:
    """The share of the variance that the profile explains; None where the counts do not vary.

    Source: epsilon squared of the one-way analysis of variance: 1 - (variance within the places) / (variance), both
    with their degrees of freedom, which is 0 on average where the profile is noise.
    """
    variance = float(counts.var(ddof=1))
    if variance == 0:
        return None
    residuals = counts - _profile(counts, period_hours)[np.arange(len(counts)) % period_hours]
    within = float(residuals @ residuals) / (len(counts) - period_hours)
    return max(0.0, 1 - within / variance)
