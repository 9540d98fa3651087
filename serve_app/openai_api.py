"""The OpenAI-compatible API in plain values: reading requests, and the JSON of answers, chunks and errors.

Source: OpenAI API reference, "Chat" and "Completions" (objects `chat.completion`, `chat.completion.chunk`,
`text_completion`, `list` of `model`); the keys `cause` and `phase` in an error are ours.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadgen.records import Cause, Phase
from serve_app.engines.protocol import Endpoint

DONE_FRAME = "data: [DONE]\n\n"
COMPLETIONS_DEFAULT_MAX_TOKENS = 16  # OpenAI's default for /v1/completions; chat has none


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        cause: our word for it, where there is one.
        phase: where the request was, where that is known.
        retry_after_s: for the header `Retry-After`.
        replica_id: the replica that had the request, where one had it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str,
        cause: Cause | None = None,
        retry_after_s: int | None = None,
        phase: Phase | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.cause = cause
        self.phase = phase
        self.retry_after_s = retry_after_s
        self.replica_id: str | None = None

    def as_json(self) -> str:
        """The error document."""
        return error_json(self.status, self.message, self.kind, self.cause, self.phase)


def bad_request(message: str) -> ApiError:
    """The answer to a request that cannot be understood."""
    return ApiError(400, message, "invalid_request_error")


def too_long(message: str) -> ApiError:
    """The answer to a request that no replica can hold."""
    return ApiError(400, message, "invalid_request_error", Cause.TOO_LONG)


def error_json(status: int, message: str, kind: str, cause: Cause | None, phase: Phase | None = None) -> str:
    """The error document: `{"error": {"message", "type", "code", "cause", "phase"}}`."""
    error: dict[str, Any] = {"message": message, "type": kind, "code": status}
    if cause is not None:
        error["cause"] = cause.value
    if phase is not None:
        error["phase"] = phase.value
    return json.dumps({"error": error})


def accepted_item(replica_id: str) -> str:
    """The first item of an engine's answer: which replica has taken the request."""
    return json.dumps({"replica_id": replica_id})


def frame(document: str) -> str:
    """One server-sent event."""
    return f"data: {document}\n\n"


@dataclass(frozen=True, slots=True)
class Generation:
    """What a request asks for, as far as the emulated engine and the router need to know.

    Attributes:
        prompt: its words or token ids in order; one word is one token for the emulated engine. A message's first word
            names its role as well: the same words of another speaker are another prompt.
        max_tokens: None where the client left it open.
        include_usage: the last chunk of a stream shall hold the usage.
        continuous_usage: so shall all others, as it is then; as in vLLM, only beside `include_usage`.
    """

    endpoint: Endpoint
    model: str
    prompt: tuple[str, ...]
    max_tokens: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool

    @property
    def prompt_words(self) -> int:
        """The prompt's length."""
        return len(self.prompt)


def read_generation(endpoint: Endpoint, body: Any) -> Generation:
    """Check a request's form and take from it what matters here; the rest is the engine's business.

    Raises:
        ApiError: 400, the form is wrong.
    """
    if not isinstance(body, Mapping):
        raise bad_request(f"the body must be a JSON object, got {type(body).__name__}")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request(f"'model' must be a non-empty string, got {model!r}")
    if body.get("n", 1) not in (1, None):
        raise bad_request(f"'n' must be 1, got {body['n']!r}")
    words = _chat_words(body.get("messages")) if endpoint == "chat" else _prompt_words(body.get("prompt"))
    max_tokens = body.get("max_completion_tokens") if endpoint == "chat" else None
    max_tokens = body.get("max_tokens") if max_tokens is None else max_tokens
    if max_tokens is not None and (not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1):
        raise bad_request(f"'max_tokens' must be an integer >= 1, got {max_tokens!r}")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise bad_request(f"'stream_options' must be an object, got {options!r}")
    include_usage = bool(options.get("include_usage"))
    return Generation(
        endpoint,
        model,
        tuple(words),
        max_tokens,
        bool(body.get("stream")),
        include_usage,
        include_usage and bool(options.get("continuous_usage_stats")),
    )


def _prompt_words(prompt: Any) -> list[str]:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt.split()
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return [f"#{token}" for token in prompt]
    raise bad_request("'prompt' must be one string or one list of token ids")


def _chat_words(messages: Any) -> list[str]:
    if not isinstance(messages, list) or not messages:
        raise bad_request("'messages' must be a non-empty list")
    words: list[str] = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise bad_request(f"each message must be an object with a 'role', got {message!r}")
        said = [word for text in _message_texts(message) for word in text.split()]
        if said:
            words.append(f"<{message['role']}> {said[0]}")
            words.extend(said[1:])
    return words


def _message_texts(message: Mapping[str, Any]) -> list[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    texts = [part.get("text", "") if isinstance(part, Mapping) else None for part in parts]
    if any(not isinstance(text, str) for text in texts):
        raise bad_request("a message's 'content' must be a string or a list of text parts")
    return [str(text) for text in texts]


@dataclass(frozen=True, slots=True)
class AnswerWriter:
    """Writes the answer to one request, whole or in chunks. `created_s`: epoch seconds."""

    generation: Generation
    request_id: str
    created_s: int

    def whole(self, text: str, output_tokens: int) -> str:
        """The answer in one document."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        if self.generation.endpoint == "chat":
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice |= {"text": text, "logprobs": None}
        return self._document(choices=[choice], usage=self._usage(output_tokens), chunk=False)

    def chunk(self, text: str, output_tokens: int, *, first: bool, last: bool) -> str:
        """One chunk of a stream, as a server-sent event; with it there are so many tokens."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if last else None}
        if self.generation.endpoint == "chat":
            choice["delta"] = {"role": "assistant", "content": text} if first else {"content": text}
        else:
            choice |= {"text": text, "logprobs": None}
        usage = self._usage(output_tokens) if self.generation.continuous_usage else None
        return frame(self._document(choices=[choice], usage=usage, chunk=True))

    def end(self, output_tokens: int) -> str:
        """What closes a stream: the usage, if it was asked for, and the end mark."""
        if not self.generation.include_usage:
            return DONE_FRAME
        return frame(self._document(choices=[], usage=self._usage(output_tokens), chunk=True)) + DONE_FRAME

    def _usage(self, output_tokens: int) -> dict[str, int]:
        prompt_tokens = self.generation.prompt_words
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": prompt_tokens + output_tokens,
        }

    def _document(self, *, choices: list[dict[str, Any]], usage: dict[str, int] | None, chunk: bool) -> str:
        chat = self.generation.endpoint == "chat"
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else "text_completion"
        document: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.request_id}",
            "object": kind,
            "created": self.created_s,
            "model": self.generation.model,
            "choices": choices,
        }
        if usage is not None:
            document["usage"] = usage
        return json.dumps(document)


def model_json(model_id: str, created_s: int) -> str:
    """The answer of /v1/models/MODEL."""
    return json.dumps(_model(model_id, created_s))


def models_json(model_id: str, created_s: int) -> str:
    """The answer of /v1/models: the one model that is served."""
    return json.dumps({"object": "list", "data": [_model(model_id, created_s)]})


def _model(model_id: str, created_s: int) -> dict[str, Any]:
    return {"id": model_id, "object": "model", "created": created_s, "owned_by": "burstscale"}
