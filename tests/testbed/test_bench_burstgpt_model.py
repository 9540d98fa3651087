"""Measures of hourly traffic against counts worked out by hand, and the model against the real hours."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.trace import Service, make_trace
from testbed.bench_burstgpt_model import bench_burstgpt_model, conclusion, read_hourly_counts
from testbed.hourly_measures import (
    MEASURES,
    HourlyTraffic,
    autocorrelation,
    busiest_hours_fraction,
    day_cv,
    fano,
    hourly_traffic,
    longest_run_hours,
    onsets,
    scripted_hours,
    week_profile,
)

HOURS = Path(__file__).parents[2].parent / "shared/data/traces/burstgpt/burstgpt1_hourly_days00-39.csv"


def no_report(done, total, what):
    pass


def array(*values):
    return np.array(values, dtype=float)


def test_hours_are_counted_by_service_and_the_rest_of_the_last_day_is_left_out():
    trace = make_trace(
        "t",
        [10.0, 3599.0, 3600.0, 86_399.0, 86_400.0],
        [1] * 5,
        [1] * 5,
        duration_s=90_000.0,
        service=[Service.API, Service.CONVERSATION, Service.API, Service.API, Service.API],
    )
    hours = hourly_traffic(trace)
    assert hours.api.tolist() == [1, 1, *[0] * 21, 1]
    assert hours.conversation.tolist() == [1, *[0] * 23]
    assert hours.all.sum() == 4
    assert len(hours.days(0, 1).api) == 24


def test_measures_of_small_series():
    assert busiest_hours_fraction(array(*[1] * 19, 81)) == 0.81  # one of 20 hours
    assert onsets(array(0, 1001, 2002, 2003, 500, 1001, 900, 2000), 2) == 3
    assert onsets(array(0, 1001, 2002, 2003, 500, 1001, 900, 2000), 5) == 1
    assert week_profile(np.tile(np.arange(168.0), 3)).tolist() == list(range(168))
    assert autocorrelation(array(1, 2, 1, 2, 1, 2, 1), 2) == pytest.approx(1)
    assert autocorrelation(array(1, 2, 1, 2, 1, 2, 1), 1) == pytest.approx(-1)
    assert fano(array(1, 1, 3, 3), 2) == 1.0  # bins of 2 and 6: variance 4, mean 4
    assert longest_run_hours(array(0, 1, 1, 0, 1, 1, 1) > 0) == 3
    assert longest_run_hours(array(0, 0) > 0) == 0
    assert day_cv(np.repeat(array(1, 3), 24)) == 0.5
    assert scripted_hours(array(0, 1366, 4098, 2050, 2000)) == 3


def test_measures_have_names_of_their_own():
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)


@pytest.fixture(scope="module")
def comparisons():
    if not HOURS.exists():
        pytest.skip(f"{HOURS} is absent")
    return bench_burstgpt_model(HOURS, 20, False, no_report)


def test_20_draws_bracket_the_real_days(comparisons):
    real_days, _ = comparisons
    targets = [row for row in real_days.rows if row.is_target]
    assert {row.name for row in targets} == {
        "busiest_hours_fraction",
        "peak_to_mean",
        "api_silent_fraction",
        "onsets_above_2x",
    }
    for row in targets:
        assert row.low <= row.real <= row.high, row
    assert min(real_days.profile_correlations) > 0.9
    assert len(real_days.profile_correlations) == 20
    assert real_days.targets_met


def test_the_ranges_say_something(comparisons):
    widths = {row.name: (row.high - row.low) / row.real for row in comparisons[0].rows if row.is_target}
    assert widths["busiest_hours_fraction"] < 0.5
    assert widths["api_silent_fraction"] < 0.35
    assert widths["onsets_above_2x"] < 0.6
    assert widths["peak_to_mean"] < 1.0


def test_the_real_values_are_those_of_the_file(comparisons):
    real = {row.name: row.real for row in comparisons[0].rows}
    assert real["requests"] == 889_920
    assert real["onsets_above_2x"] == 60
    assert real["api_silent_fraction"] == pytest.approx(477 / 960)
    assert real["peak_to_mean"] == pytest.approx(33_345 / 927, rel=0.001)


def test_what_is_found_can_be_read_by_a_machine_and_by_a_person(comparisons):
    text = json.dumps({comparison.title: comparison.as_json() for comparison in comparisons}, allow_nan=False)
    assert json.loads(text)["days 0-39"]["rows"]["requests"]["real"] == 889_920
    assert conclusion(comparisons, 20).startswith("days 0-39: ")


def test_without_counts_the_published_totals_are_compared():
    (published,) = bench_burstgpt_model(None, 2, False, no_report)
    assert {row.name for row in published.rows} >= {"requests", "onsets_above_2x", "api_silent_fraction"}
    assert all(np.isfinite(row.real) for row in published.rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("day,hour,conversation,api\n0,0,1,1\n0,1,1,1\n", "over at least a week"),
        ("day,hour,conversation\n0,0,1\n0,1,1\n", "has no 'api'"),
        ("t_seconds,a,b\n0,1,1\n600,1,1\n", "has no 'conversation'"),
    ],
)
def test_counts_that_cannot_be_used_are_told(tmp_path, text, message):
    path = tmp_path / "counts.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_hourly_counts(path)


def test_a_hold_out_wants_counts():
    with pytest.raises(InputError, match="give --counts"):
        bench_burstgpt_model(None, 2, True, no_report)


def test_days_are_cut_at_midnights():
    hours = HourlyTraffic(np.arange(72.0), np.arange(72.0))
    assert hours.days(1, 2).conversation.tolist() == list(range(24, 48))
