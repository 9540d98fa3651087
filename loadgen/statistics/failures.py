"""Failures: days and hours in which far more requests failed than chance allows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from loadgen.statistics.timeline import DAY_S, HOUR_S

_CHANCE = 0.01  # of one false outlier among all periods
_EXCESS = 2  # times the usual rate; less is significant in a long trace, and no outlier
_WORST = 20


@dataclass(frozen=True, slots=True)
class FailurePeriod:
    """A day or an hour with too many failures.

    Attributes:
        start_s: it is [start_s, start_s + period_s).
        requests, failures: in it.
        failed_fraction: failures / requests.
        expected_failures: at the usual rate.
    """

    start_s: float
    requests: int
    failures: int
    failed_fraction: float
    expected_failures: float


@dataclass(frozen=True, slots=True)
class FailureOutliers:
    """Periods of one length whose failures are far beyond binomial expectation.

    Attributes:
        period_s: their length.
        periods: those with requests.
        usual_fraction: failed share of the requests outside the outliers.
        outliers: all that were found.
        worst: the 20 least probable of them, in order of time.
    """

    period_s: float
    periods: int
    usual_fraction: float
    outliers: int
    worst: tuple[FailurePeriod, ...]


@dataclass(frozen=True, slots=True)
class Failures:
    """Outliers among the days and among the hours; None = fewer than two periods with requests."""

    by_day: FailureOutliers | None
    by_hour: FailureOutliers | None


def find_failure_outliers(arrival_s: NDArray[np.float64], is_failure: NDArray[np.bool_]) -> Failures:
    """Find the days and hours in which far more requests failed than usual."""
    return Failures(by_day=_outliers(arrival_s, is_failure, DAY_S), by_hour=_outliers(arrival_s, is_failure, HOUR_S))


def _outliers(arrival_s: NDArray[np.float64], is_failure: NDArray[np.bool_], period_s: float) -> FailureOutliers | None:
    """The periods with at least twice the usual rate and so many failures that chance would give them to one of the
    periods in 1 of 100 recordings.

    What is usual is the rate outside the outliers, so they are sought anew as long as that brings up more.
    """
    index = (arrival_s / period_s).astype(np.int64)
    requests, failures = np.bincount(index), np.bincount(index, is_failure)
    busy = np.flatnonzero(requests)
    requests, failures = requests[busy], failures[busy]
    if len(busy) < 2:
        return None
    is_outlier = np.zeros(len(busy), dtype=np.bool_)
    while True:
        usual = failures[~is_outlier].sum() / requests[~is_outlier].sum()
        # Half a failure more: a rate of 0 would make any failure impossible.
        assumed = min(1.0, (failures[~is_outlier].sum() + 0.5) / requests[~is_outlier].sum())
        chance = np.where(failures > 0, bdtrc(failures - 1, requests, assumed), 1.0)
        is_next = (chance < _CHANCE / len(busy)) & (failures >= _EXCESS * assumed * requests)
        if not (is_next & ~is_outlier).any() or (is_outlier | is_next).all():
            break
        is_outlier |= is_next
    worst = np.flatnonzero(is_outlier)
    worst = np.sort(worst[np.argsort(chance[worst], kind="stable")[:_WORST]])
    return FailureOutliers(
        period_s=period_s,
        periods=len(busy),
        usual_fraction=float(usual),
        outliers=int(np.count_nonzero(is_outlier)),
        worst=tuple(
            FailurePeriod(
                start_s=float(busy[place] * period_s),
                requests=int(requests[place]),
                failures=int(failures[place]),
                failed_fraction=float(failures[place] / requests[place]),
                expected_failures=float(usual * requests[place]),
            )
            for place in worst.tolist()
        ),
    )
