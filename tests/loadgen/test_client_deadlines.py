"""One request whose deadline passes: where it was then, and that its connection is closed."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from loadgen.client import Exchange, StreamClient, send_request
from loadgen.records import Cause, Status
from loadgen.run_clock import RunClock
from loadgen.schedule import OpenLoop
from loadgen.target import Target
from tests.loadgen.misbehaving_server import HEAD, TOKEN, chunk
from tests.loadgen.one_request import DONE, LATE_S, error_body, request_for, send
from tests.loadgen.virtual_loop import Answer
from tests.loadgen.virtual_run import play, request_at


async def test_deadline_before_the_first_token_is_in_the_queue(server: Any) -> None:
    server.answer((2, server.token("a") + DONE))
    record = await send(server.url, request_for(deadline_s=0.2))
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE)
    assert 0.19 <= record.finished_s <= 0.2 + LATE_S


async def test_the_server_has_the_last_word_on_why_the_deadline_passed(server: Any) -> None:
    server.answer((0.3, error_body("no_ready_replica", code=504)), status=504)
    record = await send(server.url, request_for(deadline_s=0.2))
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.NO_READY_REPLICA)


async def test_an_answer_after_the_deadline_is_timed_out_even_if_it_is_whole(server: Any) -> None:
    server.answer((0.3, server.token("a") + DONE))
    record = await send(server.url, request_for(deadline_s=0.2))
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE)
    assert record.finished_s >= 0.3


async def test_a_first_token_after_the_deadline_ends_the_stream(server: Any) -> None:
    server.answer((0.3, server.token("a")), (0.4, server.token("b")), (2, DONE))
    record = await send(server.url, request_for(deadline_s=0.2))
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE)
    await asyncio.sleep(0.1)
    assert server.asks[0].gone_s is not None
    assert server.asks[0].gone_s - server.asks[0].arrived_s <= 0.4 + LATE_S


async def test_deadline_after_the_first_token_is_in_the_engine_and_closes_the_connection(server: Any) -> None:
    server.script_for = server.stream(gap_s=0.1)
    clock = RunClock(time.monotonic())
    record = await send(server.url, request_for(tokens=50, deadline_s=0.25), clock)
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE)
    assert record.output_tokens == len(server.asks[0].written_s)
    await asyncio.sleep(0.1)
    assert server.asks[0].gone_s is not None
    assert server.asks[0].gone_s - clock.start_monotonic_s <= 0.25 + LATE_S


async def test_a_request_that_was_sent_late_is_open_for_its_whole_time_from_the_sending(server: Any) -> None:
    server.script_for = server.stream(gap_s=0.02)
    began_s = time.monotonic()
    record = await send(server.url, request_for(tokens=100, deadline_s=0.4), RunClock(began_s - 0.3))
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE)
    assert 0.4 <= time.monotonic() - began_s <= 0.4 + LATE_S
    assert record.sent_s is not None
    assert record.finished_s == record.sent_s + 0.4


async def test_an_answer_that_only_the_late_sending_made_late_says_so(server: Any) -> None:
    server.script_for = server.stream(gap_s=0.02)
    record = await send(server.url, request_for(tokens=10, deadline_s=1.0), RunClock(time.monotonic() - 0.9))
    assert (record.status, record.cause, record.output_tokens) == (Status.TIMED_OUT, Cause.SENT_LATE, 10)
    assert record.sent_s is not None
    assert 1.0 < record.finished_s < record.sent_s + 1.0


async def test_an_answer_that_is_done_stays_ok_when_the_body_never_ends(server: Any) -> None:
    server.answer((0, server.token("a") + DONE), ending="open")
    record = await send(server.url, request_for(deadline_s=0.3))
    assert record.status is Status.OK
    assert record.finished_s <= LATE_S


def test_an_answer_whose_text_holds_the_word_done_does_not_put_off_when_it_is_given_up() -> None:
    text = chunk(TOKEN.replace(b'"a"', b'"[DONE]"'))
    answer = Answer([(0.0, HEAD), *((0.5 * turn, text) for turn in range(1, 15))])
    (record,) = play(OpenLoop([replace(request_at(0, 0.0), timeout_s=2.25)]), lambda _: answer)
    assert (record.status, record.cause) == (Status.CANCELLED, Cause.GIVEN_UP)
    assert (record.finished_s, record.output_tokens) == (2.25, 4)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_waiting_for_the_deadline_takes_a_few_calls_and_not_one_in_each_turn_of_the_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer of uvloop goes by whole milliseconds, and may go off a little early."""
    on_time, calls = Exchange._on_time, 0

    def counted(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        on_time(exchange)

    async def wait(url: str) -> None:
        clock = RunClock(time.monotonic())
        async with StreamClient(Target(url, "m")) as client:
            requests = [request_for(deadline_s=0.02 + 0.00037 * number) for number in range(40)]
            records = await asyncio.gather(*(send_request(client, request, clock) for request in requests))
        assert {record.cause for record in records} == {Cause.DEADLINE_IN_QUEUE}

    monkeypatch.setattr(Exchange, "_on_time", counted)
    monkeypatch.setattr("loadgen.client._PATIENCE_S", 0.02)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(wait(f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert 40 <= calls <= 40 * 6  # twice, early or not; once where the machine was busy
