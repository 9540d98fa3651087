"""A bare HTTP server on loopback whose every byte and instant is known, in a thread of its own."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Ask:
    """A request as the server saw it; instants of the monotonic clock, which all processes of the machine share."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    arrived_s: float
    written_s: list[float] = field(default_factory=list)
    gone_s: float | None = None


@dataclass
class Script:
    """An answer: each piece of the body so long after the request arrived, and how the connection ends."""

    pieces: list[tuple[float, bytes]]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    ending: str = "whole"  # or "closed", "reset" before the body's end; "open" = never ends


class MockServer:
    """Answers GET by `models` (one model, 'm'), POST by `script_for`; keeps what it was asked."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.script_for: Callable[[Ask], Script] = self.stream()
        self.models: Callable[[Ask], Script] = _models
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end the thread."""
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def answer(self, *pieces: tuple[float, bytes], **script: Any) -> None:
        """Answer every request so."""
        self.script_for = lambda _ask: Script(list(pieces), **script)

    @staticmethod
    def stream(ttft_s: float = 0.0, gap_s: float = 0.0) -> Callable[[Ask], Script]:
        """One chunk for each token that is asked for, then usage and [DONE]."""

        def script(ask: Ask) -> Script:
            tokens = ask.body["max_tokens"]
            pieces = [(ttft_s + gap_s * i, MockServer.token("hi", chat="messages" in ask.body)) for i in range(tokens)]
            end_s = pieces[-1][0]
            return Script([*pieces, (end_s, MockServer.usage(tokens) + MockServer.event("[DONE]"))])

        return script

    @staticmethod
    def event(data: str) -> bytes:
        """One event."""
        return f"data: {data}\n\n".encode()

    @staticmethod
    def token(text: str, *, chat: bool = True) -> bytes:
        """The event of one content chunk."""
        choice = {"delta": {"content": text}} if chat else {"text": text}
        return MockServer.event(json.dumps({"choices": [{"index": 0, **choice}], "usage": None}))

    @staticmethod
    def usage(completion_tokens: int) -> bytes:
        """The event with the counts."""
        return MockServer.event(json.dumps({"choices": [], "usage": {"completion_tokens": completion_tokens}}))

    def asked(self) -> list[Ask]:
        """The requests other than for the list of models."""
        return [ask for ask in self.asks if ask.method == "POST"]

    async def _shut(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                arrived_s = time.monotonic()
                method, path, _ = head[0].split(" ")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                ask = Ask(method, path, headers, json.loads(body) if body else None, connection, arrived_s)
                self.asks.append(ask)
                script = self.script_for(ask) if method == "POST" else self.models(ask)
                if not await self._write(ask, script, reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _write(ask: Ask, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send the answer; says whether the connection can be used again."""
        head = [f"HTTP/1.1 {script.status} X", *(f"{name}: {value}" for name, value in script.headers.items())]
        writer.write("\r\n".join([*head, "transfer-encoding: chunked", "", ""]).encode())
        for at_s, piece in script.pieces:
            # Reading nothing until then, or the client's end of the connection.
            wait_s = ask.arrived_s + at_s - time.monotonic()
            if wait_s > 0 and await _gone_within(reader, wait_s):
                ask.gone_s = time.monotonic()
                return False
            ask.written_s.append(time.monotonic())
            if not piece:
                continue  # an empty chunk would end the body
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        if script.ending == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await asyncio.sleep(0.05)  # or the reset would overtake what was sent
            writer.transport.abort()
        elif script.ending == "open":
            await _gone_within(reader, 5)
            ask.gone_s = time.monotonic()
        elif script.ending == "whole":
            writer.write(b"0\r\n\r\n")
            return True
        return False


async def _gone_within(reader: asyncio.StreamReader, seconds: float) -> bool:
    try:
        return not await asyncio.wait_for(reader.read(1), seconds)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def _models(_ask: Ask) -> Script:
    return Script([(0, json.dumps({"data": [{"id": "m"}]}).encode())], headers={"content-type": "application/json"})


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A running mock server."""
    running = MockServer()
    yield running
    running.close()
