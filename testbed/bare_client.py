"""The least that a client can do: write a request, stamp each piece of its answer. The floor that a client is held to.

It reads nothing of the answer but its last five bytes, keeps no deadline and writes no record. Takes the same input as
`loadgen.null_client`.
"""

import asyncio
import json
import math
import sys
import time
from typing import Any

import uvloop

from loadgen.null_client import null_plan


class _Connection(asyncio.Protocol):
    def __init__(self, idle: "list[_Connection]") -> None:
        self._idle = idle
        self.pieces_s: list[float] = []
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.pieces_s.append(time.monotonic())
        if data.endswith(b"0\r\n\r\n"):
            self.pieces_s.clear()
            self.answers += 1
            self._idle.append(self)


async def _send_all(job: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    port = int(job["url"].rsplit(":", 1)[1])
    plan = null_plan(job["numbers"], job["planned_s"])
    head = b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    messages = [head + request.header_lines + b"\r\n" + bytes(request.body) for request in plan]
    idle: list[_Connection] = []
    connections: list[_Connection] = []

    async def send_on_new(message: bytes) -> None:
        _, connection = await loop.create_connection(lambda: _Connection(idle), "127.0.0.1", port)
        connections.append(connection)
        connection.transport.write(message)

    before_s = time.process_time()
    print("ready", flush=True)
    start_epoch_s = float(await loop.run_in_executor(None, sys.stdin.readline))
    start_s = time.monotonic() + start_epoch_s - time.time()
    opening = set()
    for message, planned_s in zip(messages, job["planned_s"], strict=True):
        wait_ms = math.ceil((start_s + planned_s) * 1e3) - math.floor(time.monotonic() * 1e3)
        if wait_ms > 0:
            await asyncio.sleep(wait_ms / 1e3)
        if idle:
            idle.pop().transport.write(message)
        else:
            opening.add(loop.create_task(send_on_new(message)))
    while sum(connection.answers for connection in connections) < len(messages):
        await asyncio.sleep(0.01)
    print(json.dumps({"ok": len(messages), "cpu_s": time.process_time() - before_s}), flush=True)


if __name__ == "__main__":
    uvloop.run(_send_all(json.loads(sys.stdin.readline())))
