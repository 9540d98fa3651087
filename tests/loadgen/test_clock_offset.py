"""The offset between two clocks is found to half of the shortest round trip."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock_offset import measure_clock_offset


class Pair:
    """Our clock, and theirs, which is ahead; a question takes its time there and back."""

    def __init__(self, ahead_s: float, trips_s: list[tuple[float, float]]) -> None:
        self.now_s = 1000.0
        self._ahead_s, self._trips_s = ahead_s, itertools.cycle(trips_s)

    def ours_s(self) -> float:
        return self.now_s

    def ask(self) -> float:
        there_s, back_s = next(self._trips_s)
        self.now_s += there_s
        theirs_s = self.now_s + self._ahead_s
        self.now_s += back_s
        return theirs_s


def test_equal_ways_there_and_back_give_the_offset_itself() -> None:
    pair = Pair(-3.25, [(0.004, 0.004)])
    assert measure_clock_offset(pair.ask, pair.ours_s).offset_s == pytest.approx(-3.25, abs=1e-9)


def test_the_shortest_trip_counts_whatever_the_others_were() -> None:
    pair = Pair(0.5, [(0.2, 0.0), (0.001, 0.001), (0.0, 0.3)])
    assert measure_clock_offset(pair.ask, pair.ours_s).offset_s == pytest.approx(0.5, abs=1e-9)


@given(
    ahead_s=st.floats(-100, 100),
    trips_s=st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)), min_size=1, max_size=20),
)
def test_it_is_never_off_by_more_than_half_of_the_shortest_trip(
    ahead_s: float, trips_s: list[tuple[float, float]]
) -> None:
    pair = Pair(ahead_s, trips_s)
    shortest_s = min(there_s + back_s for there_s, back_s in trips_s)
    measured = measure_clock_offset(pair.ask, pair.ours_s)
    assert measured.uncertainty_s == pytest.approx(shortest_s / 2, abs=1e-9)
    assert abs(measured.offset_s - ahead_s) <= measured.uncertainty_s + 1e-9
