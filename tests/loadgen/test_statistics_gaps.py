"""Gamma fits per window find what was drawn, say how well they fit, and see drift where there is some."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loadgen.gamma_fit import time_resolution_s
from loadgen.statistics.gaps import FIT_WINDOW_S, WindowFits, describe_gaps

Floats = NDArray[np.float64]


def stream(alphas: list[float], rate_per_s: float, seed: int = 0, tick_s: float = 0.0) -> Floats:
    """Gamma gaps of one alpha in each window of 20 minutes; times rounded down to the tick."""
    rng = np.random.default_rng(seed)
    count = int(2 * rate_per_s * FIT_WINDOW_S) + 200
    arrival_s = []
    for window, alpha in enumerate(alphas):
        times_s = np.cumsum(rng.gamma(alpha, 1 / (alpha * rate_per_s), count))
        arrival_s.append(window * FIT_WINDOW_S + times_s[times_s < FIT_WINDOW_S])
    together = np.concatenate(arrival_s)
    return np.floor(together / tick_s) * tick_s if tick_s else together


def fits_of(arrival_s: Floats) -> WindowFits:
    found = describe_gaps(arrival_s, time_resolution_s(arrival_s))
    assert found is not None
    assert found.by_window is not None
    return found.by_window


def test_each_window_has_its_own_alpha_and_beta() -> None:
    fits = fits_of(stream([0.25, 1.0, 4.0], rate_per_s=20.0))
    assert (fits.windows, fits.hidden_windows) == (3, 0)
    assert fits.series.start_s.tolist() == [0.0, 1200.0, 2400.0]
    assert fits.series.alpha == pytest.approx([0.25, 1.0, 4.0], rel=0.05)
    assert fits.series.beta_s == pytest.approx([1 / 5, 1 / 20, 1 / 80], rel=0.1)
    assert fits.series.cv == pytest.approx([2.0, 1.0, 0.5], rel=0.05)
    assert (fits.alpha.low, fits.alpha.median, fits.alpha.high) == tuple(sorted(fits.series.alpha))
    assert fits.drift is not None
    assert fits.drift.pairs == 2
    assert fits.drift.median_absolute_log_change == pytest.approx(np.log(4), abs=0.1)


def test_sparse_and_hidden_windows_have_no_fit_and_break_the_drift() -> None:
    arrival_s = np.concatenate([stream([1.0], 1.0), 1200 + np.arange(20.0) * 30, 2400 + stream([1.0], 1.0)])
    fits = fits_of(arrival_s)
    assert fits.series.start_s.tolist() == [0.0, 2400.0]
    assert fits.drift is None
    crowded = np.sort(np.concatenate([stream([1.0, 1.0], 1.0, tick_s=1.0), np.floor(stream([1.0], 20.0))]))
    fits = fits_of(crowded)
    assert (fits.windows, fits.hidden_windows) == (1, 1)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("rate_per_s", "tick_s"), [(0.3, 0.0), (0.3, 1.0), (1.0, 1.0), (0.1, 1.0)])
def test_the_ks_test_lets_gamma_windows_pass_at_its_level(alpha: float, rate_per_s: float, tick_s: float) -> None:
    fits = fits_of(stream([alpha] * 500, rate_per_s, seed=7, tick_s=tick_s))
    assert fits.windows > 400
    # 4 standard deviations of 500 windows around 95 %.
    assert fits.not_rejected_fraction == pytest.approx(0.95, abs=0.04)
    assert fits.quantiles.correlation == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("tick_s", [0.0, 1.0])
def test_the_ks_test_rejects_gaps_that_are_not_gamma(tick_s: float) -> None:
    rng = np.random.default_rng(3)
    arrival_s = []
    for window in range(40):
        gaps_s = np.where(rng.random(400) < 0.5, rng.uniform(1, 2, 400), rng.uniform(8, 9, 400))
        times_s = window * FIT_WINDOW_S + np.cumsum(gaps_s)
        arrival_s.append(times_s[times_s < (window + 1) * FIT_WINDOW_S])
    together = np.concatenate(arrival_s)
    fits = fits_of(np.floor(together) if tick_s else together)
    assert fits.not_rejected_fraction < 0.05
    assert fits.quantiles.correlation is not None
    assert fits.quantiles.correlation < 0.99


def test_an_alpha_that_stands_still_drifts_as_chance_has_it() -> None:
    still = fits_of(stream([0.5] * 300, 0.4, seed=1)).drift
    assert still is not None
    assert still.pairs == 299
    assert still.median_absolute_log_change == pytest.approx(still.by_chance, rel=0.15)
    moving = fits_of(stream([0.5, 1.0] * 150, 0.4, seed=1)).drift
    assert moving is not None
    assert moving.median_absolute_log_change > 3 * moving.by_chance


def test_quantiles_are_those_of_the_gaps_and_of_the_model() -> None:
    arrival_s = stream([1.0] * 30, rate_per_s=2.0, seed=2)
    found = describe_gaps(arrival_s, 0.0)
    assert found is not None
    assert found.quantiles is not None
    assert found.quantiles.levels[[0, 49, -1]].tolist() == [0.01, 0.5, 0.999]
    assert found.quantiles.observed_s[49] == pytest.approx(np.median(np.diff(arrival_s)), rel=0.01)
    exponential_s = -np.log1p(-found.quantiles.levels) / 2.0
    assert found.quantiles.model_s == pytest.approx(exponential_s, rel=0.05)


def test_one_gamma_does_not_fit_windows_of_different_rates_and_the_mixture_does() -> None:
    arrival_s = np.concatenate([w * FIT_WINDOW_S + stream([1.0], 10.0 ** (w % 3 - 1), seed=w) for w in range(30)])
    found = describe_gaps(arrival_s, 0.0)
    assert found is not None
    assert found.quantiles is not None
    assert found.by_window is not None
    assert found.by_window.quantiles.correlation is not None
    assert found.by_window.quantiles.correlation > 0.99
    mixture, one = found.by_window.quantiles, found.quantiles
    upper = slice(50, 99)
    errors = [np.abs(np.log(pair.model_s[upper] / pair.observed_s[upper])).max() for pair in (mixture, one)]
    assert errors[0] < 0.2 < errors[1]


def test_quantiles_of_rounded_times_are_whole_ticks() -> None:
    fits = fits_of(stream([0.5] * 20, 0.3, tick_s=1.0))
    for seconds in (fits.quantiles.model_s, fits.quantiles.observed_s):
        assert np.all(seconds == np.rint(seconds))
    assert fits.quantiles.model_s[0] == 0.0
    assert np.abs(fits.quantiles.model_s - fits.quantiles.observed_s)[:90].max() <= 1.0


def test_two_requests_and_one_instant_have_no_gaps_to_speak_of() -> None:
    assert describe_gaps(np.array([1.0, 2.0]), 0.0) is None
    assert describe_gaps(np.array([]), 0.0) is None
    assert describe_gaps(np.full(50, 3.0), 0.0) is None
    found = describe_gaps(np.array([1.0, 2.0, 4.0]), 1.0)
    assert found is not None
    assert found.by_window is None
