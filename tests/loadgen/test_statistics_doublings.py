"""Doublings are counted per workday, and weekends are told by the traffic."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loadgen.statistics.doublings import Doublings, count_doublings, find_workdays

DAY_S = 86_400.0


def arrivals(counts: NDArray[np.integer], bin_s: float) -> NDArray[np.float64]:
    """So many requests in each bin, at even steps."""
    return np.concatenate([(place + np.arange(n) / n) * bin_s for place, n in enumerate(counts.tolist()) if n])


def count(counts: NDArray[np.integer], bin_s: float = 300.0) -> Doublings:
    arrival_s, duration_s = arrivals(counts, bin_s), len(counts) * bin_s
    return count_doublings(arrival_s, duration_s, find_workdays(arrival_s, duration_s))


def test_seven_doublings_a_day_are_seven() -> None:
    day = np.full(288, 10)
    day[[5, 40, 80, 81, 120, 160, 200, 287]] = 20  # 81 stays where 80 went
    found = count(np.tile(day, 3))
    assert (found.workdays, found.weekend_known) == (3, False)
    assert found.within_5_min.doublings == 21
    assert found.within_5_min.per_workday == 7.0
    assert found.within_5_min.pairs == 3 * 288 - 1
    # Ten minutes hold 20 or, with a doubling, 30; or 40 where two follow each other.
    assert found.within_10_min.doublings == 3
    assert found.within_10_min.per_workday == 1.0


def test_doublings_are_beyond_chance_when_so_many_requests_would_not_fall_so() -> None:
    small = count(np.array([1, 2, 1, 2, 1, 2]))
    assert (small.within_5_min.doublings, small.within_5_min.beyond_chance) == (3, 0)
    large = count(np.array([50, 100, 50, 100, 50, 100]))
    assert (large.within_5_min.doublings, large.within_5_min.beyond_chance) == (3, 3)
    assert large.within_5_min.per_workday is None, "no complete day"


def test_rising_from_nothing_is_no_doubling() -> None:
    assert count(np.array([0, 5, 0, 0, 9, 18])).within_5_min.doublings == 1


def test_a_steady_poisson_stream_has_hardly_a_doubling_beyond_chance() -> None:
    found = count(np.random.default_rng(1).poisson(8, 288 * 50)).within_5_min
    assert found.doublings > 1000, "small counts double by chance all the time"
    assert found.beyond_chance <= 14, "fewer than one of 1000 pairs"


def test_the_weekend_is_the_two_quietest_neighbours_of_the_week() -> None:
    week = np.array([80, 70, 75, 20, 30, 78, 60])
    daily = np.tile(week, 3)
    daily[8] = 0  # a holiday moves nothing
    arrival_s = arrivals(daily, DAY_S)
    found = find_workdays(arrival_s, 21 * DAY_S)
    assert found.weekend_known
    assert np.flatnonzero(~found.is_workday).tolist() == [3, 4, 10, 11, 17, 18]
    around = find_workdays(arrivals(np.tile([1, 9, 9, 9, 9, 9, 2], 2), DAY_S), 14 * DAY_S)
    assert np.flatnonzero(~around.is_workday).tolist() == [0, 6, 7, 13], "the last day of the week is next to the first"


def test_doublings_at_the_weekend_do_not_count_for_a_workday() -> None:
    day, weekend = np.full(288, 10), np.full(288, 2)
    day[100] = 40
    weekend[10:250:2] = 4
    found = count(np.tile(np.concatenate([np.tile(day, 5), np.tile(weekend, 2)]), 2))
    assert found.weekend_known
    assert found.workdays == 10
    assert found.within_5_min.doublings == 10 + 4 * 120 + 1
    assert found.within_5_min.per_workday == pytest.approx(1.0 + 1 / 10), "and one from the weekend to the next day"
