"""Cycles of the hourly counts are seen, and noise is not taken for one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loadgen.statistics.periodicity import Periodicity, measure_periodicity

HOUR_S = 3600.0


def measure(hourly: NDArray[np.integer]) -> Periodicity:
    """Requests at even steps within each hour."""
    arrival_s = np.concatenate([hour * HOUR_S + np.arange(count) for hour, count in enumerate(hourly.tolist())])
    return measure_periodicity(arrival_s, len(hourly) * HOUR_S)


def test_a_daily_cycle_correlates_with_itself_a_day_later_and_not_half_a_day_later() -> None:
    day = np.rint(20 + 15 * np.sin(2 * np.pi * np.arange(24) / 24)).astype(int)
    found = measure(np.tile(day, 28))
    assert found.hours == 672
    assert found.at_24_h == pytest.approx(1.0)
    assert found.at_168_h == pytest.approx(1.0)
    assert found.autocorrelation is not None
    assert len(found.autocorrelation) == 337
    assert found.autocorrelation[0] == pytest.approx(1.0)
    assert found.autocorrelation[12] == pytest.approx(-1.0, abs=1e-3), "but for the rounding"
    assert found.daily_fraction == pytest.approx(1.0)
    assert found.weekly_fraction == pytest.approx(1.0)
    assert found.hour_of_day is not None
    assert found.hour_of_day.tolist() == day.tolist()
    assert found.hour_of_week is not None
    assert found.hour_of_week.tolist() == np.tile(day, 7).tolist()


def test_a_quiet_weekend_makes_a_week_that_the_hour_of_the_day_explains_in_part() -> None:
    week = np.concatenate([np.tile(np.arange(24), 5), np.zeros(48, dtype=int)])
    found = measure(np.tile(week, 4))
    assert found.at_168_h == pytest.approx(1.0)
    assert found.weekly_fraction == pytest.approx(1.0)
    assert found.at_24_h is not None
    assert found.at_24_h < 0.9
    # By hand: the mean of hour h is 5 h / 7; what is left of each hour are 5 values of 2 h / 7 and 2 of -5 h / 7.
    hours = np.arange(24)
    within = 28 / 7 * np.sum(5 * (2 * hours / 7) ** 2 + 2 * (5 * hours / 7) ** 2) / (672 - 24)
    assert found.daily_fraction == pytest.approx(1 - within / np.tile(week, 4).var(ddof=1))


def test_noise_has_no_cycle() -> None:
    found = measure(np.random.default_rng(0).poisson(20, 24 * 56))
    assert found.at_24_h is not None
    assert abs(found.at_24_h) < 0.1
    assert found.daily_fraction is not None
    assert found.daily_fraction < 0.02
    assert found.weekly_fraction is not None
    assert found.weekly_fraction < 0.05, "168 means of 8 values each explain 1/8 of the noise if nothing is adjusted"


def test_a_recording_that_is_too_short_has_no_cycle_and_covers_what_it_covers() -> None:
    short = measure(np.array([3, 5]))
    assert short.hours == 2
    assert short.autocorrelation is not None
    assert len(short.autocorrelation) == 2
    assert (short.at_24_h, short.hour_of_day, short.hour_of_week, short.daily_fraction) == (None, None, None, None)
    thirty = measure(np.arange(30))
    assert thirty.hour_of_week is not None
    assert thirty.hour_of_week[:30].tolist() == list(range(30))
    assert np.isnan(thirty.hour_of_week[30:]).all()
    assert thirty.hour_of_day is not None
    assert thirty.hour_of_day[[0, 6]].tolist() == [12.0, 6.0], "hours 0 to 5 are covered twice"
    assert (thirty.at_24_h, thirty.daily_fraction, thirty.weekly_fraction) == (None, None, None)


def test_counts_that_never_vary_correlate_with_nothing() -> None:
    found = measure(np.full(400, 2))
    assert (found.at_24_h, found.daily_fraction, found.weekly_fraction) == (None, None, None)
    assert found.autocorrelation is not None
    assert np.isnan(found.autocorrelation).all()
