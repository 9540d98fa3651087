"""An event loop whose clock is virtual, and a server in it that answers at exact instants."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# Every instant in a test is a multiple of 1/64 s, which floating point holds exactly.


@dataclass
class Answer:
    """What a request is answered: pieces so long after it was written, then (if given) how the connection ends."""

    pieces: Sequence[tuple[float, bytes]]
    end_s: float | None = None
    error: Exception | None = None
    is_refused: bool = False


@dataclass
class Wire:
    """One connection, as the server's side sees it."""

    loop: "VirtualLoop"
    protocol: asyncio.Protocol
    handles: list[asyncio.TimerHandle] = field(default_factory=list)

    def writelines(self, parts: Sequence[bytes]) -> None:
        message = b"".join(bytes(part) for part in parts)
        match = re.search(rb"x-request-id: (\d+)(?:\.\d+)?\r\n", message)
        assert match is not None
        number, now_s = int(match[1]), self.loop.time()
        self.loop.written_s[number] = now_s
        self.number = number
        answer = self.loop.answer_for(number)
        for after_s, piece in answer.pieces:
            self.handles.append(self.loop.call_at(now_s + after_s, self.protocol.data_received, piece))
        if answer.end_s is not None:
            self.handles.append(self.loop.call_at(now_s + answer.end_s, self._lose, answer.error))

    def abort(self) -> None:
        self.loop.aborted_s[self.number] = self.loop.time()
        for handle in self.handles:
            handle.cancel()
        self.loop.call_soon(self.protocol.connection_lost, None)

    def get_write_buffer_size(self) -> int:
        return 0

    def _lose(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while callbacks run, and jumps to the next timer when nothing is left to do."""

    def __init__(self, answer_for: Callable[[int], Answer]) -> None:
        self._now_s = 0.0
        super().__init__()
        self._clock_resolution = 1e-9  # a timer counts as due only before now and this
        self.answer_for = answer_for
        self.written_s: dict[int, float] = {}
        self.aborted_s: dict[int, float] = {}
        self.connections = 0
        self.refused: set[int] = set()

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now_s = max(self._now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    def stall(self, seconds: float) -> None:
        """Keep the loop busy for so long: what was due meanwhile is done after it."""
        self._now_s += seconds

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(0, 0, 0, "", (host, port))]

    async def create_connection(self, factory: Any, *_: Any, **__: Any) -> Any:
        if self.is_refusing:
            raise ConnectionRefusedError
        self.connections += 1
        protocol = factory()
        wire = Wire(self, protocol)
        protocol.connection_made(wire)
        return wire, protocol

    is_refusing = False
