"""Fits find the parameters again that the data was drawn with, also from rounded times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadgen.gamma_fit import fit_gamma, fit_gammas, time_resolution_s


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 3.0, 20.0])
def test_the_fit_agrees_with_the_reference_and_with_the_truth(alpha: float) -> None:
    gaps_s = np.random.default_rng(0).gamma(alpha, 2.0, 100_000)
    gaps_s = gaps_s[gaps_s > 0]
    fit = fit_gamma(gaps_s)
    assert fit is not None
    reference, _, scale = stats.gamma.fit(gaps_s, floc=0)
    assert fit.alpha == pytest.approx(reference, rel=1e-4)
    assert fit.beta_s == pytest.approx(scale, rel=1e-4)
    assert fit.alpha == pytest.approx(alpha, rel=0.02)


@pytest.mark.parametrize("mean_s", [0.3, 2.0, 30.0])
@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5, 1.0, 3.0])
def test_whole_seconds_do_not_hide_the_shape(alpha: float, mean_s: float) -> None:
    arrival_s = np.floor(np.cumsum(np.random.default_rng(1).gamma(alpha, mean_s / alpha, 100_000)))
    gaps_s = np.diff(arrival_s)
    assert np.count_nonzero(gaps_s == 0) > 0 or alpha >= 1
    assert time_resolution_s(arrival_s) == 1.0
    fit = fit_gamma(gaps_s, 1.0)
    assert fit is not None
    assert fit.alpha == pytest.approx(alpha, rel=0.1 if mean_s < 1 else 0.04)
    assert fit.alpha * fit.beta_s == pytest.approx(mean_s, rel=0.05)


@pytest.mark.parametrize("tick_s", [0.0, 1.0])
def test_many_data_sets_are_fitted_together_as_each_alone(tick_s: float) -> None:
    rng = np.random.default_rng(4)
    sets = [rng.gamma(alpha, mean / alpha, 500) for alpha in (0.3, 1.0, 8.0) for mean in (0.4, 3.0, 100.0)] * 40
    sets = [np.diff(np.floor(np.cumsum(gaps_s))) for gaps_s in sets] if tick_s else sets
    together = fit_gammas(sets, tick_s)
    assert len(together) == 360, "more than one batch"
    for fit, gaps_s in zip(together[::17], sets[::17], strict=True):
        alone = fit_gamma(gaps_s, tick_s)
        assert fit is not None
        assert alone is not None
        assert fit.alpha == pytest.approx(alone.alpha, rel=1e-3)


def test_nearly_regular_arrivals_in_whole_seconds_are_not_taken_for_a_clock() -> None:
    rng = np.random.default_rng(5)
    sets = [np.diff(np.floor(rng.random() + np.cumsum(rng.gamma(16, 1 / 16, 400)))) for _ in range(300)]
    alphas = [fit.alpha for fit in fit_gammas(sets, 1.0) if fit]
    assert len(alphas) == 300
    assert np.quantile(alphas, [0.02, 0.98]) == pytest.approx([11, 27], rel=0.2)


def test_too_many_arrivals_per_second_leave_nothing_to_fit() -> None:
    gaps_s = np.diff(np.floor(np.cumsum(np.random.default_rng(2).exponential(0.05, 10_000))))
    assert fit_gamma(gaps_s, 1.0) is None


@given(st.floats(0.02, 50), st.floats(0.1, 1e4), st.integers(2, 300), st.integers(0, 2**32))
def test_a_fit_keeps_the_mean_and_is_a_number(alpha: float, mean_s: float, count: int, seed: int) -> None:
    arrival_s = np.floor(np.cumsum(np.random.default_rng(seed).gamma(alpha, mean_s / alpha, count + 1)))
    gaps_s = np.diff(arrival_s)
    fit = fit_gamma(gaps_s, 1.0) if gaps_s.mean() > 0 else None
    if fit is not None:
        assert 0 < fit.alpha < np.inf
        assert fit.alpha * fit.beta_s == pytest.approx(gaps_s.mean())


def test_a_clockwork_has_the_largest_shape_there_is() -> None:
    fit = fit_gamma(np.full(100, 0.3))
    assert fit is not None
    assert fit.alpha == pytest.approx(1e5)


@pytest.mark.parametrize(
    ("arrival_s", "tick_s"),
    [
        ([0, 2, 5, 10], 1.0),
        ([0, 0, 5, 10], 5.0),
        ([0.5, 1.0, 2.5], 0.5),
        ([0.001, 0.003, 0.008], 0.001),
        ([0, 1 / 7, 3 / 7, 8 / 7], 1 / 7),
        ([0, 0.1234567, 0.7, 3.14159], 0.0),
        ([0, 0.25, 0.25, 0.7777777], 0.25),
        ([0, 0, 3.0, 5.999, 5.999, 9.0], 3.0),
        ([0, 0.999, 2.0, 3.001], 0.001),
        ([4, 4], 0.0),
        ([], 0.0),
    ],
    ids=[
        "seconds",
        "five",
        "halves",
        "ms",
        "sevenths",
        "none",
        "one zero",
        "uneven",
        "no ties",
        "all at once",
        "empty",
    ],
)
def test_the_tick_of_the_times_is_seen(arrival_s: list[float], tick_s: float) -> None:
    assert time_resolution_s(np.array(arrival_s, dtype=float)) == pytest.approx(tick_s)


def test_two_drawn_times_that_happen_to_be_nearly_or_fully_equal_are_no_clock() -> None:
    rng = np.random.default_rng(0)
    arrival_s = np.cumsum(rng.gamma(0.5, 2.0, 5000))
    arrival_s[1000] = arrival_s[999]
    arrival_s[2000] = arrival_s[1999] + 3e-10
    tick_s = time_resolution_s(np.sort(arrival_s))
    assert tick_s == 1e-6
    fit = fit_gamma(np.diff(np.sort(arrival_s)), tick_s)
    assert fit is not None
    assert fit.alpha == pytest.approx(0.5, rel=0.05)
