"""Connections: encrypted ones, several addresses of one host, bodies larger than a socket takes at once."""

import asyncio
import shutil
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loadgen.client import Exchange, StreamClient, send_request
from loadgen.http_head import ResponseHead
from loadgen.http_stream import Call, ConnectionPool, _Connection
from loadgen.plan import PlannedRequest
from loadgen.records import Cause, RequestRecord, Status
from loadgen.run_clock import RunClock
from loadgen.target import Target
from tests.loadgen.certificate import make_certificate, server_context

ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 48\r\n\r\n"
    b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n'
)


def request_of(body: bytes) -> PlannedRequest:
    lines = b"content-length: %d\r\n" % len(body)
    return PlannedRequest(1, "api", "m", 1, 2, 0.0, 5.0, "/v1/completions", lines, memoryview(body))


@asynccontextmanager
async def serving(host: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each request; gives its port, and what it was sent."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                seen.append(head + await reader.readexactly(length))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


class NoReader:
    """Of a request that is given up before anything comes."""

    def head_received(self, head: ResponseHead) -> None:
        raise AssertionError(head)

    def body_received(self, content: bytes, *, is_last: bool) -> None:
        raise AssertionError(content, is_last)

    def ended(self, failure: str | None) -> None:
        raise AssertionError(failure)


async def send(url: str, body: bytes = b"{}", times: int = 1) -> list[RequestRecord]:
    async with StreamClient(Target(url, "m", "key")) as client:
        clock = RunClock(time.monotonic())
        records = [await send_request(client, request_of(body), clock) for _ in range(times)]
    assert client.open_connections == 0
    return records


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl to make a certificate")
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_an_encrypted_connection_is_made_and_used_again(certificate: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving("127.0.0.1", server_context(certificate)) as (port, seen):
        records = await send(f"https://localhost:{port}/v1", times=3)
    assert [(record.status, record.output_tokens) for record in records] == [(Status.OK, 1)] * 3
    assert seen[0].startswith(b"POST /v1/completions HTTP/1.1\r\nhost: localhost:%d\r\n" % port)
    assert b"authorization: Bearer key\r\n" in seen[0]


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    async with serving("127.0.0.1", server_context(certificate)) as (port, seen):
        (record,) = await send(f"https://localhost:{port}")
    assert (record.status, record.cause) == (Status.FAILED, Cause.CONNECTION)
    assert "SSLCertVerificationError" in str(record.error)
    assert seen == []


async def test_each_address_of_a_host_is_tried_until_one_answers(monkeypatch: Any) -> None:
    async with serving("127.0.0.1") as (port, seen):

        async def two_addresses(*_: Any, **__: Any) -> Any:
            return [(0, 0, 0, "", (address, port)) for address in ("127.9.9.9", "127.0.0.1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two_addresses)
        (record,) = await send(f"http://some.host:{port}")
    assert record.status is Status.OK
    assert len(seen) == 1


async def test_a_name_that_is_unknown_fails_the_request() -> None:
    (record,) = await send("http://no-such-host.invalid:80")
    assert (record.status, record.cause) == (Status.FAILED, Cause.CONNECTION)
    assert "cannot connect to no-such-host.invalid:80" in str(record.error)


async def test_a_name_that_was_not_found_is_looked_up_once_for_all_who_wait_for_it(monkeypatch: Any) -> None:
    """A lookup cannot be called off, and uvloop does not end before it: one for each request would take for ever."""
    lookups = 0
    is_known = asyncio.Event()
    async with serving("127.0.0.1") as (port, seen):

        async def look_up(*_: Any, **__: Any) -> Any:
            nonlocal lookups
            lookups += 1
            if lookups == 1:
                raise socket.gaierror
            await is_known.wait()
            return [(0, 0, 0, "", ("127.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        async with StreamClient(Target(f"http://some.host:{port}", "m")) as client:
            clock = RunClock(time.monotonic())
            given_up: list[Any] = []
            client.send(request_of(b"{}"), clock, given_up.append).cancel()
            exchange = client.send(request_of(b"{}"), clock, given_up.append)
            others = [asyncio.create_task(send_request(client, request_of(b"{}"), clock)) for _ in range(4)]
            await asyncio.sleep(0.01)
            exchange.cancel()
            await asyncio.sleep(0.01)
            is_known.set()
            records = await asyncio.gather(*others)
    assert [record.status for record in records] == [Status.OK] * 4
    assert (len(given_up), len(seen), lookups) == (2, 4, 2)


async def test_leaving_while_the_host_is_looked_up_does_not_wait_for_it(monkeypatch: Any) -> None:
    lookups = 0

    async def look_up(*_: Any, **__: Any) -> Any:
        nonlocal lookups
        lookups += 1
        if lookups == 1:
            raise socket.gaierror
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    before = asyncio.all_tasks()
    async with StreamClient(Target("http://some.host:1", "m")) as client:
        client.send(request_of(b"{}"), RunClock(time.monotonic()), lambda _: None)
        await asyncio.sleep(0.01)
    assert client.open_connections == 0
    assert asyncio.all_tasks() == before


async def test_a_body_that_no_socket_takes_at_once_arrives_whole() -> None:
    body = bytes(range(256)) * 40_000  # 10 MB
    async with serving("127.0.0.1") as (port, seen):
        records = await send(f"http://127.0.0.1:{port}", body, times=2)
    assert [record.status for record in records] == [Status.OK] * 2
    assert [message.endswith(b"\r\n\r\n" + body) for message in seen] == [True, True]


async def test_a_path_in_front_of_the_api_is_kept() -> None:
    async with serving("127.0.0.1") as (port, seen):
        await send(f"http://127.0.0.1:{port}/gateway/v1")
    assert seen[0].startswith(b"POST /gateway/v1/completions HTTP/1.1\r\n")


async def test_idle_connections_are_closed_before_servers_close_them(monkeypatch: Any) -> None:
    monkeypatch.setattr("loadgen.http_stream._KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr("loadgen.http_stream._SWEEP_INTERVAL_S", 0.05)
    async with serving("127.0.0.1") as (port, _), StreamClient(Target(f"http://127.0.0.1:{port}", "m")) as client:
        await send_request(client, request_of(b"{}"), RunClock(time.monotonic()))
        assert client.open_connections == 1
        await asyncio.sleep(0.3)
        assert client.open_connections == 0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_request_that_is_given_up_while_its_connection_is_made_leaves_none(
    new_loop: Callable[[], asyncio.AbstractEventLoop], is_at_once: bool, monkeypatch: Any
) -> None:
    """As happens where a stalled machine has both wait: at once, or before the task that opens it goes on."""
    connection_made = _Connection.connection_made
    abort: list[Callable[[], None]] = []

    def made(connection: _Connection, transport: asyncio.BaseTransport) -> None:
        connection_made(connection, transport)
        if is_at_once:
            abort[0]()
        else:
            asyncio.get_running_loop().call_soon(abort[0])

    async def give_up() -> bytes:
        at_server: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            at_server.set_result(await reader.read())
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            pool = ConnectionPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await pool.open()
            abort.append(pool.send([b"GET"], NoReader()).abort)
            received = await asyncio.wait_for(at_server, 5)
            assert not pool.opening
            assert not pool.connections
            await pool.close()
        return received

    monkeypatch.setattr(_Connection, "connection_made", made)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(give_up()) == b""


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_the_server_closed_while_the_loop_stood_still_is_not_used_again(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: Any
) -> None:
    """The answer is read one turn of the loop before the connection's end, and the next request is due in between."""
    monkeypatch.setattr("loadgen.http_stream._SWEEP_INTERVAL_S", 0.01)
    monkeypatch.setattr("loadgen.http_stream._STALL_S", 0.3)
    asked, stalled, closed = threading.Event(), threading.Event(), threading.Event()

    def serve() -> None:
        peer, _ = listening.accept()
        peer.recv(10_000)
        peer.sendall(ANSWER)
        peer.recv(10_000)
        asked.set()
        stalled.wait(10)
        peer.sendall(ANSWER)
        peer.close()
        closed.set()
        peer, _ = listening.accept()
        peer.recv(10_000)
        peer.sendall(ANSWER)
        peer.close()

    async def send_three(url: str) -> list[Exchange]:
        loop, ended = asyncio.get_running_loop(), list[Exchange]()
        clock, is_over = RunClock(time.monotonic()), asyncio.Event()

        def send(request: PlannedRequest) -> None:
            client.send(request, clock, on_end)

        def on_end(exchange: Exchange) -> None:
            ended.append(exchange)
            if len(ended) == 3:
                is_over.set()
            else:
                loop.call_soon(send, request_of(b"{}"))

        async with StreamClient(Target(url, "m")) as client:
            send(request_of(b"{}"))
            while not asked.is_set():
                await asyncio.sleep(0.001)
            stalled.set()
            closed.wait(10)
            time.sleep(0.4)
            await is_over.wait()
        return ended

    with socket.create_server(("127.0.0.1", 0)) as listening, asyncio.Runner(loop_factory=new_loop) as runner:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        ended = runner.run(send_three(f"http://127.0.0.1:{listening.getsockname()[1]}"))
    assert [(exchange.record().status, exchange.record().error) for exchange in ended] == [(Status.OK, None)] * 3
    thread.join(10)


def test_a_connection_on_which_the_server_spoke_first_is_forgotten_when_its_request_is_given_up_at_that_moment(
    monkeypatch: Any,
) -> None:
    """With uvloop its end is told to nobody, and it had been closed here before the task that opened it went on."""
    connection_made, data_received = _Connection.connection_made, _Connection.data_received
    calls: list[Call] = []
    peers: list[socket.socket] = []

    def made(connection: _Connection, transport: asyncio.BaseTransport) -> None:
        connection_made(connection, transport)
        peers.append(listening.accept()[0])
        peers[0].sendall(b"HTTP/1.1 408 X\r\n\r\n")

    def received(connection: _Connection, content: bytes) -> None:
        data_received(connection, content)
        calls[0].abort()

    async def give_up() -> None:
        pool = ConnectionPool(f"http://127.0.0.1:{listening.getsockname()[1]}")
        await pool.open()
        calls.append(pool.send([b"GET"], NoReader()))
        await asyncio.gather(*pool.opening, return_exceptions=True)
        assert not pool.connections
        await pool.close()

    monkeypatch.setattr(_Connection, "connection_made", made)
    monkeypatch.setattr(_Connection, "data_received", received)
    with socket.create_server(("127.0.0.1", 0)) as listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as run:
        run.run(give_up())
        with peers[0]:
            assert peers[0].recv(100) == b""  # closed, and nothing was sent on it


def test_the_answer_used_here_has_the_length_that_it_says() -> None:
    head, body = ANSWER.split(b"\r\n\r\n", 1)
    assert int(head.rsplit(b" ", 1)[1]) == len(body)
