"""Fits to hourly counts, on counts drawn from known parameters and on sums done by hand."""

import numpy as np
import pytest

from loadgen.arrivals.batch_jobs import BatchJobs, expected_batch_jobs
from loadgen.arrivals.process import draw_process
from loadgen.arrivals.weekly import HourOfWeek, WeeklyArrivals
from loadgen.errors import InputError
from loadgen.fit_batch_jobs import fit_jobs, hourly_summary
from loadgen.fit_burstgpt import fit_hourly, fit_visits, fit_week, visit_dispersion, week_dispersion
from loadgen.rate_series import RateSeries
from loadgen.sessions import draw_turn_arrivals, draw_turns

HOUR_S = 3600.0
DAY_S = 86400.0
WORKDAY = [1] * 8 + [3] * 12 + [1] * 4
DAY_OFF = [2] * 12 + [1] * 12
PROFILE = HourOfWeek(
    day_weights=[2, 2, 1, 0.5, 2, 2, 2], days_off=[2, 3], workday_hour_weights=WORKDAY, day_off_hour_weights=DAY_OFF
)


def hourly_counts(arrival_s, days):
    return np.bincount((arrival_s // HOUR_S).astype(np.int64), minlength=days * 24)[: days * 24].astype(float)


def relative(weights):
    return np.array(weights) / np.mean(weights)


def test_the_week_is_recovered_from_counts():
    process = WeeklyArrivals(process="weekly", per_day=5000, profile=PROFILE)
    fitted = fit_week(hourly_counts(draw_process(process, 0.0, 56 * DAY_S, np.random.default_rng(0)), 56))
    assert fitted.days_off == (2, 3)
    assert relative(fitted.day_weights) == pytest.approx(relative(PROFILE.day_weights), rel=0.03)
    assert relative(fitted.workday_hour_weights) == pytest.approx(relative(WORKDAY), rel=0.1)
    assert relative(fitted.day_off_hour_weights) == pytest.approx(relative(DAY_OFF), rel=0.2)


def test_days_off_may_lie_around_the_end_of_the_week():
    days = np.repeat([1.0, 5, 5, 5, 5, 5, 1.0], 24)
    assert fit_week(np.tile(days, 3)).days_off == (0, 6)


def test_poisson_counts_have_no_dispersion_beyond_chance():
    process = WeeklyArrivals(process="weekly", per_day=5000, profile=PROFILE)
    counts = hourly_counts(draw_process(process, 0.0, 70 * DAY_S, np.random.default_rng(1)), 70)
    dispersion, correlation = week_dispersion(counts, PROFILE)
    assert dispersion == pytest.approx(1, abs=0.1)
    assert correlation == pytest.approx(0, abs=0.1)


def test_visits_are_recovered_from_the_dispersion_they_make():
    wanted = (9.0, 0.25)
    sessions = fit_visits(*wanted)
    assert visit_dispersion(sessions) == pytest.approx(wanted, rel=0.05)
    even = HourOfWeek(day_weights=[1] * 7, workday_hour_weights=[1] * 24, day_off_hour_weights=[1] * 24)
    rng = np.random.default_rng(2)
    visits = WeeklyArrivals(process="weekly", per_day=300, profile=even)
    start_s = draw_process(visits, 0.0, 400 * DAY_S, rng)
    visit = draw_turns(sessions, len(start_s), rng)
    arrival_s = draw_turn_arrivals(sessions, start_s, visit, np.zeros(len(visit), dtype=np.int32), rng)
    counts = hourly_counts(arrival_s, 400)[48:]
    assert week_dispersion(counts, even) == pytest.approx(wanted, rel=0.1)


def test_the_summary_of_two_days_is_what_one_counts():
    first, second = np.zeros(24), np.zeros(24)
    first[10:12] = np.e**2, np.e**4
    second[20] = np.e**3
    on, runs, mean, deviation, _, day_deviation, _, on_deviation, busiest = hourly_summary(np.append(first, second))
    assert on == 3 / 48
    assert runs == 1.0
    assert mean == pytest.approx(3)
    assert deviation == pytest.approx(np.sqrt(2 / 3))
    days = np.log([np.e**2 + np.e**4 + 10, np.e**3 + 10])
    assert day_deviation == pytest.approx(abs(days[0] - days[1]) / 2)
    assert on_deviation == pytest.approx((2 - 1) / 24 / 2)
    assert busiest == pytest.approx((np.e**4 + np.e**3) / (np.e**2 + np.e**4 + np.e**3))  # 5 % of 48 hours: 2


@pytest.fixture(scope="module")
def job_counts():
    jobs = BatchJobs.model_validate(
        {
            "process": "batch_jobs",
            "jobs_per_day": 6,
            "profile": PROFILE,
            "busy_days": {"sigma": 0.7, "correlation": 0.5},
            "requests_per_hour": {"distribution": "lognormal", "median": 300, "sigma": 1.3, "max": 20_000},
            "hours": {"distribution": "lognormal", "median": 2, "sigma": 0.8, "max": 40},
        }
    )
    return hourly_counts(draw_process(jobs, 0.0, 28 * DAY_S, np.random.default_rng(3)), 28)


def test_jobs_have_the_mean_of_the_counts_and_nearly_their_summary(job_counts):
    fitted = fit_jobs(job_counts, 0, PROFILE, None, steps=40)
    assert expected_batch_jobs(fitted, 0.0, 28 * DAY_S) == pytest.approx(job_counts.sum(), rel=0.01)
    drawn = [
        hourly_summary(hourly_counts(draw_process(fitted, 0.0, 28 * DAY_S, np.random.default_rng(seed)), 28))
        for seed in range(100, 130)
    ]
    wanted = hourly_summary(job_counts)
    assert np.all(np.abs(np.mean(drawn, axis=0) - wanted) < 2 * np.std(drawn, axis=0))


def test_the_same_counts_give_the_same_fit_and_other_jobs_are_subtracted(job_counts):
    first, again = (fit_jobs(job_counts, 0, PROFILE, None, steps=5) for _ in range(2))
    assert first == again
    beside = first.model_copy(update={"jobs_per_day": 0.5})
    rest = fit_jobs(job_counts, 0, PROFILE, beside, steps=5)
    span_s = (0.0, 28 * DAY_S)
    both = expected_batch_jobs(rest, *span_s) + expected_batch_jobs(beside, *span_s)
    assert both == pytest.approx(job_counts.sum(), rel=0.01)


@pytest.mark.parametrize(
    ("days", "bin_s", "api", "message"),
    [
        (10, HOUR_S, 0.0, "at least two weeks"),
        (20, 600.0, 0.0, "hourly counts"),
        (20, HOUR_S, np.nan, "without gaps"),
        (20, HOUR_S, 5.0, "more than 1000 API requests comes never"),
        (20, HOUR_S, 5000.0, "in the first two days"),
    ],
)
def test_counts_that_cannot_be_fitted_are_told(days, bin_s, api, message):
    requests = np.vstack([np.full(days * 24, 9.0), np.full(days * 24, api)])
    with pytest.raises(InputError, match=message):
        fit_hourly(RateSeries("counts", bin_s, ("conversation", "api"), requests))
