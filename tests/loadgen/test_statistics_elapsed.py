"""Elapsed times count where they are known and the request did not fail."""

import numpy as np
import pytest

from loadgen.statistics.elapsed import describe_elapsed
from loadgen.trace import Trace, make_trace


def trace_of(elapsed_s: list[float] | None, output_is_limit: list[bool] | None = None) -> Trace:
    columns = [0, 1, 2, 3], [1, 1, 1, 1], [10, 0, 40, 20]
    return make_trace("t", *columns, duration_s=9.0, elapsed_s=elapsed_s, output_is_limit=output_is_limit)


def test_unknown_and_failed_requests_are_left_out() -> None:
    found = describe_elapsed(trace_of([2.0, 50.0, 4.0, np.nan]))
    assert found is not None
    assert found.requests == 2
    assert found.quantiles_s["p50"] == 3.0
    assert found.per_output_token_quantiles_s["p50"] == pytest.approx(0.15)
    assert found.per_output_token_s.counts.sum() == 2


def test_an_output_that_is_only_a_limit_has_no_time_per_token() -> None:
    found = describe_elapsed(trace_of([2.0, 50.0, 4.0, 1.0], [False, False, True, False]))
    assert found is not None
    assert found.requests == 2


def test_nothing_is_known_of_a_trace_without_elapsed_times() -> None:
    assert describe_elapsed(trace_of(None)) is None
    assert describe_elapsed(trace_of([np.nan] * 4)) is None
