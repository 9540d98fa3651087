"""Numbers, instants, lengths and ticks as a person reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.report.axes import log_ticks, round_ticks
from testbed.report.number_text import failure_percent, latency, percent, quantity
from testbed.report.time_bins import instant, length


def test_instants_and_lengths_read_as_on_a_clock() -> None:
    assert [instant(time_s) for time_s in (0, 25.4, 85, 3725, 90061, 183600)] == [
        "0:00",
        "0:25",
        "1:25",
        "1:02:05",
        "day 2, 1:01",
        "day 3, 3:00",
    ]
    assert [length(duration_s) for duration_s in (0.25, 12, 60, 90, 270, 3600, 9000, 86400, 864000)] == [
        "0.25 s",
        "12 s",
        "1 min",
        "90 s",
        "4.5 min",
        "1 h",
        "2.5 h",
        "1 day",
        "10 days",
    ]


def test_shares_are_never_rounded_to_a_perfection_that_was_not_reached() -> None:
    assert [percent(share) for share in (1.0, 0.99996, 0.9999, 0.987, 0.0)] == [
        "100 %",
        "99.99 %",
        "99.99 %",
        "98.7 %",
        "0 %",
    ]
    assert [failure_percent(share) for share in (0.0, 1e-6, 0.013, 1.0)] == ["0 %", "0.001 %", "1.3 %", "100 %"]
    assert [latency(value_s) for value_s in (None, 0.0432, 1.25, 62)] == ["\N{EN DASH}", "43.2 ms", "1.25 s", "62 s"]
    assert [quantity(value) for value in (0.3097, 1240, 0, 12.0)] == ["0.31", "1,240", "0", "12"]


@given(st.floats(1e-3, 1e7), st.booleans())
def test_ticks_are_few_round_and_inside(high: float, whole: bool) -> None:
    ticks = round_ticks(high, whole=whole)
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] <= max(high, 1.0) * 1.0001
    if whole:
        assert all(tick == int(tick) for tick in ticks)


def test_few_decades_get_ticks_between_the_powers_of_ten() -> None:
    assert log_ticks(0.05, 0.9) == pytest.approx([0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
    assert log_ticks(0.001, 90) == pytest.approx([0.001, 0.01, 0.1, 1.0, 10.0, 100.0])
