"""The OpenAI-compatible front: checks requests, counts arrivals, keeps deadlines, queues, and passes answers on.

It imports neither vLLM nor `ray.llm`: it starts in a few seconds and stays small.
"""

import asyncio
import hmac
import json
import logging
import math
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from loadgen.records import Cause, Phase
from serve_app import ready_replicas
from serve_app.config import AppConfig
from serve_app.dispatcher import Dispatcher, Slot, deadline_error
from serve_app.engines.protocol import ENGINE_DEPLOYMENT, Endpoint, EngineCall
from serve_app.fleet_answers import FLEET_PATHS, FleetAnswers
from serve_app.fleet_api import FleetDescription
from serve_app.openai_api import ApiError, bad_request, frame, model_json, models_json, read_generation, too_long
from serve_app.replica_choice import ReplicaChoice
from serve_app.router_queue import QueuedRequest, RouterQueue
from serve_app.traffic import ArrivalCounter
from serve_app.traffic_push import TrafficPush

logger = logging.getLogger("ray.serve")

ENDPOINTS: Mapping[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}
DEFAULT_SERVICE: Mapping[Endpoint, str] = {"chat": "conversation", "completions": "api"}


class Ingress:
    """The ingress deployment: one replica, so that one queue sees every request."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it, in the loop that serves requests
        self, config: AppConfig, fleet: FleetDescription, max_model_tokens: int | None, engine: DeploymentHandle
    ) -> None:
        self._config = config
        self._max_model_tokens = max_model_tokens
        self._engine = engine.options(method_name="generate", stream=True)
        self._api_key = _read_api_key(config)
        self._created_s = int(time.time())
        self._arrivals = ArrivalCounter(config.control.arrivals_bin_s)
        router = config.router
        self._dispatcher = Dispatcher(
            config.fleet.max_ongoing_requests,
            RouterQueue(router.max_queued_requests, router.queue_order),
            ReplicaChoice(router.routing, np.random.default_rng()),
            router.retry_after_s,
        )
        app_name = serve.get_replica_context().app_name
        self._push = TrafficPush(
            app_name, config, self._arrivals, lambda: self._dispatcher.queued(tuple(config.services))
        )
        self._fleet = FleetAnswers(app_name, fleet)
        self._loop = asyncio.get_running_loop()
        ready_replicas.listen(app_name, ENGINE_DEPLOYMENT, self._hear_of_ready_replicas)
        self._push.start()

    def _hear_of_ready_replicas(self, replica_ids: frozenset[str]) -> None:
        """Called in the request router's thread."""
        self._loop.call_soon_threadsafe(self._dispatcher.set_ready, replica_ids)

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        request_id = request.headers.get("x-request-id") or uuid.uuid4().hex
        try:
            response = await self._route(request, request_id)
        except ApiError as error:
            response = self._error(error)
        response.headers["x-request-id"] = request_id
        return response

    async def _route(self, request: Request, request_id: str) -> Response:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        if path == "/health" and request.method == "GET":
            return _json(json.dumps({"status": "ok", "ready_replicas": self._dispatcher.ready_replicas}))
        self._check_key(request)
        if path == "/v1/models" and request.method == "GET":
            return _json(models_json(self._config.model_id, self._created_s))
        if path == f"/v1/models/{self._config.model_id}" and request.method == "GET":
            return _json(model_json(self._config.model_id, self._created_s))
        if path in FLEET_PATHS and request.method == "GET":
            return _json(await self._fleet.answer(path, dict(request.query_params)))
        endpoint = ENDPOINTS.get(path)
        if endpoint is None:
            raise ApiError(404, f"there is no {path} here", "not_found_error")
        if request.method != "POST":
            raise ApiError(405, f"{path} takes POST, got {request.method}", "invalid_request_error")
        return await self._generate(endpoint, request, request_id)

    async def _generate(self, endpoint: Endpoint, request: Request, request_id: str) -> Response:
        arrived_s = time.time()
        body = await _read_body(request)
        queued = self._check_generation(endpoint, body, request, arrived_s)
        self._arrivals.count(queued.service, time.time())  # not arrived_s: a bin that was reported is closed
        slot = await self._dispatcher.acquire(queued)
        call = EngineCall(endpoint, body, request_id, queued.service, queued.deadline_s, slot.replica_id)
        answer = EngineAnswer(self._engine, call, slot, self._dispatcher)
        try:
            first = await answer.first_item()
        except BaseException as error:  # a refusal or a client that left: the slot must not be lost
            answer.close()
            if isinstance(error, ApiError):
                error.replica_id = slot.replica_id
            raise
        headers = {"x-replica-id": slot.replica_id}
        if body.get("stream"):
            return AnswerStream(first, answer, headers)
        answer.close()
        return Response(first, media_type="application/json", headers=headers)

    def _check_generation(self, endpoint: Endpoint, body: Any, request: Request, arrived_s: float) -> QueuedRequest:
        """What the queue needs to know of a request; an ApiError where it cannot be served at all."""
        generation = read_generation(endpoint, body)
        if generation.model != self._config.model_id:
            raise ApiError(
                404, f"model {generation.model!r} is not served here; '{self._config.model_id}' is", "not_found_error"
            )
        limit = self._max_model_tokens
        tokens = generation.prompt_words + (generation.max_tokens or 1)
        if limit is not None and tokens > limit:
            raise too_long(f"prompt and output are {tokens} tokens, the model holds {limit}; send a shorter request")
        service = request.headers.get("x-service", DEFAULT_SERVICE[endpoint])
        settings = self._config.services.get(service)
        if settings is None:
            raise bad_request(f"unknown x-service {service!r}; known: {', '.join(self._config.services)}")
        wait_s = min(settings.deadline_s, _read_deadline(request))
        # The key is ours: a client may send the same request id twice.
        return QueuedRequest(uuid.uuid4().hex, service, settings.priority, generation.prompt_words, arrived_s + wait_s)

    def _check_key(self, request: Request) -> None:
        if self._api_key is None:
            return
        sent = request.headers.get("authorization", "")
        if not hmac.compare_digest(sent.encode(), f"Bearer {self._api_key}".encode()):
            raise ApiError(
                401, "the API key is missing or wrong; send 'Authorization: Bearer KEY'", "authentication_error"
            )

    def _error(self, error: ApiError) -> Response:
        if error.cause is not None:
            self._push.count(f"refused_{error.cause.value}")
        headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
        if error.replica_id is not None:
            headers["x-replica-id"] = error.replica_id
        return _json(error.as_json(), error.status, headers)


class EngineAnswer:
    """One request at the engine: its items, and its slot, which is given back exactly once."""

    def __init__(self, engine: DeploymentHandle, call: EngineCall, slot: Slot, dispatcher: Dispatcher) -> None:
        self._engine = engine
        self._call = call
        self._items: Any = None
        self._slot = slot
        self._dispatcher = dispatcher
        self._is_open = True

    async def first_item(self) -> str:
        """The first frame of a stream, or the whole answer.

        Raises:
            ApiError: the engine refused it (its status), the deadline passed (504), the replica was lost (502).
        """
        phase: Phase | None = Phase.ROUTER_QUEUE  # as long as no replica has taken it
        try:
            async with asyncio.timeout(max(self._call.deadline_epoch_s - time.time(), 0.0)):
                self._items = self._engine.remote(self._call)
                accepted = json.loads(await anext(self._items))
                phase = None  # the engine reports where it was
                self._dispatcher.move(self._slot, accepted["replica_id"])
                first: str = await anext(self._items)
        except TimeoutError:
            raise deadline_error(
                "the replica gave no answer before the request's deadline", Cause.DEADLINE_IN_ENGINE, phase
            ) from None
        except Exception as error:
            raise engine_error(error) from error
        if first.startswith('{"error"'):
            raise _refusal(first)
        return first

    async def further_items(self) -> AsyncIterator[str]:
        """The further frames; where the engine fails, one frame with the error, and no end mark."""
        try:
            async for item in self._items:
                if item.startswith('{"error"'):
                    yield frame(item)
                    return
                yield item
        except Exception as error:
            yield frame(engine_error(error).as_json())

    def close(self) -> None:
        """Cancel what is left of the request and give the slot back."""
        if self._is_open:
            self._is_open = False
            if self._items is not None:
                self._items.cancel()
            self._dispatcher.release(self._slot)


class AnswerStream(StreamingResponse):
    """Server-sent events from a replica; however it ends, the replica is told and the slot is given back."""

    def __init__(self, first: str, answer: EngineAnswer, headers: dict[str, str]) -> None:
        self._first = first
        self._answer = answer
        super().__init__(self._frames(), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()

    async def _frames(self) -> AsyncIterator[str]:
        yield self._first
        async for item in self._answer.further_items():
            yield item


def engine_error(error: Exception) -> ApiError:
    """The answer to a request whose engine call failed."""
    if isinstance(error, RayActorError):
        return ApiError(502, "the replica was lost while it served the request", "server_error", Cause.REPLICA_LOST)
    if isinstance(error, BackPressureError | DeploymentUnavailableError):
        return ApiError(503, "the engine takes no requests now", "overloaded_error", None, 5)
    logger.error("an engine call failed: %s", error)
    return ApiError(500, f"the engine failed: {type(error).__name__}", "server_error")


def _refusal(document: str) -> ApiError:
    """An engine's error item as the answer to the client."""
    error = json.loads(document)["error"]
    cause = Cause(error["cause"]) if error.get("cause") else None
    return ApiError(int(error["code"]), str(error["message"]), str(error["type"]), cause)


def _read_api_key(config: AppConfig) -> str | None:
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ValueError(f"api_key_env names {config.api_key_env}, which is not set where the ingress runs")
    return key


async def _read_body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}") from error


def _read_deadline(request: Request) -> float:
    """Seconds of the header `x-deadline-s`; infinite where it is absent."""
    text = request.headers.get("x-deadline-s")
    if text is None:
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise bad_request(f"x-deadline-s must be a number > 0, got {text!r}")
    return seconds


def _json(document: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(document, status, headers, media_type="application/json")
