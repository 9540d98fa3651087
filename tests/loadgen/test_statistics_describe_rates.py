"""A rate series is described by what its counts tell, and by no more."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.rate_series import RateSeries, read_rate_series
from loadgen.statistics.describe_rates import describe_rates

TRACES = Path(__file__).parents[2] / "../shared/data/traces"


def described(series: RateSeries) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(describe_rates(series).json_text())
    return found


def test_all_is_the_sum_of_the_labels_where_the_series_does_not_say_it() -> None:
    counts = np.array([[10.0, 0.0, 20.0, np.nan], [1.0, 0.0, np.nan, np.nan]])
    found = described(RateSeries("two", 600.0, ("conversation", "api"), counts))
    assert found["requests"] == 31
    assert found["duration_s"] == 2400.0
    assert found["missing_bins"] == 1, "a bin is known where one of them is"
    assert found["mean_rate_per_s"] == pytest.approx(31 / 3 / 600)
    assert found["peak_rate_per_s"] == pytest.approx(20 / 600)
    assert found["peak_to_mean"] == pytest.approx(20 * 3 / 31)
    assert found["silent_bins_fraction"] == pytest.approx(1 / 3)
    assert [found[key] for key in ("prompt_tokens", "output_tokens", "failures", "periodicity")] == [None] * 4
    assert {label: part["requests"] for label, part in found["services"].items()} == {"conversation": 30, "api": 1}


def test_the_label_all_is_not_counted_twice_and_clients_are_no_services() -> None:
    counts = np.array([[1.0, 2.0], [3.0, 4.0], [40.0, 60.0]])
    found = described(RateSeries("three", 3600.0, ("c1", "c2", "all"), counts))
    assert found["requests"] == 100
    assert {label: part["requests"] for label, part in found["labels"].items()} == {"c1": 3, "c2": 7}


def test_a_planted_day_is_found_in_bins_of_ten_minutes() -> None:
    hours = 50 + 40 * np.sin(2 * np.pi * np.arange(24 * 21) / 24)
    found = described(RateSeries("days", 600.0, ("all",), np.repeat(hours / 6, 6)[None, :]))
    assert found["periodicity"]["hours"] == 24 * 21
    assert found["periodicity"]["at_24_h"] == pytest.approx(1.0)
    assert found["periodicity"]["daily_fraction"] == pytest.approx(1.0)


@pytest.mark.parametrize("requests", [[0.0], [0.0] * 30, [np.nan], [np.nan] * 30])
def test_a_series_without_requests_has_no_peak(requests: list[float]) -> None:
    found = described(RateSeries("none", 60.0, ("all",), np.array([requests])))
    assert (found["requests"], found["peak_to_mean"], found["busiest_bins_fraction"]) == (0, None, None)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not beside this checkout")
def test_the_real_hours_add_up() -> None:
    path = TRACES / "burstgpt/burstgpt1_hourly_days00-39.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    found = described(read_rate_series(path))
    for part, label in ((found, "all"), *((found["services"][name], name) for name in ("conversation", "api"))):
        assert part["requests"] == sum(int(row[label]) for row in rows)
    hours = sorted(int(row["all"]) for row in rows)
    assert found["busiest_bins_fraction"] == pytest.approx(sum(hours[-48:]) / sum(hours))  # 5 % of 960
