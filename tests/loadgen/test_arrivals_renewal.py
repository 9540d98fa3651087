"""Gamma renewal arrivals follow the rate and the shape that were asked for, also where these change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from loadgen.arrivals.bursts import Burst, RateBurst, ShapeBurst
from loadgen.arrivals.piecewise import PiecewiseLinear
from loadgen.arrivals.renewal import draw_renewal, expected_renewal
from loadgen.gamma_fit import fit_gamma, time_resolution_s


def constant(value: float, duration_s: float) -> PiecewiseLinear:
    return PiecewiseLinear(np.array([0.0, duration_s]), np.array([value]), np.array([value]))


def steps(edges_s: list[float], values: list[float]) -> PiecewiseLinear:
    return PiecewiseLinear(np.array(edges_s, dtype=float), np.array(values), np.array(values))


def rate_burst(after_requests: int, factor: float, duration_s: float) -> RateBurst:
    return RateBurst(kind="rate", after_requests=after_requests, factor=factor, duration_s=duration_s)


def shape_burst(after_requests: int, rise_requests: int, peak_cv: float) -> ShapeBurst:
    return ShapeBurst(kind="shape", after_requests=after_requests, rise_requests=rise_requests, peak_cv=peak_cv)


def fitted_shape(arrivals: NDArray[np.float64]) -> float:
    """A shape of 0.25 makes gaps below a picosecond, which a clock time rounds to 0: the fit allows for it."""
    fit = fit_gamma(np.diff(arrivals), time_resolution_s(arrivals))
    assert fit is not None
    return fit.alpha


def counts_over_runs(
    rate: PiecewiseLinear, alpha: PiecewiseLinear, edges_s: list[float], runs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean count per bin over many draws, and the standard error of each mean."""
    rng = np.random.default_rng(5)
    counts = np.array([np.histogram(draw_renewal(rate, alpha, rng), edges_s)[0] for _ in range(runs)])
    return counts.mean(axis=0), counts.std(axis=0) / np.sqrt(runs)


@pytest.mark.parametrize("shape", [0.25, 0.5, 1.0, 4.0])
def test_the_gaps_of_a_steady_process_are_gamma_with_the_shape_and_rate_asked_for(shape: float) -> None:
    arrivals = draw_renewal(constant(10.0, 10_000.0), constant(shape, 10_000.0), np.random.default_rng(1))
    gaps = np.diff(arrivals)
    assert len(gaps) == pytest.approx(100_000, rel=0.03)
    assert fitted_shape(arrivals) == pytest.approx(shape, rel=0.02)
    assert stats.kstest(gaps, stats.gamma(shape, scale=1 / (10.0 * shape)).cdf).pvalue > 1e-3


def test_a_jump_of_the_rate_takes_hold_at_once_in_the_middle_of_a_gap() -> None:
    """Before the jump gaps last 20 s: a process that ended them first would leave the first second almost empty."""
    rate = steps([0, 10, 12], [0.05, 50.0])
    mean, error = counts_over_runs(rate, constant(0.5, 12.0), [10, 10.1, 10.5, 11, 12], runs=1000)
    np.testing.assert_array_less(np.abs(mean - [5, 20, 25, 50]), 4 * error)


def test_the_expected_count_is_the_integral_of_the_rate_from_the_very_start() -> None:
    for shape in (0.25, 5.0):
        mean, error = counts_over_runs(constant(2.0, 4.0), constant(shape, 4.0), [0, 0.5, 1, 4], runs=2000)
        np.testing.assert_array_less(np.abs(mean - [1, 1, 6]), 4 * error)


def test_a_ramp_of_the_rate_is_followed() -> None:
    rate = PiecewiseLinear(np.array([0.0, 100.0, 200.0]), np.array([0.0, 400.0]), np.array([400.0, 0.0]))
    arrivals = draw_renewal(rate, constant(1.0, 200.0), np.random.default_rng(2))
    counts, _ = np.histogram(arrivals, np.linspace(0, 200, 9))
    due = 400 * 25 * np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 8
    np.testing.assert_array_less(np.abs(counts - due), 5 * np.sqrt(due))


def test_the_shape_follows_its_own_course_whatever_the_rate_does() -> None:
    rate = steps([0, 500, 1000], [100.0, 20.0])
    alpha = steps([0, 250, 750, 1000], [0.2, 1.0, 5.0])
    arrivals = draw_renewal(rate, alpha, np.random.default_rng(3))
    for start_s, end_s, shape in ((0, 250, 0.2), (250, 500, 1.0), (500, 750, 1.0), (750, 1000, 5.0)):
        assert fitted_shape(arrivals[(arrivals >= start_s) & (arrivals < end_s)]) == pytest.approx(shape, rel=0.06), (
            start_s,
            end_s,
        )


def test_a_shape_that_slides_is_met_at_each_point_of_its_course() -> None:
    alpha = PiecewiseLinear(np.array([0.0, 1000.0]), np.array([0.2]), np.array([3.0]))
    arrivals = draw_renewal(constant(200.0, 1000.0), alpha, np.random.default_rng(4))
    for middle_s in (50, 500, 950):
        assert fitted_shape(arrivals[np.abs(arrivals - middle_s) < 50]) == pytest.approx(
            0.2 + 2.8 * middle_s / 1000, rel=0.08
        )


def test_nothing_arrives_while_the_rate_is_zero() -> None:
    arrivals = draw_renewal(steps([0, 10, 20, 30], [5.0, 0.0, 5.0]), constant(1.0, 30.0), np.random.default_rng(6))
    assert not np.any((arrivals > 10) & (arrivals < 20))
    assert np.any(arrivals < 10)
    assert np.any(arrivals > 20)
    assert len(draw_renewal(constant(0.0, 10.0), constant(1.0, 10.0), np.random.default_rng(7))) == 0


@st.composite
def courses(draw: st.DrawFn, edges_s: NDArray[np.float64], low: float, high: float) -> PiecewiseLinear:
    values = st.lists(st.floats(low, high), min_size=len(edges_s) - 1, max_size=len(edges_s) - 1)
    return PiecewiseLinear(edges_s, np.array(draw(values)), np.array(draw(values)))


@given(st.data(), st.integers(0, 2**32))
def test_arrivals_are_in_order_inside_the_span_and_repeatable(data: st.DataObject, seed: int) -> None:
    widths_s = data.draw(st.lists(st.floats(0.01, 100), min_size=1, max_size=4))
    edges_s = data.draw(st.floats(0, 1000)) + np.concatenate([[0.0], np.cumsum(widths_s)])
    rate = data.draw(courses(edges_s, 0.0, 20.0))
    alpha = data.draw(courses(edges_s, 0.05, 20.0))
    arrivals = draw_renewal(rate, alpha, np.random.default_rng(seed))
    assert np.all(np.diff(arrivals) >= 0)
    assert np.all((arrivals >= edges_s[0]) & (arrivals < edges_s[-1]))
    assert np.array_equal(arrivals, draw_renewal(rate, alpha, np.random.default_rng(seed)))


def test_a_burst_begins_with_the_arrival_that_sets_it_off_and_lasts_as_long_as_asked() -> None:
    rate, alpha = constant(10.0, 100.0), constant(0.5, 100.0)
    burst = rate_burst(200, 20, 5)
    during, after = [], []
    for seed in range(40):
        plain = draw_renewal(rate, alpha, np.random.default_rng(seed))
        arrivals = draw_renewal(rate, alpha, np.random.default_rng(seed), [burst])
        assert np.array_equal(arrivals[:200], plain[:200])
        since_s = arrivals[200:] - arrivals[199]
        during.append(np.count_nonzero(since_s < 5))
        after.append(np.count_nonzero((since_s >= 5) & (since_s < 25)))
    # 1000 are due in the burst, then 200 in 20 s. Just after an arrival a process with alpha 0.5 is (1/alpha - 1)/2 =
    # 0.5 ahead. A count of n has a variance of n/alpha.
    assert np.mean(during) == pytest.approx(1000.5, abs=4 * np.sqrt(2000 / 40))
    assert np.mean(after) == pytest.approx(200, abs=4 * np.sqrt(400 / 40))


def test_the_gaps_of_a_burst_keep_their_shape() -> None:
    arrivals = draw_renewal(
        constant(1.0, 200.0),
        constant(0.3, 200.0),
        np.random.default_rng(0),
        [rate_burst(100, 1000, 50)],
    )
    busy = arrivals[(arrivals > arrivals[100]) & (arrivals < arrivals[99] + 50)]
    assert len(busy) == pytest.approx(50_000, rel=0.05)
    assert fitted_shape(busy) == pytest.approx(0.3, rel=0.03)


def test_bursts_multiply_where_they_overlap_and_one_that_is_never_set_off_does_nothing() -> None:
    rate, alpha = constant(10.0, 100.0), constant(100.0, 100.0)  # as good as a clock
    bursts = [
        rate_burst(10_000, 9, 9),
        rate_burst(200, 3, 20),
        rate_burst(100, 2, 30),
    ]
    arrivals = draw_renewal(rate, alpha, np.random.default_rng(0), bursts)
    # 100 in 10 s; twice the rate up to the 200th at 15 s; six times to 35 s; twice to 40 s; then 10/s again.
    # The 200th comes at 15 s +- 0.07 s (200 gaps with a CV of 0.1, at up to 20/s), where the rate moves by 40/s.
    counts, _ = np.histogram(arrivals, [0, 10, 15, 35, 40, 100])
    np.testing.assert_allclose(counts, [100, 100, 1200, 100, 600], atol=4 * 0.07 * 40)


def test_a_burst_of_the_shape_raises_the_cv_in_a_line_and_lets_it_fall_with_beta_unchanged() -> None:
    # alpha 0.25 and 2/s: a CV of 2 and a beta of 2 s, as the paper has for its smallest server.
    rate, alpha = constant(2.0, 2000.0), constant(0.25, 2000.0)
    burst = shape_burst(1000, 200, 64)
    gaps_s = []
    for seed in range(200):
        arrivals = draw_renewal(rate, alpha, np.random.default_rng(seed), [burst])
        assert np.array_equal(arrivals[:1000], draw_renewal(rate, alpha, np.random.default_rng(seed))[:1000])
        gaps_s.append(np.diff(arrivals)[999:1399])
    steps_up = np.arange(200)
    cv = np.concatenate([2 + 62 * steps_up / 200, 64 - 62 * steps_up / 200])
    due = 2.0 / cv**2
    # The variance of a Gamma gap is alpha beta^2, that is 2 s times its mean. Compare 20 gaps at a time.
    error = np.sqrt(2.0 * due.reshape(20, 20).sum(axis=1) / 200)
    seen = np.mean(gaps_s, axis=0).reshape(20, 20).sum(axis=1)
    np.testing.assert_array_less(np.abs(seen - due.reshape(20, 20).sum(axis=1)), 5 * error)


@pytest.mark.parametrize(
    "bursts",
    [
        [shape_burst(1000, 200, 64)],
        [shape_burst(500, 100, 16), shape_burst(550, 100, 16), rate_burst(800, 3.0, 50.0)],
        [rate_burst(100, 2.0, 1000.0), shape_burst(900, 200, 1)],
    ],
    ids=["one", "one after another", "calmer within a busy time"],
)
def test_the_expected_number_of_arrivals_holds_with_bursts(bursts: list[Burst]) -> None:
    rate, alpha = constant(2.0, 1500.0), constant(0.25, 1500.0)
    counts = [len(draw_renewal(rate, alpha, np.random.default_rng(seed), bursts)) for seed in range(150)]
    error = np.std(counts) / np.sqrt(150)
    assert expected_renewal(rate, alpha, bursts) == pytest.approx(np.mean(counts), abs=4 * error)


@st.composite
def bursts_of_any_kind(draw: st.DrawFn) -> Burst:
    after = draw(st.integers(1, 60))
    if draw(st.booleans()):
        return rate_burst(after, draw(st.floats(0.01, 5)), draw(st.floats(0.01, 100)))
    return shape_burst(after, draw(st.integers(1, 50)), draw(st.floats(0.1, 1000)))


@given(st.lists(bursts_of_any_kind(), max_size=4), st.integers(0, 2**32))
def test_arrivals_with_bursts_are_in_order_inside_the_span(bursts: list[Burst], seed: int) -> None:
    arrivals = draw_renewal(
        steps([5, 10, 20, 40], [1.0, 0.0, 2.0]),
        PiecewiseLinear(np.array([5.0, 40.0]), np.array([0.1]), np.array([3.0])),
        np.random.default_rng(seed),
        bursts,
    )
    assert np.all(np.diff(arrivals) >= 0)
    assert np.all((arrivals >= 5) & (arrivals < 40))
