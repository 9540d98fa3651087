"""A replica of real vLLM, hosted through Ray Serve's LLM API: the official server and engine with our telemetry.

All that reaches into vLLM or into what Ray keeps internal is in this file. Ray's version decides vLLM's
(pyproject.toml), so it moves only when both do; tests/serve_app/test_vllm.py notices.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from loadgen.errors import InputError
from loadgen.records import Cause, Phase
from serve_app.config import AppConfig, VllmEngine
from serve_app.deployment_options import engine_deployment_options
from serve_app.engines.protocol import EngineCall
from serve_app.engines.vllm_phase import LastStep, client_request_id
from serve_app.openai_api import accepted_item, error_json
from serve_app.telemetry import EngineLoad, EngineReporter

try:
    from pydantic import ValidationError
    from ray import serve
    from ray.llm._internal.common.callbacks.base import CallbackBase
    from ray.llm._internal.serve.core.configs.openai_api_models import ErrorResponse
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
    from ray.serve.llm import LLMConfig
    from ray.serve.llm.deployment import LLMServer
    from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest
    from vllm.v1.engine.exceptions import EngineDeadError
    from vllm.v1.metrics.loggers import StatLoggerBase
except ImportError as error:
    raise InputError(
        f"engine kind 'vllm': {error}; install vLLM: pip install 'burstscale[vllm]' with a GPU, see README without one"
    ) from error

ENGINE_WATCH_PERIOD_S: Final = 0.2
TOO_LONG_PARAMETERS: Final = ("input_tokens", "input_text")  # what vLLM names where prompt and output do not fit
STREAM_ERROR_START: Final = 'data: {"error"'  # how vLLM reports an error after the first chunk of a stream

logger = logging.getLogger("ray.serve")


def vllm_deployment(config: AppConfig) -> Any:
    """The bound engine deployment for `config`, whose engine is of kind 'vllm'.

    Raises:
        InputError: the model's folder or the number of GPUs cannot be right.
    """
    if not isinstance(config.engine, VllmEngine):
        raise InputError(f"engine.kind is '{config.engine.kind}', want 'vllm'")
    model = llm_config(config, config.engine)
    options = engine_deployment_options(config)
    del options["ray_actor_options"]  # resources go into the placement group that the replica shares with its engine
    deployment = serve.deployment(VllmReplica).options(**VllmReplica.get_deployment_options(model) | options)
    return deployment.bind(model, metrics_interval_s=config.control.metrics_interval_s)


def llm_config(config: AppConfig, engine: VllmEngine) -> Any:
    """What Ray Serve's LLM API is told about the model and its resources."""
    model_source, is_local = _find_model(engine.model_source)
    return LLMConfig(
        model_loading_config={"model_id": config.model_id, "model_source": model_source},
        accelerator_type=engine.accelerator_type,
        accelerator_config={"kind": engine.accelerator},
        placement_group_config={"bundle_per_worker": _worker_resources(config, engine)},
        engine_kwargs=dict(engine.engine_kwargs),
        runtime_env={"env_vars": dict(engine.env_vars)},
        deployment_config={"ray_actor_options": {"num_cpus": config.fleet.cpus_per_replica}},
        callback_config={"callback_class": LocalModel} if is_local else {},
    )


def _find_model(source: str) -> tuple[str, bool]:
    """The model's absolute folder and True, or its hub id and False."""
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return str(folder.resolve()), True
    if folder.is_dir() or source.startswith((".", "/", "~")):
        raise InputError(
            f"engine.model_source: no model in '{source}' (looked for {folder.resolve() / 'config.json'}); "
            f"give a model's folder or a hub id, or make a tiny model: burstscale tiny-model {source}"
        )
    return source, False


def _worker_resources(config: AppConfig, engine: VllmEngine) -> dict[str, float]:
    """What Ray reserves for each of the engine's workers, beside the replica's own CPUs."""
    gpus = config.fleet.gpus_per_replica
    arguments = engine.engine_kwargs
    workers = arguments.get("tensor_parallel_size", 1) * arguments.get("pipeline_parallel_size", 1)
    if engine.accelerator == "cpu":
        if gpus > 0:
            raise InputError(f"fleet.gpus_per_replica is {gpus:g}, want 0 with engine.accelerator 'cpu'")
        return {"CPU": 0}
    if gpus <= 0 or (workers > 1 and gpus != workers):
        raise InputError(f"fleet.gpus_per_replica is {gpus:g}, want {workers}: as many as the engine has workers")
    return {"GPU": gpus / workers}


class LocalModel(CallbackBase):  # type: ignore[misc]
    """Tells Ray that there is nothing to download: that task would start one more process that imports vLLM.

    Measured on two cores: 69 s from the decision to a ready replica with it, 43 s without.
    """

    async def on_before_node_init(self) -> None:
        """Skip the node's initialization."""
        self.ctx.run_init_node = False


class Engine(VLLMEngine):  # type: ignore[misc]
    """Ray's vLLM engine, with the executor that engine_kwargs name: on CPUs Ray puts its own choice in its place."""

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        if (asked := self.llm_config.engine_kwargs.get("distributed_executor_backend")) is not None:
            vllm_engine_config.parallel_config.distributed_executor_backend = asked
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)


class StepMeter(StatLoggerBase):  # type: ignore[misc]
    """Keeps what vLLM says of itself after each step, as one of its stat loggers, in the replica's process.

    `states` are vLLM's requests by its own ids, in order of arrival.
    """

    def __init__(self, states: Mapping[str, Any]) -> None:
        self._states = states
        self._last_step = LastStep()
        self._load = EngineLoad(0, 0, 0.0, 0, looked_up_tokens_total=0, found_tokens_total=0)

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,  # noqa: ARG002 - vLLM passes it by name
        engine_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Take in one step. Either of the statistics may be None."""
        last = self._load
        tokens = 0 if iteration_stats is None else iteration_stats.num_generation_tokens
        self._load = replace(last, output_tokens_total=last.output_tokens_total + tokens)
        if scheduler_stats is None:
            return
        cache = scheduler_stats.prefix_cache_stats  # of this step; preempted requests look up again, and count again
        looked_up = 0 if cache is None else cache.queries + cache.preempted_queries
        found = 0 if cache is None else cache.hits + cache.preempted_hits
        self._load = replace(
            self._load,
            running=scheduler_stats.num_running_reqs,
            waiting=scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs,
            kv_cache_fraction=scheduler_stats.kv_cache_usage,
            looked_up_tokens_total=(last.looked_up_tokens_total or 0) + looked_up,
            found_tokens_total=(last.found_tokens_total or 0) + found,
        )
        self._last_step.ended(time.time(), self._load.running, self._load.waiting, self._states.values())

    def cut_off(self, request: str) -> tuple[str, Phase] | None:
        """The id, as the client sent it, and the phase of a request that is about to be aborted; None = not known."""
        if request not in self._states:
            return None
        phase = self._last_step.phase(request, self._states)
        return None if phase is None else (client_request_id(self._states[request].external_req_id), phase)

    def read_load(self) -> EngineLoad:
        """The state after the last step."""
        return self._load

    def log_engine_initialized(self) -> None:
        """Part of vLLM's interface; there is nothing to say."""


class VllmReplica(LLMServer):  # type: ignore[misc]
    """Ray Serve's LLM server behind our ingress (`serve_app.engines.protocol.EngineReplica`)."""

    # Serve awaits an asynchronous constructor: the replica counts as ready when the engine is.
    async def __init__(self, llm_config: Any, *, metrics_interval_s: float) -> None:  # type: ignore[misc]
        await super().__init__(llm_config, engine_cls=Engine)
        context = serve.get_replica_context()
        self._replica_id = context.replica_id.unique_id
        client = self.engine._engine_client
        self._meter = StepMeter(client.output_processor.request_states)
        await self._warm_up(llm_config.model_id)
        # vLLM takes further stat loggers at construction only, and there Ray passes its own.
        client.logger_manager.stat_loggers.append(self._meter)
        self._watch = asyncio.create_task(self._watch_engine())
        self._reporter = EngineReporter(context.app_name, self._replica_id, metrics_interval_s, self._meter.read_load)
        self._reporter.start()
        self._abort, client.abort = client.abort, self._note_and_abort

    async def _note_and_abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """Stand in for vLLM's own `abort`, with which it forgets a request that a client or the ingress gave up."""
        requests = (request_id,) if isinstance(request_id, str) else tuple(request_id)
        for cut_off in map(self._meter.cut_off, requests):
            if cut_off is not None:
                self._reporter.note_cut_off(*cut_off)
        await self._abort(requests, internal)

    async def _warm_up(self, model_id: str) -> None:
        """Make two tokens: what vLLM compiles at its first request (18 s on a CPU) belongs to the cold start."""
        request = CompletionRequest(model=model_id, prompt="warm up", max_tokens=2, ignore_eos=True)
        async for answer in await self.completions(request):
            if isinstance(answer, ErrorResponse):
                raise RuntimeError(f"vLLM cannot serve: {answer.error.message}")

    async def generate(self, call: EngineCall) -> AsyncGenerator[str, None]:
        """Answer one request; see `EngineReplica.generate`."""
        yield accepted_item(self._replica_id)
        try:
            request = _openai_request(call)
        except ValidationError as error:
            yield error_json(400, _first_problem(error), "invalid_request_error", None)
            return
        try:
            answer = await (self.chat(request) if call.endpoint == "chat" else self.completions(request))
            async with aclosing(answer) as parts:  # closing it makes vLLM abort the request and free its KV blocks
                async for part in parts:
                    frames, failure = _read_part(part)
                    if failure is not None:
                        await self.check_health()  # a dead engine says so in a tidy stream: end like a lost replica
                    if frames:
                        yield frames
                    if failure is not None:
                        yield failure
                        return
        except EngineDeadError:
            _end_process()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Running, waiting, kv_cache_fraction, tokens_per_s of the engine; read by Serve."""
        return self._reporter.autoscaling_stats()

    async def __del__(self) -> None:
        """Serve calls and awaits it before the replica ends."""
        if hasattr(self, "_reporter"):
            await self._reporter.finish()
        await super().__del__()

    async def check_health(self) -> None:
        """Raise where the engine is unwell; end the process where it is dead.

        Serve takes a replica out of rotation only after three failed checks in a row: seconds in which an engine
        that is gone answers every request with an error at once, and so draws the traffic. The end of the process
        is noticed immediately.
        """
        try:
            await self.engine.check_health()
        except EngineDeadError:
            _end_process()

    async def _watch_engine(self) -> None:
        """Look after the engine more often than Serve does."""
        while True:
            with suppress(Exception):  # unwell, but not dead: Serve's own checks see it too, and decide
                await self.check_health()
            await asyncio.sleep(ENGINE_WATCH_PERIOD_S)


def _end_process() -> NoReturn:
    """End this replica at once, without clean-up: Serve starts another."""
    logger.error("the vLLM engine is dead: this replica ends, Serve starts another")
    os._exit(1)


def _openai_request(call: EngineCall) -> Any:
    """The request as vLLM's server takes it; whatever the client sent beside what we know passes through."""
    body = {**call.body, "request_id": call.request_id}
    return ChatCompletionRequest(**body) if call.endpoint == "chat" else CompletionRequest(**body)


def _first_problem(error: ValidationError) -> str:
    """Say in one line what is wrong with a request."""
    problem = error.errors()[0]
    return f"'{'.'.join(str(part) for part in problem['loc'])}': {problem['msg']}"


def _read_part(part: Any) -> tuple[str, str | None]:
    """Turn a part of the LLM server's answer into (text to relay, the error document that ends the answer or None).

    A part is a batch of server-sent events when the request streams, else the whole answer.
    """
    if isinstance(part, ErrorResponse):
        return "", _error_document(part.error.model_dump())
    if not isinstance(part, list):
        return part.model_dump_json(), None
    frames: list[str] = []
    for event in part:
        if isinstance(event, ErrorResponse):
            return "".join(frames), _error_document(event.error.model_dump())
        if event.startswith(STREAM_ERROR_START):
            return "".join(frames), _error_document(json.loads(event.removeprefix("data: "))["error"])
        frames.append(event)
    return "".join(frames), None


def _error_document(error: dict[str, Any]) -> str:
    """vLLM's error in our form."""
    cause = Cause.TOO_LONG if error.get("param") in TOO_LONG_PARAMETERS else None
    return error_json(int(error["code"]), error["message"], error["type"], cause)
