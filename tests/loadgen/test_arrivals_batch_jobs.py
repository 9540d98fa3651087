"""Arrivals that come in jobs, against sums done by hand and against what jobs of a known size must give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.arrivals.batch_jobs import BatchJobs
from loadgen.arrivals.process import draw_process, expected_arrivals
from loadgen.errors import InputError
from loadgen.strict_config import parse

DAY_S = 86400.0
HOUR_S = 3600.0


def one_of(*values):
    return {"distribution": "one_of", "values": values}


def lognormal(median, sigma, limit):
    return {"distribution": "lognormal", "median": median, "sigma": sigma, "max": limit}


def jobs(**changed):
    keys = {"process": "batch_jobs", "jobs_per_day": 6, "requests_per_hour": one_of(100), "hours": one_of(2)}
    return BatchJobs(**(keys | changed))


def mean_of_draws(process, start_s, end_s, draws):
    return np.mean([len(draw_process(process, start_s, end_s, np.random.default_rng(seed))) for seed in range(draws)])


def test_the_mean_is_jobs_times_size():
    # 10 days of 6 jobs of 200; of those that begin in the last 2 hours, half is lost: 0.5 jobs, 50 requests.
    assert expected_arrivals(jobs(), 0.0, 10 * DAY_S) == pytest.approx(12_000 - 50)


def test_a_job_that_outlasts_the_span_is_cut():
    # 1 hour: a job that begins at t sends (1 - t) x 100; 6/24 jobs, half an hour each in the mean.
    assert expected_arrivals(jobs(), 0.0, HOUR_S) == pytest.approx(0.25 * 50, rel=0.01)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"requests_per_hour": lognormal(100, 1.0, 400), "hours": lognormal(1, 1.2, 10)},
        {"busy_days": {"sigma": 0.8, "correlation": 0.5}},
        {"hours": one_of(0.001, 0.002), "jobs_per_day": 3000},  # most of these send nothing
        {"start_grid_s": 3600.0, "hours": one_of(3.5)},
    ],
    ids=["constant", "lognormal", "busy days", "tiny", "on a grid"],
)
def test_draws_have_the_expected_mean(changed):
    process = jobs(**changed)
    expected = expected_arrivals(process, 5 * DAY_S, 9.3 * DAY_S)
    assert mean_of_draws(process, 5 * DAY_S, 9.3 * DAY_S, 400) == pytest.approx(expected, rel=0.06)


def test_between_jobs_there_is_silence():
    # One job of 2 hours a day in the mean: an hour sees none that begin in it or in the two before: exp(-1/8).
    arrival_s = draw_process(jobs(jobs_per_day=1), 0.0, 1000 * DAY_S, np.random.default_rng(0))
    silent = 1 - len(np.unique(arrival_s // HOUR_S)) / 24_000
    assert silent == pytest.approx(np.exp(-3 / 24), abs=0.015)


def test_scheduled_jobs_fill_hours_with_exactly_their_requests():
    process = jobs(jobs_per_day=1, requests_per_hour=one_of(1366), hours=one_of(2), alpha=1e4, start_grid_s=HOUR_S)
    arrival_s = draw_process(process, 0.0, 300 * DAY_S, np.random.default_rng(2))
    counts = np.bincount((arrival_s // HOUR_S).astype(np.int64))
    assert np.mean(counts[counts > 0] % 1366 == 0) > 0.8


def test_busy_days_differ_more_than_chance_and_resemble_their_neighbours():
    days = 2000
    process = jobs(
        jobs_per_day=50, hours=one_of(0.01), requests_per_hour=one_of(100), busy_days={"sigma": 0.8, "correlation": 0.7}
    )
    arrival_s = draw_process(process, 0.0, days * DAY_S, np.random.default_rng(3))
    per_day = np.bincount((arrival_s // DAY_S).astype(np.int64), minlength=days)
    # Poisson of a log-normal mean: var/mean^2 = 1/mean + exp(sigma^2) - 1.
    assert per_day.var() / per_day.mean() ** 2 == pytest.approx(1 / 50 + np.exp(0.64) - 1, rel=0.25)
    logarithm = np.log(per_day + 1)
    assert 0.6 < np.corrcoef(logarithm[1:], logarithm[:-1])[0, 1] < 0.75


def test_jobs_begin_when_their_profile_says():
    mornings = [0] * 9 + [1] + [0] * 14
    profile = {"day_weights": [1] * 7, "workday_hour_weights": mornings, "day_off_hour_weights": mornings}
    arrival_s = draw_process(jobs(profile=profile, hours=one_of(0.5)), 0.0, 50 * DAY_S, np.random.default_rng(4))
    assert set(arrival_s // HOUR_S % 24) <= {9, 10}


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    start_h=st.integers(0, 50),
    length_h=st.integers(1, 100),
    alpha=st.sampled_from([0.01, 1.0, 1e4]),
    busy=st.booleans(),
)
def test_arrivals_are_sorted_and_within_the_span(seed, start_h, length_h, alpha, busy):
    process = jobs(
        jobs_per_day=40,
        hours=lognormal(1, 1.5, 30),
        alpha=alpha,
        busy_days={"sigma": 1.0, "correlation": 0.5} if busy else None,
    )
    start_s, end_s = start_h * HOUR_S, (start_h + length_h) * HOUR_S
    arrival_s = draw_process(process, start_s, end_s, np.random.default_rng(seed))
    assert np.all(np.diff(arrival_s) >= 0)
    assert np.all((arrival_s >= start_s) & (arrival_s < end_s))
    assert np.array_equal(arrival_s, draw_process(process, start_s, end_s, np.random.default_rng(seed)))


def test_no_job_no_arrivals():
    assert len(draw_process(jobs(jobs_per_day=1e-9), 0.0, HOUR_S, np.random.default_rng(0))) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hours": 2}, "hours"),
        ({"hours": {"distribution": "one_of", "values": []}}, "at least 1 item"),
        ({"requests_per_hour": lognormal(-1, 1, 2)}, "greater than 0"),
        ({"busy_days": {"sigma": 1, "correlation": 1}}, "less than 1"),
    ],
)
def test_wrong_jobs_are_told(wrong, message):
    keys = {"process": "batch_jobs", "jobs_per_day": 6, "requests_per_hour": one_of(100), "hours": one_of(2)}
    with pytest.raises(InputError, match=message):
        parse(BatchJobs, keys | wrong, "jobs")
