"""Arrivals as the policy sees them: in bins that are complete."""

import pytest

from autoscaler.simulator.snapshots import ArrivalCounts
from loadgen.trace import make_trace

SERVICES = ("conversation", "api")


@pytest.mark.parametrize("idle_s", [0.0, 3.4])
def test_bins_hold_the_arrivals_of_their_time_and_none_before_and_after_the_trace(idle_s: float) -> None:
    busy_s = [0.0] * 300 + [1.0, 4.0, 4.9]
    trace = make_trace("uneven", busy_s, [1] * 303, [1] * 303, duration_s=9.0)
    counts = ArrivalCounts(trace, SERVICES, 1.0, idle_s)
    assert counts.first_bin == (-3 if idle_s else 0)
    expected = {-3: 0.0, -2: 0.0, -1: 0.0, 0: 300.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 2.0, 5: 0.0, 6: 0.0, 7: 0.0}
    for first in range(counts.first_bin, 8):
        for end in range(first, 8):
            bins = counts.bins("conversation", first, end)
            assert bins.tolist() == [expected[place] for place in range(first, end)]
            assert bins.dtype == "float64"
    assert counts.bins("api", 0, 3).tolist() == [0.0] * 3
