"""What a replay is going to send: each request with its instant, headers and body, ready before the start."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from loadgen.errors import InputError
from loadgen.records import PLANNED_SCHEMA
from loadgen.trace import SERVICE_LABELS, Service, Trace

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"


class Prompts(Protocol):
    """Where the text of the prompts comes from."""

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:
        """The prompt of each of `rows` of the trace, whatever other rows are asked for."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request, ready to be sent.

    Attributes:
        request_id: its row in the trace.
        max_output_tokens: the length that it asks for.
        scheduled_s: when to send it, from the run's start.
        deadline_s: from `scheduled_s`; what is not there by then counts as timed out.
        path: of the API, as '/v1/completions'.
        header_lines: its own ones, as they are sent, each with its line end.
        body: the JSON; in memory, or a view of a file.
        planned_s: where the plan had it, if `scheduled_s` came of the end of another request; None = just there.
        first_sent_s: when it was sent for the first time, if it is sent again; None = it has not been sent.
        timeout_s: its client gives it up so long after it was sent; infinity = at the deadline.
    """

    request_id: int
    service: str
    model: str
    prompt_tokens: int
    max_output_tokens: int
    scheduled_s: float
    deadline_s: float
    path: str
    header_lines: bytes
    body: bytes | memoryview
    planned_s: float | None = None
    first_sent_s: float | None = None
    timeout_s: float = inf


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What all requests of one replay share.

    Attributes:
        model: the name that they ask for.
        deadlines_s: by service label.
        seed: of the prompts; the prompt of a request depends on it, the trace and the request's row alone, so that
            the number of actors changes nothing.
        run_tag: opens the request ids that are sent, so that two replays never share one.
        extra_body: added to every body; a key whose value is None is left out of it.
        timeout_s: as in `PlannedRequest`.
        running_usage: each chunk is asked how many tokens there are by then; servers that cannot tell leave it out, and
            some refuse a request that asks.
    """

    model: str
    deadlines_s: Mapping[str, float]
    seed: int
    run_tag: str
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = inf
    running_usage: bool = False


def plan_requests(trace: Trace, rows: Sequence[int], form: RequestForm, prompts: Prompts) -> Iterator[PlannedRequest]:
    """The requests of `rows` of the trace, in that order, each made when it is asked for.

    Conversations go to chat completions, API requests to completions. A request that failed in the recorded system
    (0 output tokens) asks for one token, an empty prompt becomes one token. Where `output_is_limit`, the engine ends
    the answer; elsewhere it must go on to the recorded length.
    """
    for row, prompt in zip(rows, prompts.texts(trace, rows, form.seed), strict=True):
        yield _plan_request(trace, int(row), form, prompt)


def header_lines(headers: Mapping[str, str]) -> bytes:
    """The headers as they are sent.

    Raises:
        InputError: a name or value holds what no header can, such as a line end.
    """
    for name, value in headers.items():
        if not (name.isascii() and value.isascii() and name.isprintable() and value.isprintable()):
            raise InputError(f"header '{name}': holds a character that no header can; take printable ASCII")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def planned_columns(trace: Trace, model: str) -> pa.Table:
    """What the records of `trace` must hold when it is replayed, one row per request, with `PLANNED_SCHEMA`."""
    labels = pa.DictionaryArray.from_arrays(pa.array(trace.service), pa.array(SERVICE_LABELS)).cast(pa.string())
    columns = [
        pa.array(np.arange(len(trace)), pa.int64()),
        labels,
        pa.array([model] * len(trace), pa.string()),
        pa.array(trace.prompt_tokens, pa.int32()),
        pa.array(trace.arrival_s, pa.float64()),
    ]
    return pa.Table.from_arrays(columns, schema=PLANNED_SCHEMA)


def _plan_request(trace: Trace, row: int, form: RequestForm, prompt: str) -> PlannedRequest:
    service = Service(int(trace.service[row])).label
    max_output_tokens = max(1, int(trace.output_tokens[row]))
    is_chat = service == Service.CONVERSATION.label
    is_free = trace.output_is_limit is not None and bool(trace.output_is_limit[row])
    body = _body(prompt, max_output_tokens, form, is_chat=is_chat, is_free=is_free)
    headers = {
        "content-type": "application/json",
        "content-length": f"{len(body)}",
        "x-request-id": f"{form.run_tag}-{row}",
        "x-service": service,
    }
    return PlannedRequest(
        request_id=row,
        service=service,
        model=form.model,
        prompt_tokens=int(trace.prompt_tokens[row]),
        max_output_tokens=max_output_tokens,
        scheduled_s=float(trace.arrival_s[row]),
        deadline_s=form.deadlines_s[service],
        path=CHAT_PATH if is_chat else COMPLETIONS_PATH,
        header_lines=header_lines(headers),
        body=body,
        timeout_s=form.timeout_s,
    )


def _body(prompt: str, max_output_tokens: int, form: RequestForm, *, is_chat: bool, is_free: bool) -> bytes:
    """The JSON of a request whose answer has exactly `max_output_tokens` tokens, or at most so many if it `is_free`."""
    text = {"messages": [{"role": "user", "content": prompt}]} if is_chat else {"prompt": prompt}
    body = {
        "model": form.model,
        **text,
        "max_tokens": max_output_tokens,
        "ignore_eos": None if is_free else True,
        "stream": True,
        "stream_options": {"include_usage": True} | ({"continuous_usage_stats": True} if form.running_usage else {}),
        **form.extra_body,
    }
    return json.dumps({key: value for key, value in body.items() if value is not None}).encode()
