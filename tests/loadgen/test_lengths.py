"""Lengths keep to their bounds and follow their distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.lengths import (
    Constant,
    Geometric,
    Histogram,
    Lengths,
    Lognormal,
    Mixture,
    Part,
    Zipf,
    draw_lengths,
    length_probabilities,
    mean_length,
)
from loadgen.strict_config import parse


@st.composite
def families(draw: st.DrawFn) -> Zipf | Lognormal | Geometric | Constant | Histogram:
    low = draw(st.integers(1, 3000))
    high = low + draw(st.integers(2, 5000))
    match draw(st.sampled_from(["zipf", "lognormal", "geometric", "constant", "histogram"])):
        case "zipf":
            theta, step = draw(st.floats(0.01, 8)), draw(st.integers(1, 300))
            return Zipf(distribution="zipf", theta=theta, min=low, max=high, step=step)
        case "lognormal":
            median, sigma = draw(st.floats(low, high)), draw(st.floats(0.01, 3))
            return Lognormal(distribution="lognormal", median=median, sigma=sigma, min=low, max=high)
        case "geometric":
            mean = low + (high - low) / 2 * draw(st.floats(0.001, 0.999))
            return Geometric(distribution="geometric", mean=mean, min=low, max=high)
        case "histogram":
            edges = sorted(draw(st.sets(st.integers(low, high), min_size=3, max_size=9)))
            shares = draw(st.lists(st.floats(0, 5), min_size=len(edges) - 1, max_size=len(edges) - 1))
            return Histogram(distribution="histogram", edges=tuple(edges), shares=(*shares[:-1], 1.0))
    return Constant(distribution="constant", value=low)


def mixtures() -> st.SearchStrategy[Mixture]:
    parts = st.builds(Part, share=st.floats(0.01, 10), lengths=families())
    return st.lists(parts, min_size=1, max_size=3).map(lambda some: Mixture(distribution="mixture", parts=tuple(some)))


def distributions() -> st.SearchStrategy[Lengths]:
    return st.one_of(families(), mixtures())


@given(distributions(), st.integers(0, 2**32))
def test_lengths_lie_on_the_grid_between_the_bounds_and_have_the_mean_that_is_told(lengths: Lengths, seed: int) -> None:
    possible, probability = length_probabilities(lengths)
    assert np.all(probability >= 0)
    assert probability.sum() == pytest.approx(1)
    drawn = draw_lengths(lengths, 2000, np.random.default_rng(seed))
    assert drawn.dtype == np.int32
    assert np.all(np.isin(drawn, possible))
    assert np.all(np.diff(possible) > 0)
    if isinstance(lengths, Zipf | Lognormal | Geometric):
        assert possible[0] == lengths.min
        assert possible[-1] <= lengths.max
    deviation = np.sqrt(np.maximum(probability @ (possible - mean_length(lengths)) ** 2, 0.25))
    assert abs(drawn.mean() - mean_length(lengths)) < 7 * deviation / np.sqrt(2000) + 0.5


def test_zipf_lengths_halve_their_frequency_as_theta_says() -> None:
    drawn = draw_lengths(Zipf(distribution="zipf", theta=1.1, min=1, max=4000), 1_000_000, np.random.default_rng(0))
    counts = np.bincount(drawn)
    for short, long in ((1, 2), (2, 4), (10, 20)):
        assert np.log(counts[short] / counts[long]) / np.log(long / short) == pytest.approx(1.1, abs=0.05)


def test_a_zipf_grid_has_only_multiples_of_its_step() -> None:
    tokens, _ = length_probabilities(Zipf(distribution="zipf", theta=1.1, min=16, max=100, step=16))
    assert tokens.tolist() == [16, 32, 48, 64, 80, 96]


def test_a_geometric_length_has_its_mean_within_the_bounds_and_a_constant_ratio() -> None:
    lengths = Geometric(distribution="geometric", mean=100, min=2, max=400)
    _, probability = length_probabilities(lengths)
    assert mean_length(lengths) == pytest.approx(100)
    np.testing.assert_allclose(probability[1:] / probability[:-1], probability[1] / probability[0])


def test_half_of_the_lognormal_lengths_lie_below_the_median() -> None:
    lengths = Lognormal(distribution="lognormal", median=200, sigma=0.7, min=1, max=100_000)
    drawn = draw_lengths(lengths, 100_000, np.random.default_rng(0))
    assert np.median(drawn) == pytest.approx(200, rel=0.02)
    assert np.std(np.log(drawn)) == pytest.approx(0.7, rel=0.02)


def test_a_histogram_spreads_each_share_evenly_from_its_edge_to_below_the_next() -> None:
    tokens, probability = length_probabilities(
        Histogram(distribution="histogram", edges=(1, 3, 7, 8), shares=(10, 0, 30))
    )
    assert tokens.tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(probability, [0.125, 0.125, 0, 0, 0, 0, 0.75])


def test_a_mixture_draws_each_part_as_often_as_its_share_says() -> None:
    values = {
        "distribution": "mixture",
        "parts": [
            {"share": 3, "lengths": {"distribution": "constant", "value": 5}},
            {"share": 1, "lengths": {"distribution": "histogram", "edges": [5, 7], "shares": [1]}},
        ],
    }
    tokens, probability = length_probabilities(parse(Mixture, values, "model.yaml"))
    assert tokens.tolist() == [5, 6]
    np.testing.assert_allclose(probability, [0.75 + 0.125, 0.125])


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (Zipf, {"distribution": "zipf", "theta": 1.1, "min": 9, "max": 8}, "min is 9, max is 8; want min <= max"),
        (Zipf, {"distribution": "zipf", "theta": -1, "max": 8}, "greater than 0"),
        (Zipf, {"distribution": "zipf", "theta": 1, "max": 10**9}, "less than or equal to 1000000"),
        (Geometric, {"distribution": "geometric", "mean": 300, "max": 400}, "has a mean above 1 and below 200.5"),
        (
            Lognormal,
            {"distribution": "lognormal", "median": 1e9, "sigma": 0.1, "max": 400},
            "leaves nothing between 1 and 400",
        ),
        (Histogram, {"distribution": "histogram", "edges": [1, 5, 5], "shares": [1, 1]}, "want them ascending"),
        (Histogram, {"distribution": "histogram", "edges": [1, 5, 9], "shares": [1]}, "3 edges bound 2 shares, got 1"),
        (Histogram, {"distribution": "histogram", "edges": [1, 5], "shares": [0]}, "shares are all 0"),
        (
            Mixture,
            {"distribution": "mixture", "parts": [{"share": 1, "lengths": {"distribution": "zipf", "thetta": 1}}]},
            "unknown key 'parts.0.lengths.thetta'; known keys: distribution, max, min, step, theta",
        ),
    ],
)
def test_impossible_lengths_are_refused(model: type[Zipf], values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(model, values, "model.yaml")
