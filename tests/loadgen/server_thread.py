"""A server in a thread of its own that treats each connection and each request in another of many ways."""

import asyncio
import re
import ssl
import threading

from tests.loadgen.misbehaving_server import DONE, HEAD, TOKEN, WHOLE, Behaviour, chunk, says, whole_answers

_BUSY = b"HTTP/1.1 503 X\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n"
says_busy = says(_BUSY)
two_tokens = says(HEAD + chunk(TOKEN), chunk(TOKEN), chunk(DONE) + b"0\r\n\r\n", gap_s=0.02)
BEHAVIOURS: tuple[Behaviour, ...] = (
    whole_answers,
    two_tokens,
    says_busy,
    whole_answers,
    says(),  # closes without an answer
    says(then="stay"),
    whole_answers,
    says(HEAD + chunk(TOKEN)),  # cuts the stream
    says(HEAD + chunk(TOKEN), then="reset"),
    says(HEAD + chunk(TOKEN), then="stay"),
    says_busy,
    says(HEAD + chunk(TOKEN) + chunk(DONE), then="stay"),
    says(WHOLE + b"garbage"),
    says(b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nno"),
)
KEEPS_OPEN = {whole_answers, two_tokens, says_busy}
# Of each eleven connections these are closed at once, or spoken on before anything was asked.
_CLOSED, _SPOKEN_ON, _OF = (4,), (1, 8), 11


class ServerThread:
    """Listens on loopback until `close`; what is done to a request goes by its id and attempt alone."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024, ssl=tls)
        )
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        self.url = f"{scheme}://{host}:{self._server.sockets[0].getsockname()[1]}"
        self._loop.set_exception_handler(lambda *_: None)  # clients that vanish in a handshake are what is tested
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Count connections from none."""
        self._connections = 0

    def drop(self) -> None:
        """Close all connections."""
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(timeout=10)

    def close(self) -> None:
        """Stop listening and end the thread."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.drop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _drop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for writer in list(self._writers):
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._connections += 1
        try:
            if self._connections % _OF in _SPOKEN_ON:
                writer.write(WHOLE)
            if self._connections % _OF not in _CLOSED:
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behaviour: Behaviour = whole_answers
        while behaviour in KEEPS_OPEN:
            head = await reader.readuntil(b"\r\n\r\n")
            match = re.search(rb"x-request-id: t-(\d+)(?:\.(\d+))?\r\n", head)
            length = re.search(rb"content-length: (\d+)\r\n", head)
            await reader.readexactly(int(length[1]) if length else 0)
            behaviour = behaviour_of(int(match[1]), int(match[2] or 1)) if match else whole_answers
            await behaviour(writer)


def behaviour_of(number: int, attempt: int) -> Behaviour:
    """What is done to an attempt of a request."""
    return BEHAVIOURS[(number * 5 + attempt * 3) % len(BEHAVIOURS)]
