"""Runs of the load generator whose event loop stands still now and then, drawn by a number and played in real time."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loadgen.client import Exchange, StreamClient
from loadgen.client_config import ClientConfig
from loadgen.dispatcher import Dispatcher
from loadgen.http_stream import Call, _Connection
from loadgen.pacing import ClosedLoop, WaitingTurns
from loadgen.plan import PlannedRequest, header_lines
from loadgen.precise_timer import LinuxTimer
from loadgen.records import RequestRecord
from loadgen.retries import Attempt, Retrying
from loadgen.run_clock import RunClock
from loadgen.schedule import OpenLoop, Schedule
from loadgen.sender import Sender, SenderProgress
from loadgen.target import Target

# Nothing here takes a second of its own; a busy machine may hold all of it up.
END_BOUND_S = 60.0
_STALLED: tuple[tuple[type, str], ...] = (
    (_Connection, "connection_made"),
    (_Connection, "connection_lost"),
    (_Connection, "data_received"),
    (_Connection, "send"),
    (Exchange, "begin"),
    (Exchange, "_on_time"),
    (Exchange, "ended"),
    (Dispatcher, "_send_due"),
    (Dispatcher, "_read"),
    (LinuxTimer, "_go_off"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """What one run is like; instants from its start.

    Attributes:
        new_loop: the event loop's kind.
        stalls: when the loop is stopped, for how long, and over how many of its turns again.
        point: what is stalled whenever it is called, but for the turns whose length is 0.
        point_stalls_s: for how long, one call after the other, from the beginning again after the last.
        stop_s: when the run is ended; None = of itself.
    """

    new_loop: Callable[[], asyncio.AbstractEventLoop]
    plan: tuple[PlannedRequest, ...]
    pacing: str
    client: ClientConfig
    stalls: tuple[tuple[float, float, int], ...]
    point: tuple[type, str]
    point_stalls_s: tuple[float, ...]
    stop_s: float | None


@dataclass
class Played:
    """What came of a run.

    Attributes:
        seen: how often what is dangerous has happened.
        troubles: what the loop was told of, that nobody had expected.
        left: of tasks and connections after the client was closed.
    """

    records: list[RequestRecord] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    sent_s: dict[int, list[float]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


def draw_case(number: int, *, most_requests: int = 40) -> Case:
    """Draw case `number`; the same number gives the same case."""
    rng = random.Random(number)
    span_s = rng.choice((0.0, 0.05, 0.2))
    timeout_s = rng.choice((0.001, 0.003, 0.01, 0.03, float("inf")))
    deadline_s = rng.choice((0.002, 0.01, 0.03, 0.1, 0.3))
    instants_s = sorted(rng.uniform(0.0, span_s) for _ in range(rng.randint(1, most_requests)))
    first_id = rng.randrange(1000)
    plan = tuple(_request(first_id + at, instant_s, deadline_s, timeout_s) for at, instant_s in enumerate(instants_s))
    return Case(
        new_loop=rng.choice((uvloop.new_event_loop, uvloop.new_event_loop, asyncio.new_event_loop)),
        plan=plan,
        pacing=rng.choice(("arrival", "arrival", "turn", "user")),
        client=ClientConfig(
            max_attempts=rng.choice((1, 2, 4)), timeout_s=timeout_s, backoff_s=rng.choice((0.0, 0.01, 0.05))
        ),
        stalls=tuple(
            (rng.uniform(0.0, span_s + 0.1), rng.choice((0.005, 0.02, 0.05, 0.15, 0.3)), rng.choice((1, 1, 3)))
            for _ in range(rng.randint(0, 3))
        ),
        point=rng.choice(_STALLED),
        point_stalls_s=tuple(rng.choice((0.0, 0.0, 0.001, 0.003, 0.01, 0.03)) for _ in range(rng.randint(1, 7))),
        stop_s=rng.choice((None, None, rng.uniform(0.0, span_s + 0.3))),
    )


def play_case(case: Case, url: str) -> Played:
    """Play it against the server at `url`. Raises TimeoutError where it does not end."""
    played = Played()
    with asyncio.Runner(loop_factory=case.new_loop) as runner, _stalled(case), _watched(played.seen):
        runner.run(asyncio.wait_for(_run(case, url, played), END_BOUND_S))
    return played


async def _run(case: Case, url: str, played: Played) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: played.troubles.append(repr(context)))
    schedule = _schedule(case)
    retrying = schedule if isinstance(schedule, Retrying) else None

    def on_record(record: RequestRecord) -> None:
        attempt, last = (None, record) if retrying is None else retrying.settle(record)
        played.attempts.extend([attempt] if attempt else [])
        played.records.extend([last] if last else [])

    def on_sent(request: PlannedRequest, sent_s: float) -> None:
        played.sent_s.setdefault(request.request_id, []).append(sent_s)

    async with StreamClient(Target(url, "m")) as client:
        dispatcher = Dispatcher(client, schedule, RunClock(time.monotonic()), on_sent, on_record)
        for at_s, length_s, turns in case.stalls:
            loop.call_later(at_s, _stall, loop, length_s, turns)
        if case.stop_s is not None:
            loop.call_later(case.stop_s, dispatcher.stop)
        await dispatcher.run()
    played.left = {
        "connections": client.open_connections,
        "tasks": len(asyncio.all_tasks() - {asyncio.current_task()}) - 1,  # that of wait_for
    }


def play_sender(case: Case, url: str, part: Path) -> SenderProgress:
    """Have a sender play it in a thread of its own; its records go to `part`. Raises TimeoutError as above."""
    sender, given = Sender(Target(url, "m"), part), list[SenderProgress]()
    sender.load(_schedule(case))
    thread = threading.Thread(target=lambda: given.append(sender.run()), daemon=True)
    with _stalled(case):
        thread.start()
        sender.wait_ready()
        sender.start(time.time())
        if case.stop_s is not None:
            time.sleep(case.stop_s)
            sender.stop()
        thread.join(END_BOUND_S)
    if thread.is_alive():
        raise TimeoutError
    return given[0]


def _stall(loop: asyncio.AbstractEventLoop, length_s: float, turns: int) -> None:
    time.sleep(length_s)
    if turns > 1:
        loop.call_soon(_stall, loop, length_s, turns - 1)


@contextmanager
def _stalled(case: Case) -> Iterator[None]:
    """Have the loop stand still after each call of what the case names."""
    owner, name = case.point
    method, calls = getattr(owner, name), 0

    def stalled(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        given = method(*arguments, **named)
        time.sleep(case.point_stalls_s[calls % len(case.point_stalls_s)])
        return given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stalled)
        yield


@contextmanager
def _watched(seen: Counter[str]) -> Iterator[None]:
    """Count what stalls make happen."""
    abort = Call.abort

    def watched(call: Call) -> None:
        if call.opening is not None and not call.opening.done():
            waited_for = getattr(call.opening, "_fut_waiter", None)
            if waited_for is None:
                seen["given up before it began to connect"] += 1
            elif waited_for.done():
                seen["given up when its connection was made"] += 1
            else:
                seen["given up while connecting"] += 1
        elif call.connection is not None:
            seen["given up with a connection"] += 1
        abort(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Call, "abort", watched)
        yield


def _request(number: int, scheduled_s: float, deadline_s: float, timeout_s: float) -> PlannedRequest:
    lines = header_lines({"x-request-id": f"t-{number}", "content-length": "2"})
    return PlannedRequest(
        number, "api", "m", 1, 2, scheduled_s, deadline_s, "/v1/completions", lines, b"{}", timeout_s=timeout_s
    )


def _schedule(case: Case) -> Schedule:
    plan: Schedule
    if case.pacing == "turn":
        sessions = [at % 3 for at in range(len(case.plan))]
        plan = WaitingTurns(case.plan, sessions, [0.0 if at % 2 else float("nan") for at in range(len(case.plan))])
    elif case.pacing == "user":
        plan = ClosedLoop(case.plan, users=4, think_s=0.001, duration_s=0.3)
    else:
        plan = OpenLoop(case.plan)
    return plan if case.client.max_attempts == 1 else Retrying(plan, case.client, seed=1)
