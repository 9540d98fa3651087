"""One request: against a server whose every byte and instant is known."""

import asyncio
import json
import socket
import time
from typing import Any

import pytest

from loadgen.client import StreamClient, send_request
from loadgen.plan import PlannedRequest, header_lines
from loadgen.records import Cause, Phase, RequestRecord, Status
from loadgen.run_clock import RunClock
from loadgen.target import Target

DONE = b"data: [DONE]\n\n"
# A shared machine may hold a process up for so long; never the other way: nothing is known before it was sent.
LATE_S = 0.25


def request_for(tokens: int = 3, deadline_s: float = 5.0, **changes: Any) -> PlannedRequest:
    fields: dict[str, Any] = {
        "request_id": 7,
        "service": "conversation",
        "model": "m",
        "prompt_tokens": 11,
        "max_output_tokens": tokens,
        "scheduled_s": 0.0,
        "deadline_s": deadline_s,
        "path": "/v1/chat/completions",
        "body": json.dumps({"model": "m", "messages": [], "max_tokens": tokens}).encode(),
    }
    fields |= changes
    headers = {"x-request-id": "t-7", "content-length": str(len(fields["body"]))}
    return PlannedRequest(header_lines=header_lines(headers), **fields)


async def send(url: str, request: PlannedRequest | None = None, clock: RunClock | None = None) -> RequestRecord:
    """Send one request over a pool of its own, the run starting now."""
    async with StreamClient(Target(url, "m", "secret")) as client:
        return await send_request(client, request or request_for(), clock or RunClock(time.monotonic()))


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


async def test_refused_connection_fails_with_its_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    record = await send(f"http://127.0.0.1:{port}")
    assert (record.status, record.cause) == (Status.FAILED, Cause.CONNECTION)
    assert f"127.0.0.1:{port}" in str(record.error)
    assert "Refused" in str(record.error)


async def test_connection_dropped_before_an_answer_fails_as_connection(server: Any) -> None:
    def drop(_ask: Any) -> Any:
        raise ConnectionError

    server.script_for = drop
    record = await send(server.url)
    assert (record.status, record.cause) == (Status.FAILED, Cause.CONNECTION)


def error_body(cause: str | None, message: str = "why", code: int = 500) -> bytes:
    error = {"message": message, "type": "x", "code": code}
    return json.dumps({"error": error | ({"cause": cause} if cause else {})}).encode()


@pytest.mark.parametrize(
    ("http_status", "body", "status", "cause"),
    [
        (503, error_body("queue_full"), Status.REJECTED, Cause.QUEUE_FULL),
        (503, b"busy", Status.REJECTED, Cause.QUEUE_FULL),
        (429, b"", Status.REJECTED, Cause.QUEUE_FULL),
        (504, error_body("no_ready_replica"), Status.TIMED_OUT, Cause.NO_READY_REPLICA),
        (504, error_body("deadline_in_engine"), Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE),
        (504, b"gateway", Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE),
        (400, error_body("too_long"), Status.FAILED, Cause.TOO_LONG),
        (400, error_body(None, "maximum context length is 8192"), Status.FAILED, Cause.TOO_LONG),
        (401, error_body(None), Status.FAILED, Cause.BAD_STATUS),
        (404, b'{"detail":"Not Found"}', Status.FAILED, Cause.BAD_STATUS),
        (500, error_body("not a cause we know"), Status.FAILED, Cause.BAD_STATUS),
        (500, error_body("replica_lost"), Status.FAILED, Cause.REPLICA_LOST),
    ],
)
async def test_each_error_status_has_its_cause(
    server: Any, http_status: int, body: bytes, status: Status, cause: Cause
) -> None:
    server.answer((0, body), status=http_status, headers={"content-type": "application/json", "retry-after": "5"})
    record = await send(server.url)
    assert (record.status, record.cause) == (status, cause)
    assert str(record.error).startswith(f"HTTP {http_status}")
    assert (record.first_token_s, record.output_tokens) == (None, 0)


@pytest.mark.parametrize(
    ("named", "phase"), [("cold_start", Phase.COLD_START), ("elsewhere", None), (7, None), (None, None)]
)
async def test_the_phase_that_an_error_names_is_kept(server: Any, named: object, phase: Phase | None) -> None:
    body = json.dumps({"error": {"message": "m", "cause": "no_ready_replica", "phase": named}}).encode()
    server.answer((0, body), status=504, headers={"content-type": "application/json"})
    assert (await send(server.url)).phase is phase


@pytest.mark.parametrize("ending", ["whole", "closed", "reset"])
async def test_a_stream_without_done_is_cut_however_its_connection_ends(server: Any, ending: str) -> None:
    pieces = (0, server.token("a") + server.token("b") + server.usage(37))
    server.answer(
        pieces, (0.02, b": ping\n\n"), ending=ending, headers={"content-type": "text/event-stream", "x-replica-id": "X"}
    )
    record = await send(server.url, request_for(tokens=120))
    assert (record.status, record.cause) == (Status.FAILED, Cause.STREAM_CUT)
    assert "after 37 of 120 tokens; replica X" in str(record.error)
    assert record.output_tokens == 37
    assert record.first_token_s is not None


async def test_a_cut_stream_says_replica_lost_when_the_server_says_so(server: Any) -> None:
    server.answer((0, server.token("a") + server.event(error_body("replica_lost", "replica r9 died").decode())))
    record = await send(server.url)
    assert (record.status, record.cause) == (Status.FAILED, Cause.REPLICA_LOST)
    assert "replica r9 died" in str(record.error)
    assert "after 1 chunks of an answer of 3 tokens" in str(record.error)


async def test_an_error_event_is_an_error_even_before_done(server: Any) -> None:
    server.answer((0, server.token("a") + server.event('{"error":{"message":"engine dead","code":500}}') + DONE))
    record = await send(server.url)
    assert (record.status, record.cause) == (Status.FAILED, Cause.BAD_STATUS)
    assert "engine dead" in str(record.error)


async def test_generated_text_that_looks_like_json_keys_is_only_text(server: Any) -> None:
    text = '"error": {"usage": {"completion_tokens": 99}} [DONE] "content": "x"'
    server.answer((0, server.token("error") + server.token(text) + server.usage(2) + DONE))
    record = await send(server.url)
    assert (record.status, record.output_tokens) == (Status.OK, 2)


async def test_done_without_a_token_is_an_empty_answer(server: Any) -> None:
    server.answer((0, server.event('{"choices":[{"delta":{"role":"assistant","content":""}}]}') + DONE))
    record = await send(server.url)
    assert (record.status, record.cause) == (Status.FAILED, Cause.EMPTY_ANSWER)


async def test_an_answer_that_is_no_stream_is_named_as_such(server: Any) -> None:
    server.answer((0, b'{"choices":[{"text":"hi"}]}'), headers={"content-type": "application/json"})
    record = await send(server.url)
    assert (record.status, record.cause) == (Status.FAILED, Cause.EMPTY_ANSWER)
    assert "application/json" in str(record.error)


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


async def test_a_redirect_is_a_bad_status_and_is_not_followed(server: Any) -> None:
    server.answer((0, b""), status=307, headers={"location": "/elsewhere"})
    record = await send(server.url)
    assert record.cause is Cause.BAD_STATUS
    assert len(server.asks) == 1


async def test_deadline_after_the_first_token_is_in_the_engine_and_closes_the_connection(server: Any) -> None:
    server.script_for = server.stream(gap_s=0.1)
    clock = RunClock(time.monotonic())
    record = await send(server.url, request_for(tokens=50, deadline_s=0.25), clock)
    assert (record.status, record.cause) == (Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE)
    assert record.output_tokens == len(server.asks[0].written_s)
    await asyncio.sleep(0.1)
    assert server.asks[0].gone_s is not None
    assert server.asks[0].gone_s - clock.start_monotonic_s <= 0.25 + LATE_S


async def test_the_deadline_is_absolute_from_the_schedule_not_from_the_sending(server: Any) -> None:
    server.script_for = server.stream(gap_s=0.02)
    began_s = time.monotonic()
    record = await send(server.url, request_for(tokens=100, deadline_s=1.0), RunClock(began_s - 0.9))
    assert record.status is Status.TIMED_OUT
    assert time.monotonic() - began_s <= 0.1 + LATE_S


async def test_an_answer_that_is_done_stays_ok_when_the_body_never_ends(server: Any) -> None:
    server.answer((0, server.token("a") + DONE), ending="open")
    record = await send(server.url, request_for(deadline_s=0.3))
    assert record.status is Status.OK
    assert record.finished_s <= LATE_S


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
