"""The probe says in one line what is wrong with a server."""

import socket
from typing import Any

import pytest

from loadgen.errors import InputError
from loadgen.target import Target, probe


def complaint(url: str, model: str = "m") -> str:
    with pytest.raises(InputError) as caught:
        probe(Target(url, model))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_a_server_that_serves_the_model_passes(server: Any, ending: str) -> None:
    probe(Target(server.url + ending, "m", "key"))
    assert server.asks[0].path == "/v1/models"
    assert server.asks[0].headers["authorization"] == "Bearer key"


def test_an_unknown_model_lists_the_served_ones(server: Any) -> None:
    assert complaint(server.url, "gpt") == f"{server.url}: model 'gpt' is not served there; served: m"


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert complaint(url) == f"{url}: connection refused; is the server running?"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host:port", "", "http://[::1"])
def test_what_is_no_url_is_told_so(url: str) -> None:
    assert complaint(url) == f"url '{url}': is not the address of a server; want http://HOST:PORT"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"", "answered HTTP 401; check the API key"),
        (404, b"", "answered HTTP 404; is this an OpenAI-compatible server?"),
        (200, b"<html>", "the answer lists no models; is this an OpenAI-compatible server?"),
        (200, b"[]", "the answer lists no models; is this an OpenAI-compatible server?"),
    ],
)
def test_another_kind_of_server_is_told_apart(server: Any, status: int, body: bytes, message: str) -> None:
    server.answer((0, body), status=status)
    server.models = server.script_for
    assert complaint(server.url) == f"{server.url}/v1/models: {message}"
