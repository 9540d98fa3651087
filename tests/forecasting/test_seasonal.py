"""Seasonal knows the time of day; before the first day is over it is last value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.backtest import backtest
from forecasting.registry import make_forecaster

LEVELS = (0.1, 0.5, 0.9)


def made(name, **params):
    return make_forecaster(name, bin_s=60.0, levels=LEVELS, **params)


@given(st.lists(st.integers(0, 100), max_size=23), st.integers(1, 30))
def test_before_the_first_season_is_over_it_equals_last_value(counts, window_bins):
    seasonal = made("seasonal", season_bins=24, window_bins=window_bins)
    last_value = made("last-value", window_bins=window_bins)
    for forecaster in (seasonal, last_value):
        forecaster.observe(np.array(counts, dtype=np.float64))
    assert seasonal.forecast(30).values.tolist() == last_value.forecast(30).values.tolist()


def day_and_night(days, rng, season_bins=48, mean=60.0):
    phase = 2 * np.pi * np.arange(days * season_bins) / season_bins
    return rng.poisson(mean * (1 + 0.9 * np.sin(phase))).astype(np.float64)


def test_it_beats_last_value_on_a_seasonal_series_at_every_lead():
    series = day_and_night(12, np.random.default_rng(2))
    results = {
        name: backtest(
            series, lambda name=name, params=params: made(name, **params), horizon_bins=6, warm_up_bins=48 * 6
        )
        for name, params in (("seasonal", {"season_bins": 48, "smoothing_fraction": 0.0}), ("last-value", {}))
    }
    for ours, theirs in zip(results["seasonal"].rows(), results["last-value"].rows(), strict=True):
        assert ours.pinball < 0.75 * theirs.pinball, f"lead {ours.lead_bins}, level {ours.level}"


def test_an_exact_season_is_forecast_exactly():
    season = np.array([0.0, 3.0, 10.0, 40.0, 12.0, 5.0])
    forecaster = made("seasonal", season_bins=6, smoothing_fraction=0.0, residual_bins=20)
    forecaster.observe(np.tile(season, 10))
    assert forecaster.forecast(12).values == pytest.approx(np.tile(season, (3, 2)), abs=1e-9)


def test_a_busier_day_lifts_the_whole_profile_and_scaling_can_be_turned_off():
    season = np.array([2.0, 10.0, 40.0, 100.0, 40.0, 10.0])
    history = np.concatenate([np.tile(season, 10), 3 * season[:3]])
    points = {}
    for scale_by_level in (True, False):
        forecaster = made(
            "seasonal", season_bins=6, window_bins=3, smoothing_fraction=0.0, scale_by_level=scale_by_level
        )
        forecaster.observe(history)
        points[scale_by_level] = forecaster._points(1)[0]
    assert 250 < points[True] <= 300
    assert points[False] == pytest.approx(100.0)


def test_traffic_at_an_hour_that_is_always_empty_is_neither_ignored_nor_blown_up():
    season = np.array([0.0] * 6 + [50.0] * 6)
    forecaster = made("seasonal", season_bins=12, window_bins=2, smoothing_fraction=0.0)
    forecaster.observe(np.concatenate([np.tile(season, 8), [5.0, 5.0]]))
    point = forecaster._points(1)[0]
    assert point == pytest.approx(5.0)


def test_the_profile_forgets_old_seasons_by_their_weight():
    forecaster = made("seasonal", season_bins=2, scale_by_level=False, season_weight=0.5, smoothing_fraction=0.0)
    forecaster.observe(np.array([10.0, 20.0, 30.0, 20.0, 50.0, 20.0]))
    # Phase 0: 10; the mean of 10 and 30; then half of 20 and half of 50.
    assert forecaster._points(2) == pytest.approx([35.0, 20.0])


def test_smoothing_is_the_mean_over_neighbouring_phases_also_across_the_end_of_a_season():
    forecaster = made("seasonal", season_bins=8, scale_by_level=False, smoothing_fraction=0.125)
    season = np.array([9.0, 0.0, 0.0, 3.0, 0.0, 0.0, 6.0, 0.0])
    forecaster.observe(season)
    expected = [(season[i - 1] + season[i] + season[(i + 1) % 8]) / 3 for i in range(8)]
    assert forecaster._points(8) == pytest.approx(expected)
    forecaster.observe(np.tile(season, 5))
    assert forecaster._points(8) == pytest.approx(expected)


def test_a_service_without_any_traffic_is_forecast_as_empty():
    forecaster = made("seasonal", season_bins=6)
    forecaster.observe(np.zeros(60))
    assert forecaster.forecast(5).values.tolist() == np.zeros((3, 5)).tolist()
