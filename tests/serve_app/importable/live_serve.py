"""Helpers of the live tests: an application to deploy, a client that asks it, and the processes behind it."""

import asyncio
import copy
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

FAST_HARDWARE = """
name: fast
gpu: none
gpus: 1
model: none
source: made for tests, a step takes 10 ms whatever it does
fit_error_percent: null
fixed_s: 0.01
memory_s: 0
memory_token_s: 0
token_s: 0
sequence_s: 0
kv_token_s: 0
prefill_context_s: 0
mixed_sequence_s: 0
mixed_sequence_s_range: [0, 0]
mixed_kv_token_s: 0
mixed_kv_token_s_range: [0, 0]
host_s: 0
host_s_range: [0, 0]
kv_cache_tokens: 65536
block_tokens: 16
max_sequences: 64
max_batched_tokens: 4096
max_model_tokens: 4096
"""

APP_ARGS: dict[str, Any] = {
    "model_id": "tiny",
    "engine": {"kind": "emulated", "hardware": "set by the fixture", "stream_interval_s": 0.1},
    "fleet": {
        "min_replicas": 0,
        "max_replicas": 12,
        "initial_replicas": 1,
        "cold_start_s": 0.5,
        "max_ongoing_requests": 4,
        "drain_timeout_s": 20.0,
    },
    "router": {"max_queued_requests": 6, "retry_after_s": 3},
    "services": {
        "conversation": {"priority": "interactive", "deadline_s": 30},
        "api": {"priority": "batch", "deadline_s": 30},
    },
    "control": {"period_s": 0.25, "metrics_interval_s": 0.25, "arrivals_bin_s": 0.5, "decision_timeout_s": 1.0},
    "policy": {"name": "static", "params": {"replicas": 1}},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got: the status, headers and body, and when the first and the last of it came (monotonic)."""

    status: int
    headers: dict[str, str]
    body: str
    first_at_s: float
    ended_at_s: float

    @property
    def is_complete_stream(self) -> bool:
        """Whether the stream ended with its end mark."""
        return self.status == 200 and self.body.rstrip().endswith("data: [DONE]")


@dataclass(frozen=True, slots=True)
class LiveServe:
    """A running Serve with helpers to deploy and to ask."""

    port: int
    folder: Path

    def args(self, **changes: dict[str, Any]) -> dict[str, Any]:
        """Arguments of an emulated application; `changes` go into the sections that they name."""
        args = copy.deepcopy(APP_ARGS)
        hardware = self.folder / "fast.yaml"
        hardware.write_text(FAST_HARDWARE)
        args["engine"]["hardware"] = str(hardware)
        for section, values in changes.items():
            args[section] = args.get(section, {}) | values if isinstance(values, dict) else values
        return args

    def deploy(self, name: str, args: dict[str, Any]) -> None:
        """Deploy an application at /name and wait until it runs."""
        from ray import serve

        from serve_app.app import build_app

        serve.run(build_app(args), name=name, route_prefix=f"/{name}")

    def url(self, name: str, path: str = "") -> str:
        """The address of an application."""
        return f"http://127.0.0.1:{self.port}/{name}{path}"

    async def ask(
        self, session: aiohttp.ClientSession, name: str, *, tokens: int, stream: bool = True, **headers: str
    ) -> Answer:
        """Send one completion request; header names are given with underscores."""
        body = {"model": "tiny", "prompt": "one two three", "max_tokens": tokens, "stream": stream}
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with session.post(self.url(name, "/v1/completions"), json=body, headers=sent) as response:
            chunks = []
            first_at_s = None
            async for chunk in response.content.iter_any():
                first_at_s = first_at_s or time.monotonic()
                chunks.append(chunk)
            now_s = time.monotonic()
            found = {key.lower(): value for key, value in response.headers.items()}
            return Answer(response.status, found, b"".join(chunks).decode(), first_at_s or now_s, now_s)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def eventually(check: Callable[[], Awaitable[bool] | bool], within_s: float, what: str) -> float:
    """Wait until `check` holds; how long it took. Fails the test where it does not."""
    start_s = time.monotonic()
    while time.monotonic() - start_s < within_s:
        result = check()
        if await result if isinstance(result, Awaitable) else result:
            return time.monotonic() - start_s
        await asyncio.sleep(0.1)
    raise AssertionError(f"within {within_s} s it did not happen that {what}")


def descendants(process_id: int) -> set[int]:
    """The living processes that a process has started, directly or through others."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: set[int] = set()
    waiting = [process_id]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def is_alive(process_id: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(process_ids: set[int], within_s: float) -> set[int]:
    """Those of the processes that still run after `within_s`."""
    end_s = time.monotonic() + within_s
    while (alive := {pid for pid in process_ids if is_alive(pid)}) and time.monotonic() < end_s:
        time.sleep(0.2)
    return alive


def memory_bytes(process_id: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * 4096
