"""One request that is answered: its instants, tokens and headers, against a server whose every byte is known."""

import asyncio
import time
from typing import Any

import pytest

from loadgen.client import StreamClient, send_request
from loadgen.records import Cause, Status
from loadgen.run_clock import RunClock
from loadgen.target import Target
from tests.loadgen.one_request import DONE, LATE_S, request_for, send


async def test_first_token_and_end_are_stamped_when_the_server_sent_them(server: Any) -> None:
    server.script_for = server.stream(ttft_s=0.1, gap_s=0.05)
    clock = RunClock(time.monotonic())
    record = await send(server.url, clock=clock)
    written_s = [instant - clock.start_monotonic_s for instant in server.asks[0].written_s]
    assert record.status is Status.OK
    assert (record.cause, record.error, record.attempts) == (None, None, 1)
    assert record.first_token_s == pytest.approx(written_s[0] + LATE_S / 2, abs=LATE_S / 2)
    assert record.finished_s == pytest.approx(written_s[-1] + LATE_S / 2, abs=LATE_S / 2)
    assert written_s[0] >= 0.1  # the server kept its own times
    assert written_s[-1] >= 0.2
    assert record.output_tokens == 3


async def test_what_was_planned_and_the_headers_are_carried_through(server: Any) -> None:
    server.answer((0, server.token("a") + DONE), headers={"content-type": "text/event-stream", "x-replica-id": "r1"})
    record = await send(server.url)
    ask = server.asks[0]
    assert (record.request_id, record.service, record.model, record.prompt_tokens) == (7, "conversation", "m", 11)
    assert record.replica_id == "r1"
    assert (ask.method, ask.path) == ("POST", "/v1/chat/completions")
    assert ask.headers["authorization"] == "Bearer secret"
    assert ask.headers["x-request-id"] == "t-7"
    assert ask.body["max_tokens"] == 3


async def test_ttft_counts_from_the_scheduled_instant_even_if_the_client_is_late(server: Any) -> None:
    server.answer((0, server.token("a") + DONE))
    late_clock = RunClock(time.monotonic() - 2.0)  # the request was due 2 s ago
    record = await send(server.url, clock=late_clock)
    assert record.sent_s == pytest.approx(2.0 + LATE_S / 2, abs=LATE_S / 2)
    assert record.first_token_s is not None
    assert record.first_token_s - record.scheduled_s >= 2.0


async def test_the_token_count_comes_from_usage_because_a_chunk_holds_several_tokens(server: Any) -> None:
    server.answer((0, server.token("a b c") + server.token("d e") + server.usage(5) + DONE))
    assert (await send(server.url)).output_tokens == 5


async def test_without_usage_chunks_with_content_are_counted(server: Any) -> None:
    role = server.event('{"choices":[{"delta":{"role":"assistant","content":""}}]}')
    server.answer((0, role), (0.1, server.token("a") + server.token("b") + DONE))
    clock = RunClock(time.monotonic())
    record = await send(server.url, clock=clock)
    assert record.output_tokens == 2
    assert record.first_token_s is not None
    assert record.first_token_s >= server.asks[0].written_s[1] - clock.start_monotonic_s  # not the empty role chunk


async def test_completions_stream_text_instead_of_content(server: Any) -> None:
    server.answer((0, server.token("a", chat=False) + DONE))
    assert (await send(server.url)).status is Status.OK


async def test_an_answer_of_special_tokens_has_no_text_but_counts(server: Any) -> None:
    server.answer((0, server.token("") + server.token("") + server.usage(2) + DONE))
    record = await send(server.url)
    assert (record.status, record.output_tokens) == (Status.OK, 2)
    assert record.first_token_s is not None


async def test_bytes_split_anywhere_read_the_same(server: Any) -> None:
    whole = b": hello\r\n\r\n" + (server.token("a") + server.token("b") + server.usage(2) + DONE).replace(
        b"\n", b"\r\n"
    )
    step = 5
    server.answer(*[(0.0005 * i, whole[i * step : i * step + step]) for i in range(len(whole) // step + 1)])
    record = await send(server.url)
    assert (record.status, record.output_tokens) == (Status.OK, 2)


async def test_connections_are_used_again(server: Any) -> None:
    async with StreamClient(Target(server.url, "m")) as client:
        clock = RunClock(time.monotonic())
        for _ in range(3):
            assert (await send_request(client, request_for(), clock)).status is Status.OK
    assert {ask.connection for ask in server.asks} == {1}


async def test_more_requests_than_a_usual_pool_holds_are_on_their_way_at_once(server: Any) -> None:
    server.script_for = server.stream(ttft_s=0.3)
    async with StreamClient(Target(server.url, "m")) as client:
        clock = RunClock(time.monotonic())
        records = await asyncio.gather(*(send_request(client, request_for(), clock) for _ in range(150)))
    assert [record.status for record in records] == [Status.OK] * 150
    assert max(ask.arrived_s for ask in server.asks) < min(ask.written_s[0] for ask in server.asks)


async def test_cancelling_makes_a_record_that_says_how_far_it_came(server: Any) -> None:
    server.script_for = server.stream(gap_s=0.1)
    task = asyncio.create_task(send(server.url, request_for(tokens=50)))
    await asyncio.sleep(0.15)
    task.cancel()
    record = await task
    assert (record.status, record.cause) == (Status.CANCELLED, Cause.RUN_ENDED)
    assert record.output_tokens == len(server.asks[0].written_s) > 0


async def test_the_run_clock_follows_the_wall_clock_at_the_start() -> None:
    assert RunClock.starting_at(time.time() - 5).now_s() == pytest.approx(5, abs=0.01)
