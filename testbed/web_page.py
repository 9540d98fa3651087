"""A page of a server, as text."""

import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

_LARGEST_BYTES = 64 * 2**20


def fetch_page(url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> str:
    """The text of a page. No proxy from the environment is asked: the replay itself takes none either.

    Raises:
        OSError: nobody answers, or with an error (`urllib.error.HTTPError`).
        ValueError: the page is absurdly long or no text, or what answers does not speak HTTP.
    """
    request = urllib.request.Request(url, headers=dict(headers or {}))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            body = answer.read(_LARGEST_BYTES + 1)
    except HTTPException as error:
        raise ValueError(f"no answer of HTTP ({error!r})") from error
    if len(body) > _LARGEST_BYTES:
        raise ValueError(f"the page is longer than {_LARGEST_BYTES} bytes")
    return str(body, "utf-8")
