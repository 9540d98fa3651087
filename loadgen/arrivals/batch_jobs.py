"""Arrivals that come in jobs: a script sends for minutes or hours, then is silent."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import ndtr

from loadgen.arrivals.piecewise import Floats, PiecewiseLinear
from loadgen.arrivals.placement import place_arrivals
from loadgen.arrivals.renewal import draw_renewal
from loadgen.arrivals.schedule import Value, over_time
from loadgen.arrivals.weekly import DAY_S, HourOfWeek, weekly_rate
from loadgen.strict_config import Positive, StrictModel

_HOUR_S = 3600.0
_STEP_S = 900.0  # the expectation is summed in such steps


class LognormalSpread(StrictModel):
    """exp(Normal(log median, sigma)); what lies above `max` is `max`."""

    distribution: Literal["lognormal"]
    median: Positive
    sigma: Annotated[float, Field(gt=0, le=10)]
    max: Positive


class OneOf(StrictModel):
    """Each of these values equally often."""

    distribution: Literal["one_of"]
    values: Annotated[tuple[Positive, ...], Field(min_length=1)]


Spread = Annotated[LognormalSpread | OneOf, Field(discriminator="distribution")]


class BusyDays(StrictModel):
    """Days with more and with fewer jobs than usual: a log-normal factor of mean 1, alike on days that are close.

    Attributes:
        sigma: standard deviation of the factor's logarithm.
        correlation: of the logarithms of one day and the next (AR(1)).
    """

    sigma: Annotated[float, Field(gt=0, le=5)]
    correlation: Annotated[float, Field(ge=0, lt=1)]


class BatchJobs(StrictModel):
    """Jobs begin at random, run side by side, and send at a rate of their own as long as they last.

    What arrives is the sum over the jobs that run: silence where none does, a burst where a large one begins. No job
    runs yet where the span begins; a job that outlasts it is cut. Rate and length of a job are independent.

    Attributes:
        jobs_per_day: jobs that begin on a day, in the mean over a week.
        profile: when in the week they begin; None = at any time alike.
        busy_days: how days differ beyond that; None = they do not.
        requests_per_hour: of one job while it runs.
        hours: how long a job runs.
        alpha: shape of the gaps within a job: 1 = Poisson, smaller = burstier, large = at regular intervals.
        start_grid_s: jobs wait for the next multiple of this, as those of a scheduler; None = they do not.
    """

    process: Literal["batch_jobs"]
    jobs_per_day: Value
    profile: HourOfWeek | None = None
    busy_days: BusyDays | None = None
    requests_per_hour: Spread
    hours: Spread
    alpha: Annotated[float, Field(ge=0.01, le=1e4)] = 1.0
    start_grid_s: Positive | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Jobs:
    """Jobs in the order in which they begin: f64[jobs] each."""

    start_s: Floats
    requests_per_hour: Floats
    hours: Floats


def draw_batch_jobs(process: BatchJobs, start_s: float, end_s: float, rng: np.random.Generator) -> Floats:
    """Draw the arrival times (s, sorted) in [start_s, end_s)."""
    jobs = draw_jobs(process, start_s, end_s, rng)
    # Rounded up or down by chance, so that jobs of less than one request count in the mean as well.
    requests = np.floor(jobs.requests_per_hour * jobs.hours + rng.random(len(jobs.hours))).astype(np.int64)
    arrival_s = place_arrivals(requests, jobs.start_s, jobs.start_s + jobs.hours * _HOUR_S, process.alpha, rng)
    return np.sort(arrival_s[arrival_s < end_s])


def draw_jobs(process: BatchJobs, start_s: float, end_s: float, rng: np.random.Generator) -> Jobs:
    """Draw the jobs that begin in [start_s, end_s)."""
    job_rate_per_s = weekly_rate(process.jobs_per_day, process.profile, start_s, end_s)
    if process.busy_days is not None:
        job_rate_per_s = _times_busy_days(job_rate_per_s, process.busy_days, rng)
    starts_s = draw_renewal(job_rate_per_s, over_time(1.0, start_s, end_s), rng)  # shape 1: a Poisson process
    if process.start_grid_s is not None:
        starts_s = np.ceil(starts_s / process.start_grid_s) * process.start_grid_s
    per_hour = _draw(process.requests_per_hour, len(starts_s), rng)
    return Jobs(starts_s, per_hour, _draw(process.hours, len(starts_s), rng))


def expected_batch_jobs(process: BatchJobs, start_s: float, end_s: float) -> float:
    """The mean number of arrivals in [start_s, end_s): jobs begun, times their rate, times the hours left to them.

    Raises:
        ValueError: `jobs_per_day` falls below 0 in that span.
    """
    rate_per_s = weekly_rate(process.jobs_per_day, process.profile, start_s, end_s)
    steps_s = np.linspace(start_s, end_s, int(np.ceil((end_s - start_s) / _STEP_S)) + 1)
    rate_per_s = rate_per_s.split_at(np.union1d(rate_per_s.edges_s, steps_s))
    middle_s = (rate_per_s.edges_s[:-1] + rate_per_s.edges_s[1:]) / 2
    if process.start_grid_s is not None:
        middle_s = np.ceil(middle_s / process.start_grid_s) * process.start_grid_s
    hours_left = np.maximum(end_s - middle_s, 0.0) / _HOUR_S
    hours = mean_up_to(process.hours, hours_left)
    per_hour = float(mean_up_to(process.requests_per_hour, np.array([np.inf]))[0])
    return float(np.diff(rate_per_s.integral()) @ hours * per_hour)


def _times_busy_days(rate_per_s: PiecewiseLinear, busy_days: BusyDays, rng: np.random.Generator) -> PiecewiseLinear:
    """The rate with every day's own factor."""
    day = (rate_per_s.edges_s[:-1] // DAY_S).astype(np.int64)  # no piece crosses midnight
    day -= day[0]
    shocks = rng.standard_normal(int(day[-1]) + 1)
    shocks[1:] *= np.sqrt(1 - busy_days.correlation**2)
    for later in range(1, len(shocks)):
        shocks[later] += busy_days.correlation * shocks[later - 1]
    factor = np.exp(busy_days.sigma * shocks - busy_days.sigma**2 / 2)[day]
    return PiecewiseLinear(rate_per_s.edges_s, rate_per_s.left * factor, rate_per_s.right * factor)


def _draw(spread: Spread, count: int, rng: np.random.Generator) -> Floats:
    """Draw values, f64[count]."""
    match spread:
        case LognormalSpread():
            return np.minimum(spread.median * np.exp(spread.sigma * rng.standard_normal(count)), spread.max)
        case OneOf():
            values: Floats = rng.choice(np.array(spread.values), size=count)
            return values


def mean_up_to(spread: Spread, limit: Floats) -> Floats:
    """The mean of min(value, limit) for each limit."""
    match spread:
        case LognormalSpread():
            at = np.minimum(limit, spread.max)
            with np.errstate(divide="ignore"):  # a limit of 0 is minus infinity standard deviations away
                deviations = np.log(at / spread.median) / spread.sigma
            below = spread.median * np.exp(spread.sigma**2 / 2) * ndtr(deviations - spread.sigma)
            mean: Floats = below + at * ndtr(-deviations)
        case OneOf():
            mean = np.minimum(np.array(spread.values), limit[:, None]).mean(axis=1)
    return mean
