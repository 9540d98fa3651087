"""Lean HTTP/1.1 connections for streamed answers: a request is one write, a piece of its answer one callback."""

import asyncio
import select
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from loadgen.http_body import Body, body_of
from loadgen.http_head import BadAnswer, ResponseHead, end_of_head, parse_head

# Idle connections are dropped before servers drop them (uvicorn after 5 s), or a request that is sent on a connection
# which the server is just closing would count as a failure of the server.
_KEEP_ALIVE_S = 4.0
_SWEEP_INTERVAL_S = 1.0
# While the loop stood still for so long, the server may have lost patience; it is read a turn after the last answer.
_STALL_S = 1.0
# An aborted connection says within a turn or two of the event loop that it is lost; none may hold up a run's results.
_CLOSING_S = 5.0


class Reader(Protocol):
    """What an answer is given to as it comes; `ended` is the last call."""

    def head_received(self, head: ResponseHead) -> None:
        """The answer has begun."""
        ...

    def body_received(self, content: bytes, *, is_last: bool) -> None:
        """These bytes of the body have just arrived; `is_last` = `ended` follows at once."""
        ...

    def ended(self, failure: str | None) -> None:
        """The body is whole, or (else) why there will be no more of it."""
        ...


class Call:
    """A request on its way."""

    __slots__ = ("connection", "opening")

    def __init__(self) -> None:
        self.connection: _Connection | None = None
        self.opening: asyncio.Task[None] | None = None

    def abort(self) -> None:
        """Close the connection at once; the reader hears no more."""
        if self.opening is not None:
            self.opening.cancel()
        if self.connection is not None:
            self.connection.abort()


class ConnectionPool:
    """Connections to one server: opened when none is idle, without a limit, so that no request waits for another's.

    Belongs to the event loop that it is opened in.
    """

    def __init__(self, root: str) -> None:
        """`root` is 'http://host:port' or 'https://host:port'."""
        parts = urlsplit(root)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._addresses: list[str] = []
        self._lookup: asyncio.Task[OSError | None] | None = None
        self._idle: deque[tuple[float, _Connection]] = deque()  # since when, oldest first
        self._sweep: asyncio.TimerHandle | None = None
        self._swept_s = 0.0
        self._doubts_until_s = 0.0
        self.connections: set[_Connection] = set()
        self.opening: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Look the host up; where that fails, requests have it looked up again, and fail by it."""
        self._loop = asyncio.get_running_loop()
        await self._look_up()

    async def close(self) -> None:
        """Close all connections and return once none is left, as a rule at once."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle.clear()
        tasks = [task for task in (*self.opening, self._lookup) if task is not None]
        for task in tasks:
            task.cancel()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        patience_s = time.monotonic() + _CLOSING_S
        while self.connections and time.monotonic() < patience_s:
            await asyncio.sleep(0)

    def send(self, message: Sequence[bytes | memoryview], reader: Reader) -> Call:
        """Write a request, at once where a connection is idle; its answer goes to `reader`."""
        call = Call()
        connection = self._take_idle()
        if connection is not None:
            connection.send(message, reader, call)
            return call
        call.opening = task = self._loop.create_task(self._open_and_send(message, reader, call))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)
        return call

    def keep(self, connection: "_Connection") -> None:
        """Take back a connection that can be used again."""
        self._idle.append((now_s := time.monotonic(), connection))
        if self._sweep is None:
            self._swept_s = now_s
            self._sweep = self._loop.call_later(_SWEEP_INTERVAL_S, self._close_old)

    def _take_idle(self) -> "_Connection | None":
        """The connection that was used last: it is the least likely to be closed just now."""
        while self._idle:
            since_s, connection = self._idle.pop()
            now_s = time.monotonic()
            is_fresh = connection.is_open and now_s - since_s < _KEEP_ALIVE_S
            if is_fresh and (now_s > self._doubts_until_s or connection.is_silent()):
                return connection
            connection.abort()
        return None

    def _close_old(self) -> None:
        now_s = time.monotonic()
        if now_s - self._swept_s > _SWEEP_INTERVAL_S + _STALL_S:
            self._doubts_until_s = now_s + _STALL_S
        self._swept_s = now_s
        oldest_s = now_s - _KEEP_ALIVE_S
        while self._idle and (self._idle[0][0] < oldest_s or not self._idle[0][1].is_open):
            self._idle.popleft()[1].abort()
        self._sweep = self._loop.call_later(_SWEEP_INTERVAL_S, self._close_old) if self.connections else None

    async def _open_and_send(self, message: Sequence[bytes | memoryview], reader: Reader, call: Call) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            call.opening = None
            reader.ended(f"cannot connect to {self._host}:{self._port} ({type(error).__name__})")
            return
        call.opening = None
        connection.send(message, reader, call)

    def _looked_up_again(self) -> "asyncio.Task[OSError | None]":
        """One lookup for all who wait for it: none can be called off, and the loop would not end before the last."""
        if self._lookup is None or self._lookup.done():
            self._lookup = self._loop.create_task(self._look_up())
        return self._lookup

    async def _look_up(self) -> OSError | None:
        """Find the host's addresses; gives why there are none."""
        try:
            found = await self._loop.getaddrinfo(self._host, self._port, type=1)
        except OSError as error:
            return error
        self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        return None

    async def _connect(self) -> "_Connection":
        """Try each address, beginning with the one that answered last. Raises OSError, the last one's."""
        last_error = None if self._addresses else await asyncio.shield(self._looked_up_again())
        for address in self._addresses:
            connection = _Connection(self)
            try:
                await self._loop.create_connection(
                    lambda made=connection: made,
                    address,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
            except OSError as error:
                last_error = error
                continue
            except asyncio.CancelledError:
                if connection.is_open:
                    connection.abort()
                # It may just have been made, and even have ended: uvloop closes it without telling the protocol.
                self.connections.discard(connection)
                raise
            if self._addresses[0] != address:
                self._addresses = [address, *(other for other in self._addresses if other != address)]
            return connection
        raise last_error or OSError("no address")


class _Connection(asyncio.Protocol):
    """One connection, with one request on it at a time."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._transport: Any = None
        self._call: Call | None = None
        self._reader: Reader | None = None
        self._body: Body | None = None
        self._keeps_alive = False
        self._received = b""  # of a head that is not whole
        self.is_open = False

    def send(self, message: Sequence[bytes | memoryview], reader: Reader, call: Call) -> None:
        """Write a request and read its answer."""
        self._reader, self._call, self._body = reader, call, None
        call.connection = self
        if self.is_open:
            self._transport.writelines(message)
        else:
            self._end("connection closed by the server")

    def abort(self) -> None:
        """Close at once and tell nobody."""
        self._release()
        self.is_open = False
        self._transport.abort()

    def is_silent(self) -> bool:
        """Nothing waits to be read, not even that the server has closed the connection."""
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not waiting.poll(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.is_open = True
        self._pool.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._pool.connections.discard(self)
        if self._reader is None:
            return
        is_whole = error is None and self._body is not None and self._body.ends_with_connection
        if is_whole:
            self._end(None)
        elif error is None:
            self._end("connection closed by the server")
        else:
            self._end(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def data_received(self, received: bytes) -> None:
        reader = self._reader
        if reader is None:  # nothing was asked for
            self.abort()
            return
        try:
            body = self._body
            if body is None:
                body, received = self._read_head(received, reader)
                if body is None:
                    return
            content = body.feed(received) if received else b""
        except BadAnswer as problem:
            self._end(str(problem))
            return
        if content:
            reader.body_received(content, is_last=body.is_whole)
        if body.is_whole and self._reader is reader:  # it may have ended the call meanwhile
            self._keeps_alive = self._keeps_alive and not body.has_excess
            self._end(None)

    def _read_head(self, received: bytes, reader: Reader) -> tuple[Body | None, bytes]:
        """Read the head once it is whole; gives what reads the body, and what has come of it."""
        received = self._received + received
        while True:
            self._received = received
            end = end_of_head(received)
            if end is None:
                return None, b""
            head, received = parse_head(received[:end]), received[end:]
            if head.status == 101:
                raise BadAnswer("status is 101, and no other protocol was asked for")
            if head.status >= 200:
                break
        self._received = b""
        self._keeps_alive = head.keeps_alive
        self._body = body_of(head)
        reader.head_received(head)
        return (self._body if self._reader is reader else None), received

    def _end(self, failure: str | None) -> None:
        """Hand the connection back or close it, and tell the reader."""
        reader = self._reader
        self._release()
        if failure is None and self._keeps_alive and self.is_open and not self._transport.get_write_buffer_size():
            self._pool.keep(self)
        elif self.is_open:
            self.abort()
        if reader is not None:
            reader.ended(failure)

    def _release(self) -> None:
        if self._call is not None:
            self._call.connection = None
        self._reader = self._call = self._body = None
        self._received = b""
