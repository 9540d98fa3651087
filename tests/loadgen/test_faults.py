"""Whatever a server sends or does, each request ends in the right record in time, and nothing is left behind."""

import asyncio
import gc
import json
import socket
import time
import tracemalloc

import pytest

from loadgen.client import Exchange, StreamClient, send_request
from loadgen.plan import PlannedRequest
from loadgen.records import Cause, RequestRecord, Status, records_table
from loadgen.run_clock import RunClock
from loadgen.target import Target
from tests.loadgen.misbehaving_server import (
    DONE,
    HEAD,
    TOKEN,
    WHOLE,
    Behaviour,
    chunk,
    endlessly,
    open_sockets,
    says,
    serving,
    whole_answers,
)

# A shared machine may hold a process up for so long.
LATE_S = 1.0
DEADLINE_S = 5.0  # of what ends by itself, however busy the machine is
SHORT_DEADLINE_S = 0.3  # of what ends at it
PATIENCE_S = 0.2  # the client listens so much longer while no token has come, and so long for a body's end


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less than a real run does, so that these tests take seconds."""
    monkeypatch.setattr("loadgen.client._PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr("loadgen.client._BODY_END_S", PATIENCE_S)


def request_for(deadline_s: float = DEADLINE_S, scheduled_s: float = 0.0, number: int = 1) -> PlannedRequest:
    body = json.dumps({"max_tokens": 2}).encode()
    lines = b"content-length: %d\r\n" % len(body)
    return PlannedRequest(number, "api", "m", 1, 2, scheduled_s, deadline_s, "/v1/completions", lines, body)


async def record_of(behaviour: Behaviour, deadline_s: float = DEADLINE_S) -> RequestRecord:
    """Send one request to a server that behaves so; nothing may be left of it."""
    async with serving(behaviour) as url:
        tasks_before, sockets_before = len(asyncio.all_tasks()), open_sockets()
        began_s = time.monotonic()
        async with StreamClient(Target(url, "m")) as client:
            record = await send_request(client, request_for(deadline_s), RunClock(began_s))
            assert time.monotonic() - began_s <= deadline_s + PATIENCE_S + LATE_S
        assert client.open_connections == 0
        own_tasks = [task for task in asyncio.all_tasks() if "talk" not in repr(task)]
        assert len(own_tasks) <= tasks_before
        await asyncio.sleep(0.05)  # the server closes its side
        assert open_sockets() <= sockets_before + 1  # its side of a connection on which it still writes
    records_table([record])  # a value that no file can hold would end the run
    return record


CONNECTION = (Status.FAILED, Cause.CONNECTION)
CUT = (Status.FAILED, Cause.STREAM_CUT)
EMPTY = (Status.FAILED, Cause.EMPTY_ANSWER)
QUEUE = (Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE)
ENGINE = (Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE)
BAD_STATUS = (Status.FAILED, Cause.BAD_STATUS)
OK = (Status.OK, None)
FAULTS: dict[str, tuple[Behaviour, tuple[Status, Cause | None]]] = {
    "closes at once": (says(), CONNECTION),
    "resets at once": (says(then="reset"), CONNECTION),
    "never answers": (says(then="stay"), QUEUE),
    "no status line": (says(b"\x16\x03\x01\x00 hello\r\n\r\n"), CONNECTION),
    "status of two digits": (says(b"HTTP/1.1 20 OK\r\n\r\n"), CONNECTION),
    "another protocol's version": (says(b"HTTP/2.0 200 OK\r\n\r\n"), CONNECTION),
    "switches protocols": (says(b"HTTP/1.1 101 Switch\r\n\r\n", then="stay"), CONNECTION),
    "header without a colon": (says(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), CONNECTION),
    "two lengths": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), CONNECTION),
    "length that is no number": (says(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), CONNECTION),
    "unknown coding": (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"), CONNECTION),
    "head cut": (says(HEAD[:40]), CONNECTION),
    "head that never ends": (endlessly(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"y" * 500 + b"\r\n"), CONNECTION),
    "head line that never ends": (endlessly(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 500), CONNECTION),
    "head byte by byte": (says(*[HEAD[i : i + 1] for i in range(len(HEAD))], gap_s=0.05), QUEUE),
    "interim answers without end": (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), QUEUE),
    "interim answer, then whole": (says(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE), OK),
    "chunk size that is no number": (says(HEAD + chunk(TOKEN) + b"zz\r\n", then="stay"), CUT),
    "chunk size below zero": (says(HEAD + b"-5\r\nhello\r\n", then="stay"), CUT),
    "chunk size of exabytes": (says(HEAD + b"ffffffffffffffff\r\n", then="stay"), CUT),
    "chunk longer than its size": (says(HEAD + b"3\r\nhello\r\n", then="stay"), CUT),
    "chunk size that never ends": (endlessly(HEAD, b"0" * 500), CUT),
    "chunk cut": (says(HEAD + b"ff\r\n" + TOKEN), CUT),
    "stream cut": (says(HEAD + chunk(TOKEN)), CUT),
    "stream reset": (says(HEAD + chunk(TOKEN), then="reset"), CUT),
    "stream without done": (says(HEAD + chunk(TOKEN) + b"0\r\n\r\n"), CUT),
    "length that is not reached": (
        says(HEAD.replace(b"transfer-encoding: chunked", b"content-length: 999") + TOKEN),
        CUT,
    ),
    "stalls after the first token": (says(HEAD + chunk(TOKEN), then="stay"), ENGINE),
    "stalls in a chunk": (says(HEAD + b"ff\r\n" + TOKEN, then="stay"), ENGINE),
    "tokens without end": (endlessly(HEAD, chunk(TOKEN)), ENGINE),
    "comments without end": (endlessly(HEAD, chunk(b": ping\n\n")), QUEUE),
    "a line without end": (endlessly(HEAD, chunk(b"data: " + b"x" * 65536)), CUT),
    "not UTF-8": (says(HEAD + chunk(b"data: \xff\xfe\x00\n\n") + chunk(DONE) + b"0\r\n\r\n"), EMPTY),
    "not UTF-8 in text": (says(HEAD + chunk(TOKEN.replace(b'"a"', b'"\xff"')) + chunk(DONE) + b"0\r\n\r\n"), OK),
    "error that is not UTF-8": (says(HEAD + chunk(b'data: {"error": "\xff"}\n\n') + b"0\r\n\r\n"), CUT),
    "error with half a character": (says(HEAD + chunk(b'data: {"error": "\\ud800"}\n\n') + b"0\r\n\r\n"), BAD_STATUS),
    "error nested too deep": (says(HEAD + chunk(b'data: {"error":' + b"[" * 100_000 + b"\n\n")), CUT),
    "done, then never an end": (says(HEAD + chunk(TOKEN) + chunk(DONE), then="stay"), OK),
    "done, then a reset": (says(HEAD + chunk(TOKEN) + chunk(DONE), then="reset"), OK),
    "done, then garbage": (says(WHOLE + b"garbage", then="stay"), OK),
    "body until the connection ends": (
        says(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + TOKEN + DONE),
        OK,
    ),
    "line ends without CR": (says(HEAD.replace(b"\r", b"") + chunk(TOKEN) + chunk(DONE) + b"0\r\n\r\n"), OK),
    "answers 500": (says(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno"), BAD_STATUS),
    "answers 500 and cuts it": (says(b"HTTP/1.1 500 X\r\ncontent-length: 99\r\n\r\nno"), BAD_STATUS),
    "answers 500 without end": (endlessly(b"HTTP/1.1 500 X\r\n\r\n", b"y" * 1000), QUEUE),
    "answers 204": (says(b"HTTP/1.1 204 No Content\r\n\r\n", then="stay"), BAD_STATUS),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_ends_in_the_right_status_and_leaves_nothing_behind(fault: str) -> None:
    behaviour, expected = FAULTS[fault]
    record = await record_of(behaviour, SHORT_DEADLINE_S if expected in (QUEUE, ENGINE) else DEADLINE_S)
    assert (record.status, record.cause) == expected
    assert (record.error is None) == (record.status is Status.OK)
    assert len(record.error or "") < 1000


@pytest.mark.parametrize(
    "usage",
    [b"-1", b"1e999", b"99999999999999", b'"many"', b"null", b"[" * 5000 + b"]" * 5000, b"9" * 5000],
)
async def test_a_token_count_that_makes_no_sense_is_not_believed(usage: bytes) -> None:
    count = b'data: {"choices":[],"usage":{"completion_tokens":' + usage + b"}}\n\n"
    record = await record_of(says(HEAD + chunk(TOKEN + TOKEN + count + DONE) + b"0\r\n\r\n"))
    assert (record.status, record.output_tokens) == (Status.OK, 2)


async def test_a_replica_id_of_any_bytes_can_be_kept() -> None:
    named = WHOLE.replace(b"content-type", b"x-replica-id: \xff\xfe" + b"r" * 5000 + b"\r\ncontent-type")
    record = await record_of(says(named))
    assert record.replica_id is not None
    assert len(record.replica_id) <= 200


async def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(WHOLE)
        await asyncio.sleep(30)

    async with serving(behave) as url, StreamClient(Target(url, "m")) as client:
        clock = RunClock(time.monotonic())
        assert (await send_request(client, request_for(), clock)).status is Status.OK
        assert client.open_connections == 1
        await asyncio.sleep(0.2)
        assert client.open_connections == 0


async def test_cancelling_while_the_connection_is_being_made_leaves_nothing() -> None:
    with socket.socket() as full:  # one whose queue of connections is full: those that come after it wait
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address):
            ended: list[Exchange] = []
            async with StreamClient(Target(f"http://{address[0]}:{address[1]}", "m")) as client:
                clock = RunClock(time.monotonic())
                exchanges = [client.send(request_for(30.0), clock, ended.append) for _ in range(3)]
                await asyncio.sleep(0.1)
                for exchange in exchanges:
                    exchange.cancel()
                    exchange.cancel()
                assert [exchange.record().status for exchange in ended] == [Status.CANCELLED] * 3
            assert client.open_connections == 0


async def test_leaving_the_client_closes_what_is_on_its_way() -> None:
    async with serving(says(HEAD + chunk(TOKEN), then="stay")) as url:
        before = open_sockets()
        async with StreamClient(Target(url, "m")) as client:
            clock = RunClock(time.monotonic())
            for _ in range(20):
                client.send(request_for(30.0), clock, lambda _: None)
            await asyncio.sleep(0.1)
            assert client.open_connections == 20
        await asyncio.sleep(0.1)
        assert open_sockets() <= before + 20  # the server's side of them


async def test_memory_stays_flat_over_many_requests_that_end_in_every_way() -> None:
    kinds = [whole_answers, says(), says(HEAD + b"zz\r\n"), FAULTS["answers 500"][0]]
    number = 0

    async def behave(writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        await kinds[number % 4](writer)

    async def send_many(client: StreamClient, requests: int) -> None:
        for _ in range(requests // 50):
            clock = RunClock(time.monotonic())
            await asyncio.gather(*(send_request(client, request_for(5.0), clock) for _ in range(50)))

    async with serving(behave) as url, StreamClient(Target(url, "m")) as client:
        await send_many(client, 400)
        gc.collect()
        tracemalloc.start()
        await send_many(client, 200)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await send_many(client, 1000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert client.open_connections <= 50
    assert after - before < 100 * 1000  # bytes: less than 100 for each request
