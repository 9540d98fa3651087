"""What holds for every forecaster with residual quantiles, and the machinery under it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.losses import coverage
from forecasting.registry import make_forecaster
from forecasting.residuals import FEWEST_RESIDUALS, RollingResiduals, first_quantiles

LEVELS = (0.05, 0.5, 0.9, 0.99)
FORECASTERS = [
    ("last-value", {"residual_bins": 20, "horizon_bins": 4}),
    ("last-value", {"residual_bins": 10, "horizon_bins": 30, "window_bins": 1}),
    ("seasonal", {"residual_bins": 20, "horizon_bins": 4, "season_bins": 7}),
    ("seasonal", {"residual_bins": 20, "season_bins": 12, "smoothing_fraction": 0.25, "scale_by_level": False}),
]
SEASON = {"seasonal": {"season_bins": 50}}
COUNTS = st.lists(st.one_of(st.just(0.0), st.integers(0, 50).map(float), st.floats(0, 1e7)), max_size=80).map(
    lambda counts: np.array(counts, dtype=np.float64)
)


def made(which, **more):
    name, params = which
    return make_forecaster(name, bin_s=5.0, levels=LEVELS, **params, **more)


@given(st.sampled_from(FORECASTERS), COUNTS, st.integers(1, 40))
def test_quantiles_never_cross_and_are_finite_and_not_negative(which, counts, bins):
    forecaster = made(which)
    forecaster.observe(counts)
    forecast = forecaster.forecast(bins)
    assert forecast.values.shape == (len(LEVELS), bins)
    assert np.isfinite(forecast.values).all()
    assert (forecast.values >= 0).all()
    assert (np.diff(forecast.values, axis=0) >= 0).all()
    assert forecast.levels.tolist() == list(LEVELS)


@given(st.sampled_from(FORECASTERS), COUNTS, st.lists(st.integers(0, 80), max_size=5))
def test_bins_in_one_call_or_in_many_with_forecasts_between_give_the_same_forecast(which, counts, cuts):
    at_once, piecewise = made(which), made(which)
    at_once.observe(counts)
    for piece in np.split(counts, sorted(cut for cut in cuts if cut <= len(counts))):
        piecewise.observe(piece)
        piecewise.forecast(3)
    assert piecewise.forecast(6).values.tobytes() == at_once.forecast(6).values.tobytes()


@given(st.sampled_from(FORECASTERS), COUNTS, st.integers(1, 20))
def test_a_longer_horizon_changes_nothing_nearer(which, counts, bins):
    forecaster = made(which)
    forecaster.observe(counts)
    near, far = forecaster.forecast(bins).values, forecaster.forecast(bins + 15).values
    assert far[:, :bins].tolist() == near.tolist()


@pytest.mark.parametrize("which", FORECASTERS)
def test_a_forecast_is_issued_at_the_end_of_the_last_bin(which):
    forecaster = made(which, start_s=100.0)
    assert forecaster.forecast(1).issued_at_s == 100.0
    forecaster.observe(np.ones(3))
    assert forecaster.forecast(1).issued_at_s == 115.0


@pytest.mark.parametrize("which", FORECASTERS)
def test_before_any_bin_it_answers_as_if_one_empty_bin_had_been_seen(which):
    fresh, one_empty = made(which), made(which)
    one_empty.observe(np.zeros(1))
    assert fresh.forecast(2).values.tolist() == one_empty.forecast(2).values.tolist()
    assert (fresh.forecast(2).values[-1] > 0).all()


@pytest.mark.parametrize("which", FORECASTERS)
def test_a_steady_series_is_forecast_without_any_spread(which):
    forecaster = made(which)
    forecaster.observe(np.full(150, 9.0))
    reachable = forecaster.forecast(3).values[:3]  # 10 or 20 errors say nothing about the quantile at 0.99
    assert reachable == pytest.approx(np.full((3, 3), 9.0))


def brute_force_quantile(series, points_of, lead, residual_bins, level):
    """The definition, spelt out: collect the errors at this lead, sort, take the k-th smallest."""
    errors = [
        np.sqrt(series[origin + lead - 1]) - np.sqrt(points_of(series[:origin]))
        for origin in range(1, len(series) - lead + 1)
    ]
    errors = sorted(errors[-residual_bins:])
    rank = int(np.ceil((len(errors) + 1) * level - 1e-9))
    assert rank <= len(errors)
    return max(np.sqrt(points_of(series)) + errors[rank - 1], 0.0) ** 2


@given(st.lists(st.integers(0, 60), min_size=25, max_size=70), st.integers(1, 4), st.sampled_from([0.05, 0.5, 0.9]))
@settings(max_examples=60)
def test_quantiles_equal_the_definition_spelt_out(counts, window, level):
    series = np.array(counts, dtype=np.float64)
    forecaster = make_forecaster(
        "last-value", bin_s=1.0, levels=(level,), window_bins=window, residual_bins=30, horizon_bins=8
    )
    forecaster.observe(series)
    values = forecaster.forecast(8).values[0]
    for lead in range(1, 9):
        expected = brute_force_quantile(series, lambda seen: seen[-window:].mean(), lead, 30, level)
        assert values[lead - 1] == pytest.approx(expected, abs=1e-9), f"lead {lead}"


def test_leads_that_lack_errors_take_those_of_the_longest_lead_that_has_them():
    residuals = RollingResiduals(horizon_bins=5, residual_bins=50)
    rng = np.random.default_rng(5)
    for count in rng.poisson(20, FEWEST_RESIDUALS + 2).tolist():  # leads 1 and 2 have 10 errors or more
        residuals.settle(float(count))
        residuals.expect(np.array([20.0, 30.0, 40.0, 50.0, 60.0]))  # so that every lead errs in its own way
    values = residuals.quantiles(np.full(5, 20.0), np.array([0.5, 0.9]))
    assert (values[:, 2:] == values[:, 1:2]).all()
    assert (values[:, 0] > values[:, 1]).all()


def test_a_quantile_beyond_the_known_errors_is_no_narrower_than_the_largest_of_them_or_the_first_spread():
    forecaster = make_forecaster("last-value", bin_s=1.0, levels=(0.9, 0.99), window_bins=1)
    forecaster.observe(np.array([4.0] * 20 + [400.0] + [4.0] * 20))
    values = forecaster.forecast(1).values[:, 0]
    # 40 errors: rank 37 of 40 at 0.9, no rank at 0.99, where the largest is the leap from 4 to 400: 2 -> 20.
    assert values == pytest.approx([4.0, 400.0])
    assert values[1] > first_quantiles(np.array([4.0]), np.array([0.99]))[0, 0]


def test_the_first_spread_has_the_mean_and_variance_it_promises():
    levels = (np.arange(20_000) + 0.5) / 20_000
    for point in (0.0, 3.0, 28.0, 3000.0):
        draws = first_quantiles(np.array([point]), levels)[:, 0]
        mean = point + 0.5
        assert draws.mean() == pytest.approx(mean, rel=0.01)
        assert draws.var() == pytest.approx(2 * mean + (mean / 2) ** 2, rel=0.02)


def draw_counts(kind, rng, n):
    # Negative binomial: mean 10, variance 60.
    return (rng.poisson(20, n) if kind == "Poisson" else rng.negative_binomial(2, 1 / 6, n)).astype(np.float64)


@pytest.mark.parametrize("kind", ["Poisson", "negative binomial"])
@pytest.mark.parametrize("name", ["last-value", "seasonal"])
def test_the_quantile_at_0_9_covers_nine_in_ten(kind, name):
    """On independent counts, 3000 origins at leads 1 and 6.

    Tolerance: the standard error is sqrt(0.9 * 0.1 / 3000) = 0.0055; neighbouring origins share most of their 300
    errors, whose quantile itself has a standard error of sqrt(0.9 * 0.1 / 300) = 0.017, ten independent windows in
    all: 0.0055 again. Three standard errors of both together are 0.023. Upwards 0.03 more: an outcome on the quantile
    counts as covered, and 0.03 is the probability of the Poisson count at its quantile.
    """
    rng = np.random.default_rng(11)
    series = draw_counts(kind, rng, 3500)
    forecaster = make_forecaster(name, bin_s=1.0, levels=(0.9,), residual_bins=300, **SEASON.get(name, {}))
    forecaster.observe(series[:494])
    said = np.empty((3000, 6))
    for origin in range(3000):
        said[origin] = forecaster.forecast(6).values[0]
        forecaster.observe(series[494 + origin : 495 + origin])
    for lead in (1, 6):
        came = series[494 + lead - 1 : 494 + lead - 1 + 3000]
        assert 0.877 <= coverage(came, said[:, lead - 1]) <= 0.953, f"lead {lead}"
