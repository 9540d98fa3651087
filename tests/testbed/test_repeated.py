"""What is done beside a run is done again and again, in a thread that ends with it."""

import threading
import time

from testbed.repeated import Repeated


def test_it_is_done_again_and_again_until_the_end_and_not_afterwards() -> None:
    done: list[str] = []
    with Repeated(lambda: done.append(threading.current_thread().name), 0.005, "asking"):
        end_s = time.monotonic() + 10
        while len(done) < 5 and time.monotonic() < end_s:
            time.sleep(0.005)
    count = len(done)
    assert count >= 5
    assert set(done) == {"asking"}
    assert "asking" not in [thread.name for thread in threading.enumerate()]
    time.sleep(0.03)
    assert len(done) == count


def test_the_end_waits_for_what_is_being_done_and_for_no_interval() -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.05)
        ended.set()

    with Repeated(slow, 0.001, "asking"):
        assert begun.wait(10)
    assert ended.is_set()
    with Repeated(slow, 3600.0, "asking"):
        pass
