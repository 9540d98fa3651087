"""The Fano factor is 1 for Poisson arrivals at every scale, 0 for a clock, and grows where the rate moves."""

import numpy as np
import pytest

from loadgen.statistics.dispersion import measure_dispersion


def test_poisson_arrivals_have_a_fano_factor_of_1_at_every_scale() -> None:
    duration_s = 30 * 86_400.0
    arrival_s = np.sort(np.random.default_rng(0).uniform(0, duration_s, 500_000))
    found = measure_dispersion(arrival_s, duration_s, 0.0)
    assert found.window_s[[0, -1]].tolist() == [1.0, 86_400.0]
    for window_s, fano in zip(found.window_s, found.fano, strict=True):
        assert fano == pytest.approx(1.0, abs=4.5 * np.sqrt(2 / (duration_s / window_s))), window_s


def test_it_is_the_variance_by_the_mean_of_the_complete_windows() -> None:
    rng = np.random.default_rng(1)
    duration_s = 1234.5
    arrival_s = np.sort(rng.uniform(0, duration_s, 700) ** 2 / duration_s)
    found = measure_dispersion(arrival_s, duration_s, 0.0)
    assert found.window_s.tolist() == [1, 2, 5, 10, 30, 60, 120]
    for window_s, fano in zip(found.window_s, found.fano, strict=True):
        counts, _ = np.histogram(arrival_s, np.arange(int(duration_s // window_s) + 1) * window_s)
        assert fano == pytest.approx(counts.var(ddof=1) / counts.mean())


def test_a_clock_has_none() -> None:
    found = measure_dispersion(np.arange(0, 3600.0, 0.5), 3600.0, 0.0)
    assert found.fano.tolist() == [0.0] * len(found.fano)


def test_windows_below_the_tick_are_left_out_and_silence_has_no_factor() -> None:
    found = measure_dispersion(np.array([3595.0]), 3600.0, 5.0)
    assert found.window_s.tolist() == [5, 10, 30, 60, 120, 300]
    late = measure_dispersion(np.array([3595.0]), 3599.0, 0.0)
    assert np.isnan(late.fano[late.window_s == 300.0]).all(), "it lies after the last complete window"
    assert measure_dispersion(np.array([0.5]), 5.0, 0.0).window_s.tolist() == []
