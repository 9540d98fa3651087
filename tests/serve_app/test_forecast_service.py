"""Arrivals in the monitor's bins become forecasts in the forecaster's bins."""

import numpy as np
import pytest

from autoscaler.interface import ArrivalHistory
from serve_app.config import ForecasterSettings
from serve_app.forecast_service import ServiceForecasts

SETTINGS = ForecasterSettings(name="last-value", bin_s=5.0, horizon_s=12.0, levels=(0.5, 0.9))


def arrivals(start_s: float, bins: int, per_bin: float = 2.0) -> dict[str, ArrivalHistory]:
    """Bins of 1 s, the API at a fifth of the conversation's rate."""
    return {
        "conversation": ArrivalHistory(start_s, 1.0, np.full(bins, per_bin)),
        "api": ArrivalHistory(start_s, 1.0, np.full(bins, per_bin / 5)),
    }


def test_bins_are_summed_from_the_first_whole_one_on() -> None:
    """Bins of 1 s from 103 s on: the first bin of 5 s begins at 105 s; the horizon of 12 s takes three."""
    forecasts = ServiceForecasts(SETTINGS)
    assert not forecasts.observe(arrivals(103.0, 6))
    assert forecasts.next_bin_s == 105.0
    assert forecasts.observe(arrivals(105.0, 11))
    assert forecasts.next_bin_s == 115.0
    made = forecasts.forecast()
    assert {service: forecast.issued_at_s for service, forecast in made.items()} == {"conversation": 115, "api": 115}
    assert made["conversation"].values.shape == (2, 3)
    assert made["conversation"].values[0, 0] == pytest.approx(10.0, rel=0.2)
    assert made["api"].values[0, 0] == pytest.approx(2.0, rel=0.5)


def test_bins_that_were_observed_are_not_observed_again() -> None:
    """The history may begin before the next bin."""
    forecasts = ServiceForecasts(SETTINGS)
    forecasts.observe(arrivals(100.0, 5))
    assert not forecasts.observe(arrivals(100.0, 9))
    assert forecasts.observe(arrivals(100.0, 10))
    assert forecasts.next_bin_s == 110.0


def test_after_a_gap_the_forecasters_start_anew() -> None:
    """Nobody knows what came in while no ingress counted."""
    forecasts = ServiceForecasts(SETTINGS)
    forecasts.observe(arrivals(100.0, 50))
    assert not forecasts.observe(arrivals(163.0, 4))
    assert forecasts.next_bin_s == 165.0
    assert forecasts.observe(arrivals(165.0, 5))
    assert forecasts.forecast()["conversation"].issued_at_s == 170.0


def test_without_arrivals_there_is_nothing_to_forecast() -> None:
    """The monitor has no complete bin yet."""
    forecasts = ServiceForecasts(SETTINGS)
    assert not forecasts.observe({})
    assert forecasts.forecast() == {}
