"""A file server on loopback, reached without a proxy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.loadgen.fetch.file_server import FileServer


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A running file server that behaves until a test changes it."""
    scripted = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scripted.answer(self)

        def log_message(self, *_args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_args: object) -> None:
            """A client that has seen enough hangs up."""

    running = Server(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{running.server_port}/file"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield scripted
    running.shutdown()
    running.server_close()
    thread.join(timeout=5)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests says."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
