"""The server that a replay sends to, and the check that it is there."""

import json
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadgen.errors import InputError
from loadgen.web_page import HttpStatusError, fetch_page

_PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible server.

    Attributes:
        url: 'http://host:port', with or without '/v1' at the end.
        model: the name that requests ask for.
        api_key: sent as bearer token; None = none is sent.
        extra_headers: names (in lower case) and values that every request carries besides.
    """

    url: str
    model: str
    api_key: str | None = None
    extra_headers: tuple[tuple[str, str], ...] = ()

    @property
    def root(self) -> str:
        """The URL that '/v1/...' is appended to."""
        return self.url.rstrip("/").removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every request carries."""
        key = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {**key, **dict(self.extra_headers)}


def probe(target: Target) -> None:
    """Check that the server answers and serves the model.

    Raises:
        InputError: the URL is malformed, nobody answers, the answer is no list of models, or the model is not in it.
    """
    models = _served_models(target)
    if target.model not in models:
        known = ", ".join(models) or "none"
        raise InputError(f"{target.root}: model '{target.model}' is not served there; served: {known}")


def _served_models(target: Target) -> list[str]:
    """Ask `/v1/models`."""
    url = _checked_url(target)
    try:
        page = fetch_page(f"{url}/v1/models", timeout_s=_PROBE_TIMEOUT_S, headers=target.headers)
    except HttpStatusError as error:
        advice = "check the API key" if error.status in (401, 403) else "is this an OpenAI-compatible server?"
        raise InputError(f"{url}/v1/models: answered HTTP {error.status}; {advice}") from error
    except OSError as error:
        raise InputError(f"{url}: {_reason(error)}; is the server running?") from error
    except ValueError as error:
        raise InputError(f"{url}: does not answer as HTTP ({error}); check the url") from error
    try:
        return [str(model["id"]) for model in json.loads(page)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{url}/v1/models: the answer lists no models; is this an OpenAI-compatible server?"
        ) from error


def _checked_url(target: Target) -> str:
    """The root URL, once it is certain that it is one."""
    try:
        parts = urlsplit(target.root)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_url = False
    if not is_url:
        raise InputError(f"url '{target.url}': is not the address of a server; want http://HOST:PORT")
    return target.root


def _reason(error: OSError) -> str:
    """Why a connection failed, in lower-case words; a name that is not known has a number of its own, below 0."""
    return (os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)).lower()
