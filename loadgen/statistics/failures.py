"""Failures: days and hours in which far more requests failed than chance allows."""

from dataclasses import dataclass


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
