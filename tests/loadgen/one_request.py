"""One planned request, and how it is sent over a pool of its own."""

import json
import time
from typing import Any

from loadgen.client import StreamClient, send_request
from loadgen.plan import PlannedRequest, header_lines
from loadgen.records import RequestRecord
from loadgen.run_clock import RunClock
from loadgen.target import Target

DONE = b"data: [DONE]\n\n"
# A shared machine may hold a process up for so long; never the other way: nothing is known before it was sent.
LATE_S = 0.25


def request_for(tokens: int = 3, deadline_s: float = 5.0, **changes: Any) -> PlannedRequest:
    """A chat request that is due at once, with changes."""
    fields: dict[str, Any] = {
        "request_id": 7,
        "service": "conversation",
        "model": "m",
        "prompt_tokens": 11,
        "max_output_tokens": tokens,
        "scheduled_s": 0.0,
        "deadline_s": deadline_s,
        "path": "/v1/chat/completions",
        "body": json.dumps({"model": "m", "messages": [], "max_tokens": tokens}).encode(),
    }
    fields |= changes
    headers = {"x-request-id": "t-7", "content-length": str(len(fields["body"]))}
    return PlannedRequest(header_lines=header_lines(headers), **fields)


async def send(url: str, request: PlannedRequest | None = None, clock: RunClock | None = None) -> RequestRecord:
    """Send one request over a pool of its own, the run starting now."""
    async with StreamClient(Target(url, "m", "secret")) as client:
        return await send_request(client, request or request_for(), clock or RunClock(time.monotonic()))


def error_body(cause: str | None, message: str = "why", code: int = 500) -> bytes:
    """An error object as the ingress answers it."""
    error = {"message": message, "type": "x", "code": code}
    return json.dumps({"error": error | ({"cause": cause} if cause else {})}).encode()
