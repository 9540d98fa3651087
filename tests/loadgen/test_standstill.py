"""How long an event loop stood still, by how late its beats came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.standstill import Standstill, worst_standstill


def test_beats_that_come_in_time_say_that_nothing_was_late() -> None:
    found = Standstill()
    for beat in range(100):
        found = found.after_beat(0.25 * beat, 0.25 * beat + 0.09)  # tolerated
    assert found.late_s == 0.0
    assert found.longest_s == pytest.approx(0.09)


def test_a_beat_that_was_not_waited_for_says_nothing() -> None:
    assert Standstill().after_beat(5.0, 4.9) == Standstill()


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=20))
def test_what_is_due_at_any_instant_would_be_late_for_as_much_of_the_time_as_is_said(stood_s: list[float]) -> None:
    """Against instants a millisecond apart in each standstill: those whose turn comes over 0.1 s later."""
    found = Standstill()
    late_ms = 0
    now_s = 0.0
    for each_s in stood_s:
        due_s, now_s = now_s + 0.25, now_s + 0.25 + each_s
        found = found.after_beat(due_s, now_s)
        late_ms += sum(each_s - 0.001 * instant > 0.1 for instant in range(int(1000 * each_s)))
    assert found.late_s == pytest.approx(late_ms / 1000, abs=0.002 * len(stood_s))
    assert found.longest_s == pytest.approx(max(stood_s), abs=1e-6)


def test_of_several_senders_the_most_of_each_kind_counts() -> None:
    assert worst_standstill([Standstill(1.0, 0.5), Standstill(0.4, 0.5), Standstill(0.2, 0.3)]) == Standstill(1.0, 0.5)
    assert worst_standstill([]) == Standstill()
