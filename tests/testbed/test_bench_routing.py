"""The comparison of routings serves the same requests under each, and counts failures as the worst."""

from dataclasses import replace

import numpy as np

from autoscaler.simulator.router_state import Routing
from loadgen.prefix import PrefixBlocks
from testbed.bench_routing import RoutingSetup, bench_routing, routing_table, servable
from testbed.bench_simulator import bursty_trace

SETUP = RoutingSetup("a100-llama-2-13b", 2, bursty_trace(300, 4.0), 3.2, 1)


def test_every_routing_serves_the_trace_and_easy_traffic_meets_the_promise() -> None:
    outcomes = bench_routing(SETUP, lambda _: None)
    assert [outcome.routing for outcome in outcomes] == list(Routing)
    for outcome in outcomes:
        assert 0 < outcome.ttft_p50_s < outcome.ttft_p99_s < 2.0
        assert outcome.attainment_fraction == 1.0
        assert outcome.failed_fraction == outcome.found_fraction == 0.0
    assert routing_table(outcomes, "test").row_count == len(Routing)


def test_a_prefix_cache_is_on_where_the_trace_has_prefixes() -> None:
    assert SETUP.trace is not None
    first = np.arange(len(SETUP.trace) + 1)  # every prompt begins with the same 16 tokens, and one with no more fits
    alike = replace(SETUP.trace, prefix=PrefixBlocks(16, first, np.zeros(len(SETUP.trace), np.int64)))
    outcomes = bench_routing(replace(SETUP, trace=alike), lambda _: None)
    assert all(outcome.found_fraction > 0 for outcome in outcomes)


def test_requests_longer_than_the_model_takes_are_left_out() -> None:
    assert SETUP.trace is not None
    longer = replace(SETUP.trace, prompt_tokens=SETUP.trace.prompt_tokens + np.int32(2000))
    kept = servable(longer, SETUP.hardware)
    assert 0 < len(kept) < len(longer)
    assert (kept.prompt_tokens + kept.output_tokens).max() <= 4096
