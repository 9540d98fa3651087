"""Days and hours with far too many failures are found, and only they."""

import numpy as np
import pytest

from loadgen.statistics.failures import Failures, find_failure_outliers

DAY_S, HOUR_S = 86_400.0, 3600.0


def outliers(seed: int = 0, days: int = 40, per_day: int = 3000, rate: float = 0.02, **bad: float) -> Failures:
    """Steady traffic with a failure rate; `bad` gives another rate to the days 'd7' or the hours 'h30'."""
    rng = np.random.default_rng(seed)
    arrival_s = np.sort(rng.uniform(0, days * DAY_S, days * per_day))
    rates = np.full(len(arrival_s), rate)
    for name, other in bad.items():
        period_s = DAY_S if name[0] == "d" else HOUR_S
        rates[(arrival_s / period_s).astype(int) == int(name[1:])] = other
    return find_failure_outliers(arrival_s, rng.random(len(arrival_s)) < rates)


def test_a_planted_day_is_found_and_only_it() -> None:
    for seed in range(10):
        found = outliers(seed, d17=0.2).by_day
        assert found is not None
        assert [period.start_s for period in found.worst] == [17 * DAY_S]
        assert found.outliers == 1
        assert found.periods == 40
        assert found.worst[0].failed_fraction == pytest.approx(0.2, abs=0.03)
        assert found.worst[0].failures == round(found.worst[0].failed_fraction * found.worst[0].requests)
        assert found.usual_fraction == pytest.approx(0.02, abs=0.002), "without that day"
        assert found.worst[0].expected_failures == pytest.approx(0.02 * 3000, rel=0.15)


def test_a_planted_hour_is_found_and_only_it() -> None:
    found = outliers(h321=0.5).by_hour
    assert found is not None
    assert [period.start_s for period in found.worst] == [321 * HOUR_S]
    assert found.outliers == 1


def test_one_outlier_does_not_hide_another() -> None:
    found = outliers(d3=1.0, d20=0.06).by_day
    assert found is not None
    assert [period.start_s / DAY_S for period in found.worst] == [3, 20]


def test_steady_failures_have_no_outlier_in_nearly_all_recordings() -> None:
    found = [outliers(seed, days=20, per_day=500, rate=0.05) for seed in range(40)]
    assert sum(f.by_day.outliers > 0 for f in found if f.by_day) <= 2
    assert sum(f.by_hour.outliers > 0 for f in found if f.by_hour) <= 3


def test_a_rate_that_is_significant_but_hardly_higher_is_no_outlier() -> None:
    found = outliers(per_day=50_000, days=5, d2=0.03).by_day
    assert found is not None
    assert found.outliers == 0


def test_no_failure_all_failures_and_one_period() -> None:
    times = np.arange(0, 3 * DAY_S, 600.0)
    for is_failure in (np.zeros(len(times), dtype=bool), np.ones(len(times), dtype=bool)):
        found = find_failure_outliers(times, is_failure)
        assert found.by_day is not None
        assert (found.by_day.outliers, found.by_day.usual_fraction) == (0, float(is_failure[0]))
    assert find_failure_outliers(np.array([5.0]), np.array([True])).by_hour is None
    assert find_failure_outliers(np.empty(0), np.empty(0, dtype=bool)).by_day is None


def test_the_worst_twenty_are_listed_and_all_are_counted() -> None:
    found = outliers(days=60, **{f"d{day}": 0.05 + 0.01 * day for day in range(30)}).by_day
    assert found is not None
    assert found.outliers == 30
    assert [period.start_s / DAY_S for period in found.worst] == list(range(10, 30))
