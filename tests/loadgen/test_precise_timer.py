"""The timer goes off once for each time it is set, never early, on each kind of loop."""

import asyncio
import sys
import time
from collections.abc import Callable

import pytest
import uvloop

from loadgen.precise_timer import LinuxTimer, LoopTimer, Timer, open_timer
from loadgen.run_clock import RunClock

NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
KINDS = pytest.mark.parametrize("kind", ["system", "loop"])


def a_timer(kind: str, callback: Callable[[], None]) -> Timer:
    """The timer of the running loop, of either kind."""
    loop = asyncio.get_running_loop()
    if kind == "loop":
        return LoopTimer(loop, RunClock(0.0), callback)
    if sys.platform != "linux":
        pytest.skip("only Linux has it")
    return LinuxTimer(loop, callback)


@LOOPS
@KINDS
def test_it_goes_off_once_for_each_time_it_is_set_and_never_early(new_loop: NewLoop, kind: str) -> None:
    async def play() -> list[tuple[float, float]]:
        seen: list[tuple[float, float]] = []
        due_s = [time.monotonic()]
        timer = a_timer(kind, lambda: seen.append((due_s[0], time.monotonic())))
        for wait_s in (0.0037, 0.0, 0.0101, -1.0, 0.0004):
            due_s[0] = time.monotonic() + wait_s
            timer.set(due_s[0])
            before = len(seen)
            while len(seen) == before:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        timer.close()
        return seen

    with asyncio.Runner(loop_factory=new_loop) as runner:
        seen = runner.run(play())
    assert len(seen) == 5
    assert all(at_s >= due_s for due_s, at_s in seen)


@LOOPS
@KINDS
def test_set_anew_it_forgets_the_instant_before_and_cancelled_it_stays_silent(new_loop: NewLoop, kind: str) -> None:
    async def play() -> list[float]:
        seen: list[float] = []
        timer = a_timer(kind, lambda: seen.append(time.monotonic()))
        start_s = time.monotonic()
        timer.set(start_s + 0.01)
        timer.set(start_s + 0.05)
        await asyncio.sleep(0.03)
        assert seen == []
        await asyncio.sleep(0.05)
        assert len(seen) == 1
        timer.set(time.monotonic() + 0.01)
        timer.cancel()
        timer.cancel()
        await asyncio.sleep(0.03)
        timer.set(time.monotonic() + 0.01)
        timer.close()
        timer.close()
        await asyncio.sleep(0.03)
        return seen

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert len(runner.run(play())) == 1


async def test_a_clock_that_is_not_the_machines_gets_the_loops_timer() -> None:
    loop = asyncio.get_running_loop()
    timer = open_timer(loop, RunClock(0.0, loop.time), lambda: None)
    assert isinstance(timer, LoopTimer)
    own = open_timer(loop, RunClock(0.0), lambda: None)
    assert isinstance(own, LinuxTimer if sys.platform == "linux" else LoopTimer)
    own.close()
