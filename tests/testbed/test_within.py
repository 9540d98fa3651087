"""What never ends is left behind after its time; what ends gives what it has."""

import threading

import pytest

from testbed.within import within


def fail(error: Exception) -> None:
    raise error


def test_what_ends_in_time_gives_its_result() -> None:
    assert within(30.0, lambda: 7) == 7


@pytest.mark.parametrize("error", [ValueError("not so"), TimeoutError("of its own")])
def test_what_fails_raises_its_own_error(error: Exception) -> None:
    with pytest.raises(type(error), match=f"^{error}$"):
        within(30.0, lambda: fail(error))


def test_what_never_ends_is_left_behind() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"^no end within 0\.05 s$"):
        within(0.05, never.wait)
    never.set()
