"""A page of a server, as text, within a time that is bounded as a whole."""

import asyncio
from collections.abc import Mapping

import aiohttp

_LARGEST_BYTES = 64 * 2**20


class HttpStatusError(OSError):
    """The server answered with an error."""

    def __init__(self, status: int, reason: str | None) -> None:
        super().__init__(f"HTTP {status} {reason or ''}".strip())
        self.status = status


def fetch_page(url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> str:
    """The text of a page. No proxy from the environment is asked: the replay itself takes none either.

    Raises:
        HttpStatusError: the server answers with an error.
        OSError: nobody answers, or not all of it comes within `timeout_s`, however it trickles.
        ValueError: the page is absurdly long or no text, or what answers does not speak HTTP.
    """
    try:
        body = asyncio.run(_fetch(url, timeout_s, headers or {}))
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from error
    except aiohttp.ClientConnectorError as error:
        raise error.os_error from error
    except aiohttp.ClientConnectionError as error:
        raise ConnectionError(str(error) or "the connection was closed") from error
    except aiohttp.ClientError as error:
        raise ValueError(f"no answer of HTTP ({error!r})") from error
    if len(body) > _LARGEST_BYTES:
        raise ValueError(f"the page is longer than {_LARGEST_BYTES} bytes")
    return str(body, "utf-8")


async def _fetch(url: str, timeout_s: float, headers: Mapping[str, str]) -> bytes:
    """The first bytes of a page, one more than it may have."""
    body = bytearray()
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
        session.get(url, headers=headers) as answer,
    ):
        if answer.status >= 400:
            raise HttpStatusError(answer.status, answer.reason)
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > _LARGEST_BYTES:
                break
    return bytes(body)
