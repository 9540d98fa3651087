"""A page comes within its time or not at all, and what is wrong with it is told apart."""

import socket
import time
from typing import Any

import pytest

from loadgen.web_page import HttpStatusError, fetch_page
from tests.loadgen.conftest import Script

TEXT = {"content-type": "text/plain"}


def serve(server: Any, *pieces: tuple[float, bytes], **script: Any) -> str:
    server.models = lambda _ask: Script(list(pieces), headers=TEXT, **script)
    return f"{server.url}/page"


def test_a_page_comes_whole_and_the_headers_go_with_the_question(server: Any) -> None:
    url = serve(server, (0.0, "größer ".encode()), (0.05, b"page"))
    assert fetch_page(url, timeout_s=5.0, headers={"authorization": "Bearer key"}) == "größer page"
    assert server.asks[0].headers["authorization"] == "Bearer key"


def test_a_page_that_trickles_is_given_up_although_something_comes_all_the_time(server: Any) -> None:
    url = serve(server, *((0.05 * piece, b".") for piece in range(2000)))
    began_s = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^no answer within 0\.4 s$"):
        fetch_page(url, timeout_s=0.4)
    assert time.monotonic() - began_s < 50  # of the 100 that the page takes


def test_a_server_that_never_answers_is_given_up(server: Any) -> None:
    with pytest.raises(TimeoutError, match="no answer within"):
        fetch_page(serve(server, (3600.0, b"late")), timeout_s=0.2)


def test_an_error_of_the_server_has_its_status(server: Any) -> None:
    with pytest.raises(HttpStatusError, match=r"^HTTP 404 ") as caught:
        fetch_page(serve(server, (0.0, b"gone"), status=404), timeout_s=5.0)
    assert caught.value.status == 404


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_a_page_that_is_cut_off_is_no_page(server: Any, ending: str) -> None:
    with pytest.raises((OSError, ValueError)):
        fetch_page(serve(server, (0.0, b"half"), ending=ending), timeout_s=5.0)


def test_nobody_listens_and_no_text_are_two_things(server: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        fetch_page(url, timeout_s=5.0)
    with pytest.raises(UnicodeDecodeError):
        fetch_page(serve(server, (0.0, b"\xff\xfe")), timeout_s=5.0)
