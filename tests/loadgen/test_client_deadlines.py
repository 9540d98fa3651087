"""One request whose deadline passes: where it was then, and that its connection is closed."""

import asyncio
import time
from typing import Any

from loadgen.records import Cause, Status
from loadgen.run_clock import RunClock
from tests.loadgen.one_request import DONE, LATE_S, error_body, request_for, send


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
