"""Histograms hold every value above 0, and quantiles are those of the reference."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadgen.statistics.spread import log_histogram, quantiles, spread


@given(st.lists(st.floats(0, 1e9), max_size=100))
def test_a_histogram_holds_every_value_above_0_once(values: list[float]) -> None:
    found = log_histogram(np.array(values))
    positive = [value for value in values if value > 0]
    assert found.counts.sum() == len(positive)
    assert np.all(np.diff(found.edges) > 0)
    if positive:
        assert found.edges[0] == min(positive)
        assert found.edges[-1] > max(positive)


def test_values_that_are_all_alike_fill_one_bin() -> None:
    assert log_histogram(np.full(7, 3.0)).counts.tolist() == [7]


def test_quantiles_and_spread_by_name() -> None:
    values = np.arange(101.0)
    assert quantiles(values) == {"p05": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99}
    assert quantiles(values[:0]) == {}
    found = spread([4.0, 1.0, 2.0])
    assert (found.low, found.median, found.high) == (1.0, 2.0, 4.0)
