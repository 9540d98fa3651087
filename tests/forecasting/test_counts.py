"""Counts per bin: complete half-open bins, by service, and nothing lost but the cut-off tail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.counts import complete_bins, count_arrivals, rebin
from loadgen.errors import InputError
from loadgen.trace import Service, make_trace


def trace_of(arrival_s, *, duration_s, service=Service.CONVERSATION, prompt_tokens=3, output_tokens=5):
    n = len(arrival_s)
    return make_trace(
        "test",
        arrival_s,
        np.full(n, prompt_tokens),
        np.full(n, output_tokens),
        duration_s=duration_s,
        service=np.broadcast_to(np.asarray(service), n),
    )


def test_bins_are_half_open_and_split_by_service():
    services = [Service.CONVERSATION, Service.API, Service.CONVERSATION, Service.CONVERSATION]
    counts = count_arrivals(trace_of([0.0, 1.0, 10.0, 19.9], duration_s=20.0, service=services), 10.0)
    assert counts["conversation"].requests.tolist() == [1.0, 2.0]
    assert counts["conversation"].prompt_tokens.tolist() == [3.0, 6.0]
    assert counts["conversation"].output_tokens.tolist() == [5.0, 10.0]
    assert counts["api"].requests.tolist() == [1.0, 0.0]


def test_a_quiet_tail_is_counted_and_a_cut_off_bin_is_not():
    counts = count_arrivals(trace_of([1.0, 34.0], duration_s=35.0), 10.0)
    assert counts["conversation"].requests.tolist() == [1.0, 0.0, 0.0]
    assert len(counts["conversation"]) == 3


def test_rounding_costs_no_bin():
    assert complete_bins(trace_of([0.0], duration_s=0.3), 0.1) == 3


@given(
    st.lists(st.floats(0, 99.9), max_size=60),
    st.sampled_from([0.1, 0.3, 1.0, 7.0, 33.3, 100.0]),
    st.randoms(use_true_random=False),
)
def test_every_request_before_the_last_complete_bin_ends_is_counted_once(arrivals, bin_s, random):
    arrival_s = np.sort(np.array(arrivals, dtype=np.float64))
    service = np.array([random.choice(list(Service)) for _ in arrivals], dtype=np.int8)
    trace = trace_of(arrival_s, duration_s=100.0, service=service)
    counts = count_arrivals(trace, bin_s)
    end_s = len(counts["api"]) * bin_s
    for kind in Service:
        expected = int(((arrival_s < end_s) & (service == kind)).sum())
        assert counts[kind.label].requests.sum() == expected
        assert counts[kind.label].prompt_tokens.sum() == 3 * expected
        assert counts[kind.label].output_tokens.sum() == 5 * expected


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(1, 7))
def test_rebin_sums_runs_and_drops_an_incomplete_one(counts, factor):
    expected = [float(sum(counts[i : i + factor])) for i in range(0, len(counts) - factor + 1, factor)]
    assert rebin(np.array(counts, dtype=np.float64), factor).tolist() == expected


def test_counting_in_long_bins_is_rebinning_short_ones():
    rng = np.random.default_rng(1)
    trace = trace_of(np.sort(rng.uniform(0, 600, 500)), duration_s=600.0)
    short, long = count_arrivals(trace, 1.0)["conversation"], count_arrivals(trace, 60.0)["conversation"]
    assert short.rebinned(60).requests.tolist() == long.requests.tolist()
    assert short.rebinned(60).output_tokens.tolist() == long.output_tokens.tolist()
    assert short.rebinned(60).bin_s == 60.0


@pytest.mark.parametrize("bin_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bin_must_have_a_length(bin_s):
    with pytest.raises(InputError, match="bin_s must be a positive number of seconds"):
        count_arrivals(trace_of([0.0], duration_s=5.0), bin_s)


def test_a_trace_shorter_than_a_bin_is_refused():
    with pytest.raises(InputError, match=r"trace 'test': lasts 5 s, less than one bin of 60 s; use shorter bins"):
        count_arrivals(trace_of([0.0], duration_s=5.0), 60.0)


def test_absurdly_many_bins_are_refused():
    with pytest.raises(InputError, match="use longer bins"):
        count_arrivals(trace_of([0.0], duration_s=1e6), 1e-3)


def test_rebin_refuses_a_factor_below_one():
    with pytest.raises(InputError, match="factor must be a whole number >= 1, got 0"):
        rebin(np.zeros(3), 0)
