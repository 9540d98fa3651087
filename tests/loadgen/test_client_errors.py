"""One request that fails: each way has its status, cause and phase."""

import json
import socket
from typing import Any

import pytest

from loadgen.records import Cause, Phase, Status
from tests.loadgen.one_request import DONE, error_body, request_for, send


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


async def test_a_redirect_is_a_bad_status_and_is_not_followed(server: Any) -> None:
    server.answer((0, b""), status=307, headers={"location": "/elsewhere"})
    record = await send(server.url)
    assert record.cause is Cause.BAD_STATUS
    assert len(server.asks) == 1
