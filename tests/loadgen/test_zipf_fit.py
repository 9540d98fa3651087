"""Zipf's exponent is found again, however the lengths are bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from loadgen.zipf_fit import ZipfFit, fit_zipf


def fit(tokens: NDArray[np.integer]) -> ZipfFit:
    found = fit_zipf(*np.unique(tokens, return_counts=True))
    assert found is not None
    return found


@pytest.mark.parametrize("theta", [0.5, 0.9, 1.0, 1.1, 2.0, 3.5])
@pytest.mark.parametrize(("low", "high", "step"), [(1, 4096, 1), (16, 2000, 1), (64, 32_000, 64)])
def test_theta_is_found_within_three_percent(theta: float, low: int, high: int, step: int) -> None:
    lengths = np.arange(low, high + 1, step)
    weights = lengths**-theta
    tokens = np.random.default_rng(3).choice(lengths, 40_000, p=weights / weights.sum())
    found = fit(tokens)
    assert found.theta == pytest.approx(theta, rel=0.03)
    assert not found.is_clipped
    assert found.step == step


@pytest.mark.parametrize(("theta", "cap"), [(1.1, 4096), (1.3, 500), (2.0, 100)])
def test_theta_is_found_where_longer_lengths_were_cut_to_a_cap(theta: float, cap: int) -> None:
    endless = np.random.default_rng(4).zipf(theta, 40_000)
    found = fit(np.minimum(endless, cap))
    assert found.is_clipped
    assert found.theta == pytest.approx(theta, rel=0.03)


def test_the_distribution_function_agrees_with_the_reference() -> None:
    lengths = np.arange(0, 30_001, 7)
    bounded = ZipfFit(theta=1.1, low=1, high=30_000, step=1, is_clipped=False)
    assert bounded.cumulative(lengths) == pytest.approx(stats.zipfian.cdf(lengths, 1.1, 30_000), abs=1e-9)
    endless = ZipfFit(theta=1.5, low=1, high=30_000, step=1, is_clipped=True)
    below = lengths[lengths < 30_000]
    assert endless.cumulative(below) == pytest.approx(stats.zipf.cdf(below, 1.5), abs=1e-9)
    assert endless.cumulative(np.array([30_000])) == 1.0


def test_lengths_that_are_all_alike_have_no_theta() -> None:
    assert fit_zipf(np.array([7]), np.array([2])) is None
    assert fit_zipf(np.array([], dtype=int), np.array([], dtype=int)) is None


@given(st.lists(st.integers(1, 2**31 - 1), min_size=2, max_size=30))
def test_any_lengths_have_a_finite_exponent_and_a_distribution(tokens: list[int]) -> None:
    lengths, counts = np.unique(tokens, return_counts=True)
    found = fit_zipf(lengths, counts)
    if found is None:
        assert len(lengths) == 1
        return
    assert np.isfinite(found.theta)
    share = found.cumulative(lengths)
    assert np.all(np.diff(share) >= -1e-12)
    assert share[-1] == 1.0
    assert np.all(share >= 0)
