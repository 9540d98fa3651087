"""A server on loopback that says what a test tells it to, byte by byte, and ends the connection as it is told."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"text":"a"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(content: bytes) -> bytes:
    """One chunk of a body in chunks."""
    return b"%x\r\n%b\r\n" % (len(content), content)


WHOLE = HEAD + chunk(TOKEN) + chunk(DONE) + b"0\r\n\r\n"


def says(*pieces: bytes, then: str = "close", gap_s: float = 0.0) -> Behaviour:
    """Write the pieces; then close the connection, reset it, or stay without a word."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(gap_s)
        if then == "reset":
            await asyncio.sleep(0.05)  # or the reset would overtake what was sent
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif then == "stay":
            await asyncio.sleep(30)

    return behave


def endlessly(head: bytes, piece: bytes) -> Behaviour:
    """Write the piece again and again."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return behave


@asynccontextmanager
async def serving(behaviour: Behaviour) -> Any:
    """A server on loopback that behaves so once it has read a whole request; gives its url."""
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[Any]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers.add(writer)
        tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                await behaviour(writer)
                if behaviour in KEEPS_OPEN:
                    continue
                break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writers.discard(writer)
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


def open_sockets() -> int:
    """Sockets that this process holds."""
    held = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            held += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except OSError:
            continue
    return held


whole_answers = says(WHOLE)
KEEPS_OPEN = {whole_answers}
