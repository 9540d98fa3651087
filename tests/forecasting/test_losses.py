"""Losses against naive loops and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_pinball_loss

from forecasting.losses import coverage, interval_score, pinball, pinball_losses, wape

COUNTS = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1e6))
LEVELS = st.floats(0.01, 0.99)


@given(COUNTS, LEVELS, st.randoms(use_true_random=False))
def test_pinball_equals_a_naive_loop_and_scikit_learn(actual, level, random):
    quantile = np.array([random.uniform(0, 1e6) for _ in actual])
    total = 0.0
    for came, said in zip(actual, quantile, strict=True):
        total += level * (came - said) if came > said else (1 - level) * (said - came)
    assert pinball(actual, quantile, level) == pytest.approx(total / len(actual), abs=1e-6)
    assert pinball(actual, quantile, level) == pytest.approx(mean_pinball_loss(actual, quantile, alpha=level), abs=1e-6)


@given(COUNTS, LEVELS)
def test_a_forecast_of_what_came_costs_nothing(actual, level):
    assert pinball(actual, actual, level) == 0.0
    assert wape(actual, actual) == 0.0
    assert interval_score(actual, actual, actual, level) == 0.0
    assert coverage(actual, actual) == 1.0


def test_pinball_of_a_constant_is_least_at_the_quantile():
    actual = np.arange(1.0, 100.0)  # 1..99: the quantile at 0.9 is 90
    losses = [pinball(actual, np.full(99, float(said)), 0.9) for said in range(1, 100)]
    assert int(np.argmin(losses)) + 1 == 90


def test_pinball_losses_take_one_level_per_row():
    losses = pinball_losses(np.array([10.0, 0.0]), np.array([[4.0, 4.0], [4.0, 4.0]]), np.array([[0.5], [0.9]]))
    assert losses == pytest.approx(np.array([[3.0, 2.0], [5.4, 0.4]]))


def test_coverage_counts_an_outcome_on_the_quantile_as_covered():
    assert coverage(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.9, 2.0, 9.0])) == 0.75


@pytest.mark.parametrize(
    ("actual", "predicted", "expected"),
    [([2.0, 8.0], [4.0, 5.0], 0.5), ([0.0, 0.0], [0.0, 0.0], 0.0), ([0.0, 0.0], [0.0, 1.0], float("inf"))],
    ids=["errors of 5 per 10 that came", "nothing came, nothing said", "nothing came, something said"],
)
def test_wape_is_the_error_per_unit_of_what_came(actual, predicted, expected):
    assert wape(np.array(actual), np.array(predicted)) == expected


@given(COUNTS, st.floats(0, 1e5), st.floats(0, 1e5))
def test_interval_score_equals_a_naive_loop(actual, below, width):
    lower = np.maximum(actual.mean() - below, 0.0) * np.ones_like(actual)
    upper = lower + width
    total = 0.0
    for came, low, high in zip(actual, lower, upper, strict=True):
        total += high - low
        if came < low:
            total += 2 / 0.2 * (low - came)
        if came > high:
            total += 2 / 0.2 * (came - high)
    assert interval_score(actual, lower, upper, 0.8) == pytest.approx(total / len(actual), rel=1e-9, abs=1e-6)
