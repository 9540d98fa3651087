"""The one rule of how long clients wait before they try again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.client_config import pause_s


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [pause_s(0.5, 8.0, 0.25, 0.0, attempts, 0.0) for attempts in range(1, 8)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_pause_is_shortened_by_chance_and_lengthened_by_what_the_server_says() -> None:
    assert pause_s(2.0, 8.0, 0.25, 0.0, 1, 0.5) == pytest.approx(2.0 - 0.125 * 2.0)
    assert pause_s(2.0, 8.0, 0.25, 5.0, 1, 0.5) == 5.0
    assert pause_s(2.0, 8.0, 0.25, 1.0, 1, 0.5) == 1.75


@given(
    backoff_s=st.floats(0, 10),
    longest_s=st.floats(0, 100),
    jitter=st.floats(0, 1),
    told_s=st.floats(0, 100),
    attempts=st.integers(1, 1000),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_pause_is_longer_than_the_longest_or_what_the_server_says_nor_shorter_than_that(
    backoff_s: float, longest_s: float, jitter: float, told_s: float, attempts: int, chance: float
) -> None:
    assert told_s <= pause_s(backoff_s, longest_s, jitter, told_s, attempts, chance) <= max(longest_s, told_s)
