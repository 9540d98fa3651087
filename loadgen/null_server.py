"""A server that does nothing but stream: it answers each request with chunks at fixed instants and notes when it came.

What it sends costs next to nothing, so that what is late or slow beside it is the client. Run in a process of its own:
`python -m loadgen.null_server`; the first line of its output is its port, and once its input is closed it prints how
many seconds of processor time it has used, and each arrival as 'MAX_TOKENS INSTANT' (seconds of the monotonic clock).
"""

import asyncio
import json
import re
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MAX_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
_RUNNING_USAGE = re.compile(rb'"continuous_usage_stats": *true')
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Stream:
    """What is answered: so many chunks of one token each, the first after `ttft_s`, then one every `itl_s`."""

    chunks: int = 20
    ttft_s: float = 0.05
    itl_s: float = 0.01


class NullServer:
    """Answers on loopback until it is closed.

    Attributes:
        arrivals: of each request, `max_tokens` of its body (clients number their requests by it) and the instant at
            which the last of its bytes was read, by the monotonic clock, which all processes of a machine share.
    """

    def __init__(self, stream: Stream) -> None:
        self.arrivals: list[tuple[int, float]] = []
        self.stream = stream
        self._chunks = {
            (is_chat, tells_usage): _chunks(stream, is_chat=is_chat, tells_usage=tells_usage)
            for is_chat in (False, True)
            for tells_usage in (False, True)
        }

    async def start(self) -> int:
        """Listen; gives the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=4096)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def answer_to(self, request: bytes, end_of_head: int) -> list[bytes]:
        """The chunks to send, each with the tokens so far where the request asks for that."""
        is_chat = request.startswith(b"POST /v1/chat/")
        return self._chunks[is_chat, _RUNNING_USAGE.search(request, end_of_head) is not None]

    def close(self) -> None:
        """Listen no more."""
        self._server.close()


class _Connection(asyncio.Protocol):
    """One client's connection; requests on it come one after another."""

    def __init__(self, server: NullServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end_of_head = self._received.find(b"\r\n\r\n")
        if end_of_head < 0:
            return
        length = _LENGTH.search(self._received, 0, end_of_head)
        if len(self._received) < end_of_head + 4 + (int(length[1]) if length else 0):
            return
        now_s = time.monotonic()
        request, self._received = self._received, b""
        if request.startswith(b"GET"):
            models = json.dumps({"object": "list", "data": [{"id": "null", "object": "model"}]}).encode()
            self._transport.write(_HEAD % b"application/json" + _chunk(models) + _LAST_CHUNK)
            return
        number = _MAX_TOKENS.search(request, end_of_head)
        self._server.arrivals.append((int(number[1]) if number else 0, now_s))
        self._chunks = self._server.answer_to(request, end_of_head)
        self._next = 0
        self._first_s = now_s + self._server.stream.ttft_s
        self._timer = self._loop.call_later(self._server.stream.ttft_s, self._send)

    def _send(self) -> None:
        chunk = self._chunks[self._next]
        self._transport.write(_HEAD % b"text/event-stream" + chunk if self._next == 0 else chunk)
        self._next += 1
        if self._next < len(self._chunks):
            due_s = self._first_s + self._next * self._server.stream.itl_s
            self._timer = self._loop.call_later(max(0.0, due_s - time.monotonic()), self._send)
        else:
            self._timer = None


def _chunks(stream: Stream, *, is_chat: bool, tells_usage: bool) -> list[bytes]:
    """The chunks of an answer, the last one with all that ends it."""
    about = {"id": "0", "object": "chat.completion.chunk" if is_chat else "text_completion", "created": 0}
    choice = {"index": 0, "finish_reason": None} | ({"delta": {"content": " null"}} if is_chat else {"text": " null"})
    usages = [
        {"usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}}
        for tokens in range(1, stream.chunks + 1)
    ]
    chunks = [
        _chunk(_event({**about, "model": "null", "choices": [choice], **(usage if tells_usage else {})}))
        for usage in usages
    ]
    usage = _event({**about, "model": "null", "choices": [], **usages[-1]})
    return [*chunks[:-1], chunks[-1] + _chunk(usage) + _chunk(b"data: [DONE]\n\n") + _LAST_CHUNK]


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


async def _serve() -> None:
    server = NullServer(Stream())
    print(await server.start(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime)
    for number, instant_s in server.arrivals:
        print(number, repr(instant_s))


if __name__ == "__main__":
    uvloop.run(_serve())
