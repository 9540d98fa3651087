"""A sender that is frozen or stuck is told from one that is slow, that has nothing to do, or whose machine stalled."""

from collections.abc import Callable

import pytest

from loadgen.sender import SenderProgress
from loadgen.sender_silence import LONGEST_SILENCE_S, SenderSilence

DEADLINE_S = 30.0
Told = Callable[[float], SenderProgress]


def lost_at(told: Told, seconds: int, look_every_s: float = 1.0) -> tuple[float, str] | None:
    """When a sender that tells `told` of each instant is found to be lost, and what is said; None = it is not."""
    now_s = 0.0
    silence = SenderSilence(DEADLINE_S, lambda: now_s)
    while now_s < seconds:
        now_s += look_every_s
        if 7 in (lost := silence.look({7: told(now_s)})):
            return now_s, lost[7]
    return None


def frozen(since_s: float, until_s: float) -> Told:
    """One with requests on their way that stands still between two instants, of which it tells nothing meanwhile."""

    def told(now_s: float) -> SenderProgress:
        heard_s = since_s if since_s <= now_s < until_s else now_s
        return SenderProgress(sent=int(10 * heard_s) + 5, finished=int(10 * heard_s), as_of_s=heard_s)

    return told


def test_a_sender_that_stands_still_for_half_a_minute_is_not_lost() -> None:
    assert lost_at(frozen(10.0, 45.0), 300) is None


def test_a_sender_that_stands_still_for_good_is_lost_after_a_minute() -> None:
    assert LONGEST_SILENCE_S == 60.0
    assert lost_at(frozen(10.0, 1e9), 300) == (70.0, "no sign of life for 60 s")


def test_a_sender_that_never_said_a_word_is_lost_too() -> None:
    assert lost_at(lambda _now_s: SenderProgress(), 300) == (61.0, "no sign of life for 60 s")


def test_a_driver_that_slept_through_it_loses_nobody() -> None:
    """Two looks ten minutes apart: the first sign after them comes with the third."""
    assert lost_at(frozen(0.0, 1201.0), 3000, look_every_s=600.0) is None


def test_requests_that_outlive_their_deadlines_by_a_minute_are_the_sign_of_a_sender_that_is_stuck() -> None:
    found = lost_at(lambda now_s: SenderProgress(sent=9, finished=4, as_of_s=now_s), 300)
    assert found == (91.0, "ended no request for 90 s, although it had sent some")


@pytest.mark.parametrize("sent", [0, 9])
def test_a_sender_may_wait_for_its_next_request_for_as_long_as_it_likes(sent: int) -> None:
    assert lost_at(lambda now_s: SenderProgress(sent=sent, finished=sent, as_of_s=now_s), 3000) is None


def test_one_request_that_ends_now_and_then_is_enough() -> None:
    assert lost_at(lambda now_s: SenderProgress(sent=90, finished=int(now_s / 80), as_of_s=now_s), 3000) is None
