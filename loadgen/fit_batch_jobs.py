"""Fit batch jobs to hourly counts by the summaries of simulated traces."""

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit

from loadgen.arrivals.batch_jobs import (
    BatchJobs,
    BusyDays,
    Jobs,
    LognormalSpread,
    OneOf,
    draw_jobs,
    expected_batch_jobs,
    mean_up_to,
)
from loadgen.arrivals.piecewise import Floats
from loadgen.arrivals.weekly import HourOfWeek

_HOUR_S = 3600.0
_DAY_HOURS = 24
_LONGEST_JOB_HOURS = 48.0
_TRACES = 32  # simulated traces behind every step of the search
_WIDEST = 6.0  # no free parameter, on its logarithmic scale, goes beyond


def fit_jobs(
    requests: Floats, first_hour: int, profile: HourOfWeek, beside: BatchJobs | None, steps: int = 250
) -> BatchJobs:
    """Fit batch jobs to hourly counts: the mean as counted, the rest by the summaries of simulated traces.

    Indirect inference: the parameters whose traces have, in the mean over seeds, the summaries of the counts (see
    `hourly_summary`), each difference in units of its standard deviation between traces. Source: Gourieroux,
    Monfort, Renault, "Indirect inference", Journal of Applied Econometrics 8, 1993.

    Args:
        requests: f64[hours], whole days.
        first_hour: which hour of the week's calendar the first count is.
        profile: when jobs begin.
        beside: other jobs that are in the counts.
        steps: of the search, which is made twice.
    """
    span_s = (first_hour * _HOUR_S, (first_hour + len(requests)) * _HOUR_S)
    due = float(requests.sum()) - (0.0 if beside is None else expected_batch_jobs(beside, *span_s))
    wanted = hourly_summary(requests)

    def jobs(free: Floats) -> BatchJobs:
        return _jobs_with_mean(due, span_s, _of_rate_1(free, profile), float(np.exp(free[5])), float(requests.max()))

    def summaries(free: Floats) -> Floats:
        processes = [jobs(free)] if beside is None else [jobs(free), beside]
        return np.array([hourly_summary(_hourly_counts(processes, span_s, seed)) for seed in range(_TRACES)])

    def distance(free: Floats, scale: Floats) -> float:
        if np.any(np.abs(free) > _WIDEST):
            return 1e6
        return float(np.sum(((summaries(free).mean(axis=0) - wanted) / scale) ** 2))

    free = np.array([np.log(8.0), 0.0, 0.0, np.log(0.8), 0.0, np.log(1.5)])
    for _ in range(2):  # the second time with the scale of the first solution
        scale = summaries(free).std(axis=0)
        simplex = np.vstack([free, free + 0.35 * np.eye(len(free))])
        free = minimize(
            distance, free, (scale,), method="Nelder-Mead", options={"maxfev": steps, "initial_simplex": simplex}
        ).x
    return jobs(free)


def hourly_summary(requests: Floats) -> Floats:
    """What a fit of batch jobs looks at, f64[9].

    Share of hours with requests; runs of such hours per day; mean, standard deviation and correlation from one hour
    to the next of the logarithm of such hours; standard deviation and correlation from day to day of the logarithm
    of a day's requests (+ 10, which bounds silent days); standard deviation between days of the share of hours with
    requests; share of the requests in the busiest 5 % of hours.
    """
    active = requests > 0
    logarithm = np.log(np.maximum(requests, 1.0))
    both = active[1:] & active[:-1]
    days = requests.reshape(-1, _DAY_HOURS)
    day_logarithm = np.log(days.sum(axis=1) + 10)
    busiest = np.sort(requests)[::-1][: round(0.05 * len(requests))]
    return np.array(
        [
            active.mean(),
            (np.sum(active[1:] & ~active[:-1]) + active[0]) / len(days),
            logarithm[active].mean() if active.any() else 0.0,
            logarithm[active].std() if active.any() else 0.0,
            _correlation(logarithm[1:][both], logarithm[:-1][both]),
            day_logarithm.std(),
            _correlation(day_logarithm[1:], day_logarithm[:-1]),
            (days > 0).mean(axis=1).std(),
            busiest.sum() / max(requests.sum(), 1.0),
        ]
    )


def _of_rate_1(free: Floats, profile: HourOfWeek) -> BatchJobs:
    """Jobs of one request per hour with the free parameters, three significant digits of each."""
    jobs_per_day, hours_median, hours_sigma, busy_sigma = (rounded(float(value)) for value in np.exp(free[:4]))
    hours = LognormalSpread(distribution="lognormal", median=hours_median, sigma=hours_sigma, max=_LONGEST_JOB_HOURS)
    return BatchJobs(
        process="batch_jobs",
        jobs_per_day=jobs_per_day,
        profile=profile,
        busy_days=BusyDays(sigma=busy_sigma, correlation=rounded(float(expit(free[4])))),
        requests_per_hour=OneOf(distribution="one_of", values=(1.0,)),
        hours=hours,
    )


def _jobs_with_mean(
    due: float, span_s: tuple[float, float], jobs: BatchJobs, rate_sigma: float, fastest: float
) -> BatchJobs:
    """The jobs with log-normal rates of the median with which so many requests are due in a span."""
    mean_rate = min(due / expected_batch_jobs(jobs, *span_s), 0.999 * fastest)

    def rates(median: float) -> LognormalSpread:
        return LognormalSpread(distribution="lognormal", median=median, sigma=rounded(rate_sigma), max=fastest)

    def surplus(log_median: float) -> float:
        return float(mean_up_to(rates(float(np.exp(log_median))), np.array([np.inf]))[0]) - mean_rate

    log_median = float(brentq(surplus, np.log(1e-9), np.log(1e9)))
    return jobs.model_copy(update={"requests_per_hour": rates(rounded(float(np.exp(log_median))))})


def _hourly_counts(processes: list[BatchJobs], span_s: tuple[float, float], seed: int) -> Floats:
    """The requests of one simulated trace in each hour of the span."""
    rng = np.random.default_rng(seed)
    first_hour, end_hour = (round(at_s / _HOUR_S) for at_s in span_s)
    expected = np.zeros(end_hour - first_hour)
    for process in processes:
        expected += _expected_per_hour(draw_jobs(process, *span_s, rng), first_hour, len(expected))
    return rng.poisson(expected).astype(np.float64)


def _expected_per_hour(jobs: Jobs, first_hour: int, hours: int) -> Floats:
    """The requests that fall due in each hour while the jobs run."""
    start = jobs.start_s / _HOUR_S - first_hour
    end = np.minimum(start + jobs.hours, hours)
    expected = np.zeros(hours)
    for later in range(int(np.ceil(_LONGEST_JOB_HOURS)) + 1):
        hour = np.floor(start).astype(np.int64) + later
        runs = hour < end
        if not runs.any():
            break
        overlap = np.minimum(end[runs], hour[runs] + 1) - np.maximum(start[runs], hour[runs])
        np.add.at(expected, hour[runs], jobs.requests_per_hour[runs] * overlap)
    return expected


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation; 0 where a side does not vary."""
    if len(one) < 3 or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def rounded(value: float) -> float:
    """Three significant digits: no fit to a few weeks knows more."""
    return float(f"{value:.3g}")
