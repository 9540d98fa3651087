"""The yardstick itself: exact for a forecaster that knows the future, and closed to one that would look."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.backtest import backtest, backtest_trace
from forecasting.interface import Forecast
from forecasting.registry import make_forecaster
from loadgen.errors import InputError
from loadgen.trace import Service, make_trace

LEVELS = (0.1, 0.5, 0.9)
FORECASTERS = [("last-value", {}), ("seasonal", {"season_bins": 5})]


class ToldTheFuture:
    """Forecasts exactly what will come, at every level."""

    def __init__(self, series):
        self.bin_s, self.levels = 60.0, LEVELS
        self._series, self._observed = series, 0

    def observe(self, counts):
        assert counts.tolist() == self._series[self._observed : self._observed + len(counts)].tolist()
        self._observed += len(counts)

    def forecast(self, bins):
        ahead = self._series[self._observed : self._observed + bins]
        values = np.tile(ahead, (len(LEVELS), 1))
        return Forecast(self._observed * self.bin_s, self.bin_s, np.array(LEVELS), values)


@given(
    st.lists(st.integers(0, 1000), min_size=12, max_size=60),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(1, 5),
)
def test_a_perfect_forecaster_scores_exactly_0_at_every_horizon(counts, horizon_bins, warm_up_bins, stride_bins):
    series = np.array(counts, dtype=np.float64)
    result = backtest(
        series,
        lambda: ToldTheFuture(series),
        horizon_bins=horizon_bins,
        warm_up_bins=warm_up_bins,
        stride_bins=stride_bins,
    )
    rows = result.rows()
    assert [(row.lead_bins, row.level) for row in rows] == [
        (lead, level) for lead in range(1, horizon_bins + 1) for level in LEVELS
    ]
    assert all(row.pinball == 0.0 and row.coverage == 1.0 and row.wape == 0.0 for row in rows)
    assert all(row.origins == len(range(warm_up_bins, len(series) - horizon_bins + 1, stride_bins)) for row in rows)


def test_a_forecaster_that_is_one_bin_late_scores_its_step_at_every_horizon():
    series = np.arange(100.0)  # told what comes one bin later, it is off by exactly 1
    result = backtest(series, lambda: ToldTheFuture(series), horizon_bins=3, warm_up_bins=10)
    late = backtest(series[:-1], lambda: _Ahead(series), horizon_bins=3, warm_up_bins=10)
    assert {row.pinball for row in result.rows()} == {0.0}
    assert {row.pinball for row in late.rows() if row.level == 0.5} == {0.5}


class _Ahead(ToldTheFuture):
    def forecast(self, bins):
        self._observed += 1
        forecast = super().forecast(bins)
        self._observed -= 1
        return forecast


@given(
    st.sampled_from(FORECASTERS),
    st.lists(st.integers(0, 100), min_size=40, max_size=40),
    st.lists(st.integers(0, 100), min_size=40, max_size=40),
    st.integers(10, 35),
)
def test_changing_the_future_does_not_change_a_forecast_already_made(which, counts, others, change_at):
    name, params = which
    series = np.array(counts, dtype=np.float64)
    changed = np.concatenate([series[:change_at], np.array(others, dtype=np.float64)[change_at:]])

    def run(on):
        return backtest(
            on,
            lambda: make_forecaster(name, bin_s=60.0, levels=LEVELS, residual_bins=15, **params),
            horizon_bins=4,
            warm_up_bins=2,
        )

    before, after = run(series), run(changed)
    made_before = before.origins <= change_at
    assert before.values[made_before].tobytes() == after.values[made_before].tobytes()


def test_a_forecaster_can_neither_reach_nor_spoil_the_series_through_what_it_is_given():
    series = np.arange(20.0)

    class Meddler(ToldTheFuture):
        def observe(self, counts):
            super().observe(counts)
            assert counts.base is None
            counts[:] = -1.0

    result = backtest(series, lambda: Meddler(np.arange(20.0)), horizon_bins=2, warm_up_bins=5)
    assert series.tolist() == list(range(20))
    assert {row.pinball for row in result.rows()} == {0.0}


def test_scores_of_last_value_on_a_ramp_by_hand():
    series = np.arange(10.0, 60.0)
    result = backtest(
        series,
        lambda: make_forecaster("last-value", bin_s=60.0, levels=(0.5, 0.9), window_bins=1),
        horizon_bins=2,
        warm_up_bins=5,
        stride_bins=100,
    )
    # One origin: the last value is 14, too early for errors, so the first spread around 14.5: q0.5 = 13.1, q0.9 = 26.8.
    assert result.origins.tolist() == [5]
    assert result.actual.tolist() == [[15.0, 16.0]]
    at_1, at_2 = (row for row in result.rows() if row.level == 0.5)
    median = result.values[0, 0, 0]
    assert at_1.pinball == pytest.approx(0.5 * (15.0 - median))
    assert at_1.wape == pytest.approx((15.0 - median) / 15.0)
    assert (at_1.coverage, at_2.coverage, at_2.lead_s) == (0.0, 0.0, 120.0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"horizon_bins": 0, "warm_up_bins": 1}, "want horizon_bins >= 1"),
        ({"horizon_bins": 1, "warm_up_bins": -1}, "got 1, -1 and 1"),
        ({"horizon_bins": 8, "warm_up_bins": 3}, "10 bins hold no origin after 3 bins of warm-up with 8 bins to score"),
    ],
)
def test_a_backtest_without_an_origin_is_refused(numbers, message):
    series = np.ones(10)
    with pytest.raises(InputError, match=message):
        backtest(series, lambda: ToldTheFuture(series), **numbers)


def bursty_trace(hours=6):
    rng = np.random.default_rng(4)
    rate = np.repeat(rng.gamma(1.0, 30.0, hours * 6), 10)  # requests per minute, new every 10 minutes
    per_minute = rng.poisson(rate)
    arrival_s = np.sort(np.repeat(np.arange(len(rate)) * 60.0, per_minute) + rng.uniform(0, 60, per_minute.sum()))
    service = rng.choice([Service.CONVERSATION, Service.API], len(arrival_s), p=[0.7, 0.3])
    n = len(arrival_s)
    return make_trace("bursty", arrival_s, np.full(n, 100), np.full(n, 50), duration_s=hours * 3600.0, service=service)


def run(forecaster, **more):
    return backtest_trace(bursty_trace(), forecaster, bin_s=60.0, horizon_s=300.0, rng=np.random.default_rng(7), **more)


def test_a_trace_is_scored_service_by_service_on_its_second_half():
    conversation, api = run("last-value")
    assert (conversation.service, api.service) == ("conversation", "api")
    assert conversation.result.origins.tolist() == list(range(180, 356))
    assert len(conversation.rows()) == 5 * 5
    assert conversation.gains == {}
    assert all(row.gain is None for row in conversation.rows())
    assert api.rows()[0].pinball < conversation.rows()[0].pinball


def test_the_gain_over_last_value_comes_with_an_interval():
    (single,) = run("last-value", service="api", params={"window_bins": 1})
    assert all(row.gain.low <= row.gain.value <= row.gain.high for row in single.rows())
    (reference,) = run("last-value", service="api")
    for row, of_reference in zip(single.rows(), reference.rows(), strict=True):
        assert row.gain.value == pytest.approx(1 - row.pinball / of_reference.pinball)


def test_equal_seeds_give_equal_results_and_they_are_plain_json():
    first, second = (
        [json.dumps(service.as_json(), allow_nan=False) for service in run("seasonal", params={"season_bins": 60})]
        for _ in range(2)
    )
    assert first == second
    document = json.loads(first[0])
    assert document["service"] == "conversation"
    assert document["params"] == {"season_bins": 60}
    assert document["origins"] == 176
    assert set(document["rows"][0]) == {
        "lead_bins", "lead_s", "level", "pinball", "coverage", "wape", "origins", "gain",
    }  # fmt: skip


def test_a_long_trace_is_scored_at_fewer_origins():
    (api,) = run("last-value", service="api", most_origins=40)
    assert np.diff(api.result.origins).tolist() == [5] * (len(api.result.origins) - 1)
    assert len(api.result.origins) <= 40


def test_other_quantities_can_be_forecast():
    (requests,) = run("last-value", service="api")
    (tokens,) = run("last-value", service="api", quantity="prompt_tokens")
    assert (tokens.result.actual == 100 * requests.result.actual).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"forecaster": "oracle"}, "unknown forecaster 'oracle'; known: last-value, seasonal"),
        ({"params": {"window": 3}}, "forecaster 'last-value' has no parameter 'window'"),
        ({"service": "chat"}, "unknown service 'chat'; known: conversation, api"),
        ({"quantity": "tokens"}, "unknown quantity 'tokens'; known: requests, prompt_tokens, output_tokens"),
        ({"horizon_s": 0.0}, "horizon_s must be a positive number of seconds, got 0.0"),
        ({"warm_up_fraction": 1.0}, "want 0 <= warm_up_fraction < 1"),
        ({"bin_s": 7200.0, "horizon_s": 20_000.0}, "hold no origin"),
        ({"bin_s": 0.0}, "bin_s must be a positive number of seconds, got 0.0"),
    ],
)
def test_what_is_wrong_is_told(arguments, message):
    given_arguments = {"forecaster": "last-value", "bin_s": 60.0, "horizon_s": 300.0, **arguments}
    name = given_arguments.pop("forecaster")
    with pytest.raises(InputError, match=message):
        backtest_trace(bursty_trace(), name, rng=np.random.default_rng(0), **given_arguments)


def test_a_service_without_requests_is_named_with_those_that_have_some():
    trace = make_trace("quiet", [1.0, 2.0], [1, 1], [1, 1], duration_s=600.0)
    with pytest.raises(InputError, match=r"trace 'quiet': has no request of service 'api'; it has: conversation"):
        backtest_trace(trace, "last-value", bin_s=60.0, horizon_s=60.0, service="api", rng=np.random.default_rng(0))
