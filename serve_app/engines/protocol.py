"""What the ingress asks of an engine replica, whichever engine it hosts."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Endpoint = Literal["chat", "completions"]


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One request as the ingress hands it to a replica.

    Attributes:
        endpoint: 'chat' = /v1/chat/completions, 'completions' = /v1/completions.
        body: the JSON body as the client sent it; the ingress has checked its form (`serve_app.openai_api`).
        request_id: the client's `x-request-id`, or one made by the ingress.
        service: label of the service ('conversation', 'api').
        deadline_epoch_s: the ingress waits for the first token until then; epoch seconds.
        replica_id: the replica that the ingress chose; Serve may still take another one, if that one is just lost.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    request_id: str
    service: str
    deadline_epoch_s: float
    replica_id: str = ""


class EngineReplica(Protocol):
    """The class of an engine deployment. The deployment's name is `ENGINE_DEPLOYMENT`."""

    def generate(self, call: EngineCall) -> AsyncGenerator[str, None]:
        """Answer one request, item by item. Called with `handle.options(stream=True)`.

        Items, in this order:
            1. one JSON object `{"replica_id": ...}` (`accepted_item`), at once, before any work;
            2. when `body["stream"]` is true: SSE frames, `data: {...}` with two line ends each, the last one
               `data: [DONE]`; otherwise exactly one JSON document, the whole answer;
            or, in place of 2 or after some of its frames, one `{"error": {...}}` (`serve_app.openai_api.error_json`).

        The generator is closed when the client leaves or the ingress gives up: the engine then frees the request.
        """
        ...

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Running, waiting, kv_cache_fraction, tokens_per_s (`EngineReporter.autoscaling_stats`); read by Serve."""
        ...

    async def check_health(self) -> None:
        """Raise when the engine can serve no more; end the process where the engine is dead for good."""
        ...


ENGINE_DEPLOYMENT = "engine"
INGRESS_DEPLOYMENT = "ingress"
