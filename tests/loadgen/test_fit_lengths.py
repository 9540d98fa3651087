"""Fitted lengths are those they were drawn from, and close to any others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.fit_lengths import fit_lengths, ks_distance
from loadgen.lengths import Constant, Geometric, Histogram, Lengths, Lognormal, Zipf, draw_lengths, length_probabilities

KNOWN: list[tuple[Lengths, str, float]] = [
    (Zipf(distribution="zipf", theta=1.1, min=1, max=4000), "theta", 0.03),
    (Zipf(distribution="zipf", theta=1.1, min=16, max=1600, step=16), "theta", 0.03),
    (Geometric(distribution="geometric", mean=100, min=2, max=400), "mean", 0.03),
    (Lognormal(distribution="lognormal", median=200, sigma=0.7, min=1, max=100_000), "median", 0.03),
    (Lognormal(distribution="lognormal", median=200, sigma=1.7, min=20, max=800), "sigma", 0.2),
]


@pytest.mark.parametrize(("lengths", "parameter", "within"), KNOWN, ids=lambda value: str(value))
def test_the_family_and_its_parameter_are_found_again(lengths: Lengths, parameter: str, within: float) -> None:
    fitted = fit_lengths(draw_lengths(lengths, 20_000, np.random.default_rng(0)))
    assert type(fitted) is type(lengths)
    assert getattr(fitted, parameter) == pytest.approx(getattr(lengths, parameter), rel=within)


def test_two_humps_and_a_heap_at_a_limit_become_a_histogram() -> None:
    rng = np.random.default_rng(1)
    lengths = np.concatenate([rng.normal(50, 10, 5000), rng.normal(600, 50, 4000), np.full(1000, 1024)]).astype(int)
    fitted = fit_lengths(lengths)
    assert isinstance(fitted, Histogram)
    tokens, probability = length_probabilities(fitted)
    assert probability[tokens == 1024] == pytest.approx(0.1, rel=0.01)
    assert probability[(tokens > 100) & (tokens < 400)].sum() < 0.01
    drawn = draw_lengths(fitted, 100_000, rng)
    for level in (0.01, 0.1, 0.4, 0.6, 0.8, 0.95):
        assert np.quantile(drawn, level) == pytest.approx(np.quantile(lengths, level), rel=0.05)


def test_a_single_length_is_constant_and_those_below_one_count_as_one() -> None:
    assert fit_lengths(np.array([7, 7, 7])) == Constant(distribution="constant", value=7)
    assert fit_lengths(np.array([0, -3])) == Constant(distribution="constant", value=1)


def test_the_ks_distance_is_that_of_the_two_distribution_functions() -> None:
    uniform = Histogram(distribution="histogram", edges=(1, 5), shares=(1,))
    # Cumulative 0.25, 0.5, 0.75, 1 against 0, 0.5, 0.5, 0.5, 1 at 1 to 4 and 9.
    assert ks_distance(uniform, np.array([2, 9]), np.array([3, 3])) == pytest.approx(0.5)
    assert ks_distance(uniform, np.array([1, 2, 3, 4]), np.array([5, 5, 5, 5])) == pytest.approx(0)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=400))
def test_whatever_the_lengths_are_the_fit_stays_between_the_shortest_and_the_longest(lengths: list[int]) -> None:
    tokens, probability = length_probabilities(fit_lengths(np.array(lengths)))
    occurring = tokens[probability > 0]
    assert occurring[0] >= min(lengths)
    assert occurring[-1] <= max(lengths)
