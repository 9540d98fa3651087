"""Arrival parameters of the model of BurstGPT, from hourly counts of conversation and API requests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from loadgen.arrivals.batch_jobs import BatchJobs
from loadgen.arrivals.piecewise import Floats
from loadgen.arrivals.weekly import HourOfWeek, WeeklyArrivals, expected_weekly
from loadgen.errors import InputError
from loadgen.fit_batch_jobs import fit_jobs, rounded
from loadgen.lengths import Geometric, mean_length
from loadgen.rate_series import RateSeries
from loadgen.sessions import LognormalPause, Sessions, draw_turn_arrivals, draw_turns

_HOUR_S = 3600.0
_DAY_HOURS, _WEEK_HOURS = 24, 168
_BURST_REQUESTS = 1000.0  # an hour with more is a burst; batch jobs begin on the day of the first
_PAUSE_SIGMA = 1.63  # of the pauses below an hour in BurstGPT_3; see docs/model_of_burstgpt.md
_PAUSE_MAX_S = 3600.0  # assumed: who comes back after an hour begins another visit
_MOST_TURNS = 500
_VISITS = 20_000  # drawn at every step of the fit
_UNBLURRING_STEPS = 3  # more would follow the noise of the counts


@dataclass(frozen=True, slots=True)
class FittedTraffic:
    """What hourly counts say about arrivals.

    Attributes:
        visits: when people come.
        sessions: what they send before they leave.
        trials: API requests by hand and short scripts.
        jobs: API batch jobs.
        jobs_from_s: when batch jobs begin to exist: the midnight before the first burst.
    """

    visits: WeeklyArrivals
    sessions: Sessions
    trials: BatchJobs
    jobs: BatchJobs
    jobs_from_s: float

    def as_plain(self) -> dict[str, Any]:
        """As plain values, in the form of a workload model's streams."""
        visits, sessions, trials, jobs = (
            part.model_dump(mode="json", exclude_none=True)
            for part in (self.visits, self.sessions, self.trials, self.jobs)
        )
        return {
            "conversation": {"arrivals": visits, "sessions": sessions},
            "api_trials": {"arrivals": trials},
            "api_jobs": {"start_s": self.jobs_from_s, "arrivals": jobs},
        }


def fit_hourly(series: RateSeries, report: Callable[[str], None] = lambda _: None) -> FittedTraffic:
    """Fit all arrival parameters to the series 'conversation' and 'api' of hourly counts.

    Raises:
        InputError: the series is not hourly, has gaps, is shorter than two weeks, or has no API burst after two days.
    """
    conversation, api = _hourly_counts(series, "conversation"), _hourly_counts(series, "api")
    burst_hours = np.flatnonzero(api > _BURST_REQUESTS)
    if not len(burst_hours) or burst_hours[0] < 2 * _DAY_HOURS:
        raise InputError(
            f"{series.name}: an hour with more than {_BURST_REQUESTS:g} API requests comes never or in the first two "
            "days; want bursts that begin later, as those of BurstGPT"
        )
    onset = int(burst_hours[0]) // _DAY_HOURS * _DAY_HOURS
    report("conversation: the week and its visits")
    profile = fit_week(conversation)
    sessions = fit_visits(*week_dispersion(conversation, profile))
    # Requests come later than the visits that they belong to: visits get the profile that makes requests have theirs.
    visit_profile = fit_week(_unblurred(profile.relative_rates(), sessions))
    visits = _with_requests(float(conversation.sum()), len(conversation), visit_profile, sessions)
    report("API: trials")
    trials = fit_jobs(api[:onset], 0, visit_profile, None)
    report("API: batch jobs")
    jobs = fit_jobs(api[onset:], onset, visit_profile, trials)
    return FittedTraffic(visits, sessions, trials, jobs, onset * _HOUR_S)


def fit_week(requests: Floats) -> HourOfWeek:
    """The rhythm of the week by means: of every day of the week, of every hour of workdays and of days off.

    The days off are the two neighbouring days of the week with the fewest requests.

    Args:
        requests: f64[hours], whole days, from the first midnight on.
    """
    days = requests.reshape(-1, _DAY_HOURS)
    weekday = np.arange(len(days)) % 7
    day_means = np.array([days[weekday == day].sum(axis=1).mean() for day in range(7)])
    first_off = int(np.argmin(day_means + np.roll(day_means, -1)))
    days_off = sorted({first_off, (first_off + 1) % 7})
    is_off = np.isin(weekday, days_off)
    workday_hours, day_off_hours = (days[rows].mean(axis=0) / days[rows].mean() for rows in (~is_off, is_off))
    return HourOfWeek(
        day_weights=tuple(rounded(weight) for weight in day_means / day_means.mean()),
        days_off=tuple(days_off),
        workday_hour_weights=tuple(rounded(weight) for weight in workday_hours),
        day_off_hour_weights=tuple(rounded(weight) for weight in day_off_hours),
    )


def week_dispersion(requests: Floats, profile: HourOfWeek) -> tuple[float, float]:
    """How hourly requests vary around their week: variance over mean (Poisson: 1), correlation with the hour before."""
    week = profile.relative_rates() * float(np.mean(requests))
    expected = np.tile(week, len(requests) // _WEEK_HOURS + 1)[: len(requests)]
    surplus = requests - expected
    squares = float(np.sum(surplus**2))
    return squares / float(np.sum(expected)), float(np.sum(surplus[1:] * surplus[:-1])) / squares


def fit_visits(dispersion: float, correlation: float) -> Sessions:
    """The visits that explain how hourly counts vary around their week: how many requests, how far apart."""

    def sessions(free: Floats) -> Sessions:
        turns_mean, median_s = (rounded(float(value)) for value in np.exp(free))
        return Sessions(
            turns=Geometric(distribution="geometric", mean=1 + turns_mean, max=_MOST_TURNS),
            think_s=LognormalPause(distribution="lognormal", median=median_s, sigma=_PAUSE_SIGMA, max=_PAUSE_MAX_S),
            with_history=False,
        )

    def distance(free: Floats) -> float:
        if not (-4 < free[0] < 4 and -1 < free[1] < 8):
            return 1e6
        reached = visit_dispersion(sessions(free))
        return float(np.log(reached[0] / dispersion) ** 2 + (reached[1] - correlation) ** 2)

    found = minimize(distance, np.log([7.0, 60.0]), method="Nelder-Mead", options={"maxfev": 150})
    return sessions(found.x)


def visit_dispersion(sessions: Sessions) -> tuple[float, float]:
    """What `week_dispersion` is where visits are its only cause.

    In a Poisson cluster process, the covariance of two counts is the rate of clusters times the mean product of one
    cluster's numbers. Source: Daley and Vere-Jones, "An Introduction to the Theory of Point Processes" I, 2003,
    section 6.3.
    """
    visit, hour = _visit_hours(sessions)
    place, numbers = np.unique(visit * 10_000 + hour, return_counts=True)  # no visit lasts 10,000 hours
    squares = float(np.sum(numbers.astype(np.float64) ** 2))
    next_hour = np.diff(place) == 1
    return squares / len(visit), float(np.sum(numbers[1:][next_hour] * numbers[:-1][next_hour])) / squares


def _with_requests(requests: float, hours: int, profile: HourOfWeek, sessions: Sessions) -> WeeklyArrivals:
    """The visits of whose sessions so many requests are due in so many hours."""
    one_a_day = WeeklyArrivals(process="weekly", per_day=1.0, profile=profile)
    visits = requests / mean_length(sessions.turns)
    return one_a_day.model_copy(update={"per_day": rounded(visits / expected_weekly(one_a_day, 0.0, hours * _HOUR_S))})


def _visit_hours(sessions: Sessions) -> tuple[Any, Any]:
    """Many visits' requests: the visit of each, and its hour since the hour in which the visit began."""
    rng = np.random.default_rng(0)
    visit = draw_turns(sessions, _VISITS, rng)
    start_s = rng.random(_VISITS) * _HOUR_S
    at_s = draw_turn_arrivals(sessions, start_s, visit, np.zeros(len(visit), dtype=np.int32), rng)
    return visit, (at_s // _HOUR_S).astype(np.int64)


def _unblurred(requests: Floats, sessions: Sessions) -> Floats:
    """The rate of visits, up to a factor, whose requests have this rate over a cycle of hours.

    Source: Richardson, "Bayesian-based iterative method of image restoration", Journal of the Optical Society of
    America 62(1), 1972.
    """
    _, delay_hours = _visit_hours(sessions)
    share = np.bincount(delay_hours % len(requests), minlength=len(requests)) / len(delay_hours)
    blur = np.array([np.roll(share, hour) for hour in range(len(requests))]).T  # column: the visit's hour
    visits = requests.copy()
    for _ in range(_UNBLURRING_STEPS):
        visits *= blur.T @ (requests / np.maximum(blur @ visits, 1e-12))
    return visits


def _hourly_counts(series: RateSeries, label: str) -> Floats:
    """The counts of one label, whole days of them."""
    counts = series.of(label)
    counts = counts[: len(counts) // _DAY_HOURS * _DAY_HOURS]
    if series.bin_s != _HOUR_S or len(counts) < 2 * _WEEK_HOURS or np.isnan(counts).any():
        raise InputError(f"{series.name}: want hourly counts of '{label}' over at least two weeks, without gaps")
    return counts
