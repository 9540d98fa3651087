"""Bins of time cover a run, are round, and hold enough."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from testbed.report.time_bins import bins_holding, bins_over


@given(st.floats(0, 1e9), st.integers(1, 700))
def test_bins_cover_the_run_and_are_not_many_more_than_asked_for(duration_s: float, most_bins: int) -> None:
    bins = bins_over(duration_s, most_bins=most_bins)
    assert bins.count * bins.width_s > duration_s
    assert bins.count <= most_bins + 1
    assert bins.count_of(np.array([0.0, duration_s])).sum() == 2


def test_bins_hold_enough_requests_to_show_more_than_noise() -> None:
    assert bins_holding(1000, 1000.0, per_bin=10, least_bins=60).width_s == 10
    assert bins_holding(10, 600.0, per_bin=10, least_bins=60).width_s == 10
    assert bins_holding(10**6, 600.0, per_bin=10, least_bins=60).width_s == 1
