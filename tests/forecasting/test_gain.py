"""The gain of one forecaster over another and its block-bootstrap interval."""

import math

import numpy as np
import pytest

from forecasting.gain import gain_over


def runs(rng, n, persistence):
    """Positive losses whose logarithm is an AR(1) process."""
    noise = rng.normal(size=n)
    state = np.zeros(n)
    for i in range(1, n):
        state[i] = persistence * state[i - 1] + noise[i]
    return np.exp(0.3 * state)


def test_equal_losses_gain_exactly_nothing():
    losses = np.random.default_rng(1).exponential(size=(50, 2))
    gains = gain_over(losses, losses, rng=np.random.default_rng(2))
    assert [(gain.value, gain.low, gain.high) for gain in gains] == [(0.0, 0.0, 0.0)] * 2


def test_a_constant_share_is_gained_without_doubt():
    losses = np.random.default_rng(1).exponential(size=(50, 1))
    (gain,) = gain_over(0.8 * losses, losses, rng=np.random.default_rng(2))
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))


def test_losses_that_come_in_runs_make_a_wider_interval_than_a_bootstrap_of_single_origins():
    rng = np.random.default_rng(3)
    ours, theirs = runs(rng, 1000, 0.95)[:, None], runs(rng, 1000, 0.95)[:, None]
    (gain,) = gain_over(ours, theirs, rng=np.random.default_rng(4))
    picks = np.random.default_rng(5).integers(0, 1000, (1000, 1000))
    single = 1 - ours[picks, 0].sum(axis=1) / theirs[picks, 0].sum(axis=1)
    assert gain.high - gain.low > 1.5 * np.subtract(*np.quantile(single, (0.975, 0.025)))


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says():
    """100 series of 400 origins, both forecasters equally good: 95 % intervals of 20 blocks are a little narrow.

    At a true coverage of 0.85 or better, fewer than 75 of 100 has a probability of about 0.004.
    """
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(100):
        ours, theirs = runs(rng, 400, 0.6)[:, None], runs(rng, 400, 0.6)[:, None]
        (gain,) = gain_over(ours, theirs, rng=rng, draws=200)
        held += gain.low <= 0.0 <= gain.high
    assert held >= 75


def test_a_reference_without_loss_has_no_gain_to_tell():
    (gain,) = gain_over(np.ones((30, 1)), np.zeros((30, 1)), rng=np.random.default_rng(1))
    assert math.isnan(gain.value)
    assert math.isnan(gain.low)
    assert math.isnan(gain.high)
