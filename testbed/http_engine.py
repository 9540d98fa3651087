"""A running vLLM server as an engine to measure: one request's tokens over HTTP, and what it says of its limits."""

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from loadgen.errors import InputError
from loadgen.sse import EventParser
from testbed.engine_load import Generate

TOKEN_IDS = (10, 200)  # that any model's vocabulary has, without the special tokens
NULL_REQUESTS = 20


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """What a server tells of itself.

    Attributes:
        null_s: what a request takes that the engine has no part in (GET /health), median.
    """

    model: str
    version: str
    max_model_tokens: int
    blocks: int
    block_tokens: int
    has_prefix_cache: bool
    null_s: float


def http_generator(session: aiohttp.ClientSession, model: str, rng: np.random.Generator) -> Generate:
    """A function that has the server answer one request to made-up tokens."""

    async def generate(prompt_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        body = {
            "model": model,
            "prompt": rng.integers(*TOKEN_IDS, prompt_tokens).tolist(),
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        events = EventParser()
        async with session.post("/v1/completions", json=body) as response:
            if response.status != 200:
                said = " ".join((await response.text()).split())
                raise InputError(f"{response.url}: HTTP {response.status} ({said[:200]}); want a vLLM server")
            async for chunk in response.content.iter_any():
                for event in events.feed(chunk):
                    answer: dict[str, Any] = {} if event == b"[DONE]" else json.loads(event)
                    if answer.get("choices"):
                        yield int(answer["usage"]["completion_tokens"])

    return generate


async def ask_server(session: aiohttp.ClientSession) -> ServedEngine:
    """Ask the server for its model and its cache.

    Raises:
        InputError: it cannot be reached, or is no vLLM.
    """
    try:
        async with session.get("/v1/models") as response:
            served = (await response.json())["data"][0]
        async with session.get("/version") as response:
            version = (await response.json())["version"]
        async with session.get("/metrics") as response:
            metrics = await response.text()
        cache = dict(re.findall(r'(\w+)="([^"]*)"', _line(metrics, "vllm:cache_config_info")))
        return ServedEngine(
            model=str(served["id"]),
            version=str(version),
            max_model_tokens=int(served["max_model_len"]),
            blocks=int(cache["num_gpu_blocks"]),
            block_tokens=int(cache["block_size"]),
            has_prefix_cache=cache["enable_prefix_caching"] == "True",
            null_s=await _null_request_s(session),
        )
    except (aiohttp.ClientError, OSError) as error:
        raise InputError(f"--url: no answer ({type(error).__name__}: {error}); is the server up?") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"--url: this server does not answer as vLLM does ({error!r}); want a vLLM server") from error


def _line(metrics: str, name: str) -> str:
    """The first line of a metric."""
    return next((line for line in metrics.splitlines() if line.startswith(name)), "")


async def _null_request_s(session: aiohttp.ClientSession) -> float:
    """Median time of requests that only the web server handles."""
    taken_s = []
    for _ in range(NULL_REQUESTS):
        sent_s = time.monotonic()
        async with session.get("/health") as response:
            await response.read()
        taken_s.append(time.monotonic() - sent_s)
    return float(np.median(taken_s))
