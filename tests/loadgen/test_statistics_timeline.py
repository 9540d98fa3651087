"""Bins of time hold what arrived in them, and no more of them than can be drawn."""

import numpy as np
import pytest

from loadgen.statistics.timeline import bin_counts, busy_bin_counts, draw_timeline
from loadgen.trace import make_trace


@pytest.mark.parametrize(
    ("duration_s", "bin_s", "bins"),
    [
        (0.5, 1, 1),
        (3000, 1, 3000),
        (3001, 10, 301),
        (86_400, 60, 1440),
        (61 * 86_400, 3600, 1464),
        (1e9, 86_400, 11_575),
    ],
)
def test_the_shortest_bins_that_can_be_drawn_are_taken(duration_s: float, bin_s: float, bins: int) -> None:
    last_s = np.nextafter(duration_s, 0)
    found = draw_timeline(make_trace("t", [0.0, last_s], [3, 4], [0, 9], duration_s=duration_s))
    assert (found.bin_s, len(found.requests)) == (bin_s, bins)
    assert (found.prompt_tokens[-1], found.output_tokens[-1]) == (7 if bins == 1 else 4, 9)
    assert (found.failures[0], found.requests.sum()) == (1, 2)


def test_complete_bins_leave_out_the_rest_of_the_recording() -> None:
    arrival_s = np.array([0.0, 60.0, 119.9, 125.0, 180.0, 181.0])
    assert bin_counts(arrival_s, 200.0, 60.0).tolist() == [1, 2, 1]
    assert bin_counts(arrival_s, 59.0, 60.0).tolist() == []
    assert bin_counts(arrival_s[:4], np.nextafter(180.0, 0), 60.0).tolist() == [1, 2, 1], "a rounding short of complete"


def test_busy_bins_are_the_bins_with_arrivals() -> None:
    arrival_s = np.sort(np.random.default_rng(0).uniform(0, 1000, 300))
    counts = np.bincount(arrival_s.astype(int))
    assert busy_bin_counts(arrival_s, 1.0).tolist() == counts[counts > 0].tolist()
    assert busy_bin_counts(arrival_s[:0], 1.0).tolist() == []
