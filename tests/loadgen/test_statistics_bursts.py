"""Bursts by the hour and by the minute are found where they were planted, with their length and size."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from loadgen.statistics.bursts import Bursts, find_bursts


def find(counts: NDArray[np.integer], bin_s: float) -> Bursts:
    """Bursts of so many requests in each bin, at even steps."""
    arrival_s = [(place + np.arange(n) / n) * bin_s for place, n in enumerate(counts.tolist()) if n]
    return find_bursts(np.concatenate([np.empty(0), *arrival_s]), len(counts) * bin_s)


def test_hourly_bursts_begin_with_a_jump_above_the_mean_and_end_below_it() -> None:
    #                  0   1    2    3   4   5  6   7    8   9
    hours = np.array([10, 10, 100, 90, 10, 10, 0, 60, 150, 10])
    found = find(hours, 3600.0)
    assert found.by_hour is not None
    assert found.by_hour.threshold_requests == 45.0
    assert (found.by_hour.onsets, found.by_hour.onsets_above_5x) == (3, 2)
    bursts = [(b.start_s / 3600, b.length_s / 3600, b.requests, b.growth) for b in found.by_hour.largest]
    assert bursts == [(2, 2, 190, 10.0), (7, 1, 60, None), (8, 1, 150, 2.5)]
    assert found.by_hour.onset_s == pytest.approx([7200.0, 25200.0, 28800.0])
    assert found.by_hour.lengths_s == pytest.approx([7200.0, 3600.0, 3600.0])
    assert found.by_hour.length_s is not None
    assert found.by_hour.length_s.high == 7200.0
    assert found.by_hour.requests_fraction == pytest.approx(400 / 450)
    assert found.by_hour.per_day == pytest.approx(3 * 24 / 10)
    assert found.peak_to_mean == pytest.approx(150 / 45)
    assert found.silent_hours_fraction == pytest.approx(0.1)
    assert found.busiest_hours_fraction is None, "too few hours"


def test_a_jump_that_stays_below_the_mean_is_no_burst() -> None:
    found = find(np.array([10, 30, 10, 100, 100, 100]), 3600.0)
    assert found.by_hour is not None
    assert [burst.start_s for burst in found.by_hour.largest] == [3 * 3600.0]


def test_a_burst_of_minutes_is_found_once_with_its_length() -> None:
    minutes = np.random.default_rng(0).poisson(6, 24 * 60)
    minutes[500:530] = 60
    minutes[900:903] = [40, 80, 35]  # jumps again while it is up: the same burst
    found = find(minutes, 60.0).by_minute
    assert found is not None
    assert found.onsets == 2
    assert [(burst.start_s / 60, burst.length_s / 60) for burst in found.largest] == [(500, 30), (900, 3)]
    assert found.largest[0].requests == 1800
    level = minutes[490:500].mean()
    assert found.largest[0].growth == pytest.approx(60 / level)
    assert found.requests_fraction == pytest.approx((1800 + 155) / minutes.sum())


def test_a_poisson_stream_has_no_bursts_of_minutes() -> None:
    for rate in (0.3, 3, 30):
        found = find(np.random.default_rng(2).poisson(rate, 24 * 60 * 7), 60.0).by_minute
        assert found is not None
        assert found.onsets <= 3, "10,080 minutes, and one in 10,000 by chance"


def test_all_bursts_count_and_the_twenty_largest_are_listed_in_order_of_time() -> None:
    hours = np.tile([1, 50], 40)
    hours[1::2] += np.arange(40)
    found = find(hours, 3600.0).by_hour
    assert found is not None
    assert found.onsets == 40
    assert [burst.requests for burst in found.largest] == list(range(70, 90))


def test_the_busiest_hours_hold_their_share() -> None:
    hours = np.ones(100, dtype=int)
    hours[[3, 30, 50, 70, 90]] = 19
    assert find(hours, 3600.0).busiest_hours_fraction == pytest.approx(0.5)


def test_short_or_empty_recordings_have_no_hours() -> None:
    for counts in (np.array([3]), np.zeros(5, dtype=int)):
        found = find(counts, 60.0)
        assert (found.by_hour, found.by_minute, found.peak_to_mean, found.silent_hours_fraction) == (None,) * 4
    silent = find(np.zeros(30, dtype=int), 3600.0)
    assert silent.by_hour is not None
    assert (silent.by_hour.onsets, silent.silent_hours_fraction, silent.busiest_hours_fraction) == (0, 1.0, None)


def test_burstgpts_hours_are_as_its_counts_say(data_folder: Path) -> None:
    hourly = pd.read_csv(data_folder / "traces/burstgpt/burstgpt1_hourly_days00-39.csv")
    found = find(hourly["all"].to_numpy(), 3600.0)
    assert found.hours == 960
    assert found.by_hour is not None
    rows = hourly["all"].tolist()
    mean = sum(rows) / 960
    onsets = [now for before, now in itertools.pairwise(rows) if now > 2 * before and now > mean]
    assert found.by_hour.onsets == len(onsets) == 62
    assert found.busiest_hours_fraction == pytest.approx(sum(sorted(rows)[-48:]) / sum(rows))
    assert found.busiest_hours_fraction == pytest.approx(0.517, abs=0.001)
    api = find(hourly["api"].to_numpy(), 3600.0)
    assert api.silent_hours_fraction == pytest.approx(0.497, abs=0.001)
    assert api.peak_to_mean == pytest.approx(40.9, abs=0.1)
