"""The emulated engine: a light replica that answers with words at the pace of real hardware, without weights or GPU."""

import asyncio
import json
import logging
import os
import time
import zlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ray import serve

from autoscaler.interface import HardwareProfile, Priority
from loadgen.errors import InputError
from serve_app.config import AppConfig, EmulatedEngine
from serve_app.deployment_options import engine_deployment_options
from serve_app.engines.paced_engine import PacedEngine, PacedRequest
from serve_app.engines.prompt_texts import block_hashes
from serve_app.engines.protocol import EngineCall
from serve_app.openai_api import AnswerWriter, ApiError, Generation, accepted_item, read_generation, too_long
from serve_app.serve_state import replica_states
from serve_app.telemetry import EngineReporter

logger = logging.getLogger("ray.serve")

OPEN_ENDED_TOKENS = 256  # a request without max_tokens gets 1 to so many
WORDS = ("so", "the", "burst", "came", "and", "went", "while", "ever", "more", "replicas", "woke", "to", "serve", "it")


def emulated_deployment(config: AppConfig, engine: EmulatedEngine, hardware: HardwareProfile) -> Any:
    """The bound engine deployment."""
    deployment = serve.deployment(EmulatedReplica).options(**engine_deployment_options(config))
    return deployment.bind(
        hardware,
        engine,
        priorities={label: service.priority for label, service in config.services.items()},
        cold_start_s=config.fleet.planned_cold_start_s,
        metrics_interval_s=config.control.metrics_interval_s,
    )


class EmulatedReplica:
    """An engine replica (`serve_app.engines.protocol.EngineReplica`) around the paced engine kernel."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it; the replica is STARTING until it returns
        self,
        hardware: HardwareProfile,
        engine: EmulatedEngine,
        *,
        priorities: Mapping[str, Priority],
        cold_start_s: float,
        metrics_interval_s: float,
    ) -> None:
        context = serve.get_replica_context()
        self._replica_id = context.replica_id.unique_id
        self._max_model_tokens = hardware.max_model_tokens
        self._block_tokens = hardware.block_tokens if engine.prefix_caching else None
        self._options, self._priorities = engine.options, priorities
        self._engine = PacedEngine(
            hardware, engine.stream_interval_s, prefix_caching=engine.prefix_caching, options=self._options
        )
        self._work = asyncio.get_running_loop().create_task(self._engine.run())
        self._reporter = EngineReporter(context.app_name, self._replica_id, metrics_interval_s, self._engine.load)
        requested_at_s = await _requested_at_s(context.app_name, self._replica_id)
        await asyncio.sleep(requested_at_s + cold_start_s - time.time())
        self._reporter.start()

    async def generate(self, call: EngineCall) -> AsyncGenerator[str, None]:
        """Answer one request; see `EngineReplica.generate`."""
        yield accepted_item(self._replica_id)
        try:
            generation = read_generation(call.endpoint, call.body)
            request = self._add(generation, call)
        except ApiError as error:
            yield error.as_json()
            return
        writer = AnswerWriter(generation, call.request_id, int(time.time()))
        sent = 0
        try:
            async for tokens in self._engine.progress(request):
                if generation.stream:
                    text, is_last = _text(sent, tokens), tokens == request.output_tokens
                    yield writer.chunk(text, tokens, first=sent == 0, last=is_last)
                    sent = tokens
            yield (
                writer.end(sent)
                if generation.stream
                else writer.whole(_text(0, request.output_tokens), request.output_tokens)
            )
        finally:
            self._engine.cancel(request)
            if request.cut_off is not None:
                self._reporter.note_cut_off(call.request_id, request.cut_off)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Running, waiting, kv_cache_fraction, tokens_per_s of the engine; read by Serve."""
        return self._reporter.autoscaling_stats()

    async def __del__(self) -> None:
        """Serve calls and awaits it before the replica ends."""
        await self._reporter.finish()

    async def check_health(self) -> None:
        """End the process where the engine has stopped: Serve then replaces the replica at once."""
        if self._work.done():
            os._exit(1)

    def _add(self, generation: Generation, call: EngineCall) -> PacedRequest:
        room = self._max_model_tokens - generation.prompt_words
        output_tokens = generation.max_tokens or min(_open_length(call), max(room, 1))
        hashes = block_hashes(generation.prompt, self._block_tokens) if self._block_tokens is not None else ()
        rank = self._options.rank(self._priorities[call.service], generation.max_tokens or OPEN_ENDED_TOKENS)
        try:
            return self._engine.add(generation.prompt_words, output_tokens, hashes, rank)
        except InputError as error:
            raise too_long(str(error)) from error


async def _requested_at_s(app_name: str, replica_id: str) -> float:
    """When Serve asked for this replica, epoch seconds: the cold start counts from then, not from this process's start.

    Now, where Serve's controller does not tell: then the cold start takes longer than configured, never less.
    """
    try:
        states = await asyncio.to_thread(replica_states, app_name)
    except Exception:
        logger.warning("Serve did not tell when replica %s was asked for", replica_id, exc_info=True)
        return time.time()
    return next((status.started_at_s for status in states if status.replica_id == replica_id), time.time())


def _open_length(call: EngineCall) -> int:
    """Output tokens of a request that leaves them open: the same for the same prompt."""
    prompt = json.dumps(call.body.get("messages") or call.body.get("prompt"), sort_keys=True)
    return 1 + zlib.crc32(prompt.encode()) % OPEN_ENDED_TOKENS


def _text(start: int, end: int) -> str:
    """Words start to end (exclusive) of every answer; each but the first begins with a blank."""
    words = (WORDS[index % len(WORDS)] for index in range(start, end))
    text = " ".join(words)
    return f" {text}" if start > 0 and text else text
