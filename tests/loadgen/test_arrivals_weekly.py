"""Arrivals with the rhythm of a week, against rates worked out by hand."""

import numpy as np
import pytest

from loadgen.arrivals.process import draw_process, expected_arrivals
from loadgen.arrivals.weekly import HourOfWeek, WeeklyArrivals, weekly_rate
from loadgen.errors import InputError
from loadgen.strict_config import parse

DAY_S = 86400.0
EVEN_HOURS = [1] * 24
NOON_ONLY = [0] * 12 + [1] + [0] * 11
# Four workdays, two days off, one workday: a week that begins on a Tuesday. A day off has half a workday's traffic.
WEEK = {
    "day_weights": [2, 2, 2, 2, 1, 1, 2],
    "days_off": [4, 5],
    "workday_hour_weights": EVEN_HOURS,
    "day_off_hour_weights": NOON_ONLY,
}


def weekly(**changed):
    return WeeklyArrivals(**({"process": "weekly", "per_day": 1200, "profile": WEEK} | changed))


def test_a_week_has_seven_times_the_mean_day():
    assert expected_arrivals(weekly(), 0.0, 7 * DAY_S) == pytest.approx(7 * 1200)


def test_a_workday_has_twice_the_traffic_of_a_day_off():
    # 12 parts a week for 8400 arrivals: 700 a part.
    assert expected_arrivals(weekly(), 3 * DAY_S, 4 * DAY_S) == pytest.approx(1400)
    assert expected_arrivals(weekly(), 4 * DAY_S, 5 * DAY_S) == pytest.approx(700)


def test_the_calendar_begins_with_the_model_and_not_with_the_stream():
    assert expected_arrivals(weekly(), 10 * DAY_S, 11 * DAY_S) == pytest.approx(1400)  # day 10 is day 3 of its week
    assert expected_arrivals(weekly(), 11 * DAY_S, 11.5 * DAY_S) == 0.0  # day 11 is a day off, silent before noon


def test_a_part_of_an_hour_has_its_share():
    noon_s = 4 * DAY_S + 12 * 3600
    assert expected_arrivals(weekly(), noon_s + 900, noon_s + 1800) == pytest.approx(175)


def test_the_level_may_change_over_the_weeks():
    steps = {"interpolation": "steps", "points": [{"at_s": 0, "value": 1200}, {"at_s": 7 * DAY_S, "value": 600}]}
    assert expected_arrivals(weekly(per_day=steps), 0.0, 14 * DAY_S) == pytest.approx(7 * 1800)


def test_draws_have_the_expected_mean_and_keep_silent_hours_silent():
    arrival_s = draw_process(weekly(), 2 * DAY_S, 30 * DAY_S, np.random.default_rng(0))
    assert np.all(np.diff(arrival_s) >= 0)
    assert arrival_s[0] >= 2 * DAY_S
    assert arrival_s[-1] < 30 * DAY_S
    assert len(arrival_s) == pytest.approx(28 * 1200, abs=4 * np.sqrt(28 * 1200))
    hour = arrival_s // 3600
    on_days_off = np.isin(hour // 24 % 7, [4, 5])
    assert set(hour[on_days_off] % 24) == {12}


def test_small_alpha_is_burstier():
    variance = [
        np.var(np.diff(draw_process(weekly(alpha=alpha), 0.0, 4 * DAY_S, np.random.default_rng(1))))
        for alpha in (0.25, 1.0)
    ]
    assert variance[0] > 2 * variance[1]  # 1/alpha times the squared mean gap: 4 times


def test_same_seed_same_arrivals():
    draws = [draw_process(weekly(), 0.0, 3 * DAY_S, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(*draws)


def test_without_a_profile_all_hours_are_alike():
    rate = weekly_rate(864.0, None, 0.0, 2 * DAY_S)
    assert np.allclose(rate.left, 0.01)


def test_a_level_below_zero_is_refused():
    falling = {"interpolation": "linear", "points": [{"at_s": 0, "value": 10}, {"at_s": DAY_S, "value": -10}]}
    with pytest.raises(ValueError, match="per_day falls to -10"):
        expected_arrivals(weekly(per_day=falling), 0.0, DAY_S)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"day_weights": [0] * 7}, "day_weights are all 0"),
        ({"day_weights": [1] * 6}, "at least 7 items"),
        ({"days_off": [7]}, "less than 7"),
        ({"workday_hour_weights": [-1] * 24}, "greater than or equal to 0"),
        ({"hours": 3}, "unknown key 'hours'"),
    ],
)
def test_a_wrong_profile_is_told(wrong, message):
    with pytest.raises(InputError, match=message):
        parse(HourOfWeek, WEEK | wrong, "week")
