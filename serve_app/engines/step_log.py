"""vLLM's scheduler, writing down every step: what was in it, when it began, when it was done.

`vllm serve MODEL --scheduler-cls serve_app.engines.step_log.StepLogScheduler` with `BURSTSCALE_STEP_LOG=steps.jsonl` in
its environment makes any vLLM write such a log (where vLLM schedules asynchronously, as it does on GPUs by default, it
is `AsyncStepLogScheduler`). `autoscaler.profile_fit.step_log` says what stands in the file, and reads it.
vLLM's stat loggers tell tokens and requests of a step, but not the KV tokens that it reads nor when it began.
"""

import json
import os
import time
from collections import deque
from typing import Any, TextIO

from autoscaler.profile_fit.step_log import STEP_LOG_VARIABLE, LoggedStep, StepLogHeader
from loadgen.errors import InputError

try:
    from vllm.platforms import current_platform
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.version import __version__ as vllm_version
except ImportError as error:
    raise InputError(f"step log: {error}; install vLLM: see README") from error

FLUSH_STEPS = 64


class _StepLog:
    """Mixed into a scheduler of vLLM, before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        path = os.environ.get(STEP_LOG_VARIABLE)
        if not path:
            raise InputError(f"step log: {STEP_LOG_VARIABLE} is not set; want the path of the file to write")
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115 - as long as the engine lives
        self._steps = 0
        self._pending: deque[LoggedStep] = deque()
        self._prefill_tokens: dict[str, int] = {}  # by request: to compute before the next token comes
        self._write(_header(self).model_dump(mode="json"))
        self._file.flush()

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Schedule as vLLM does, and keep what the step consists of."""
        scheduled_s = time.monotonic()
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        if output.total_num_scheduled_tokens > 0:
            self._note_admitted(output)
            counts = _counts(self, output.num_scheduled_tokens, self._prefill_tokens)
            self._pending.append(LoggedStep(scheduled_s, time.monotonic(), 0.0, *counts, unfinished_requests=0))
        return output

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Take in the step's tokens as vLLM does, and write the step down."""
        finished_s = time.monotonic()
        updated = super().update_from_output(scheduler_output, model_runner_output)  # type: ignore[misc]
        if scheduler_output.total_num_scheduled_tokens > 0:
            step = self._pending.popleft()
            unfinished = self.get_num_unfinished_requests()  # type: ignore[attr-defined]
            self._write(step._replace(finished_s=finished_s, unfinished_requests=unfinished))
            self._steps += 1
            if unfinished == 0 or self._steps % FLUSH_STEPS == 0:
                self._file.flush()
        return updated

    def shutdown(self) -> None:
        """End the log with the engine."""
        self._file.close()
        super().shutdown()  # type: ignore[misc]

    def _note_admitted(self, output: Any) -> None:
        """What requests that begin, or come back after a preemption, have to compute first."""
        for name in output.finished_req_ids:
            self._prefill_tokens.pop(name, None)
        new = [request.req_id for request in output.scheduled_new_reqs]
        for name in (*new, *output.scheduled_cached_reqs.resumed_req_ids):
            self._prefill_tokens[name] = self.requests[name].num_tokens  # type: ignore[attr-defined]

    def _write(self, line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")


class StepLogScheduler(_StepLog, Scheduler):  # type: ignore[misc]
    """For engines that schedule a step when the one before is done."""


class AsyncStepLogScheduler(_StepLog, AsyncScheduler):  # type: ignore[misc]
    """For engines that schedule a step while the one before runs."""


def _header(scheduler: Any) -> StepLogHeader:
    """The engine's own limits."""
    config = scheduler.vllm_config
    return StepLogHeader(
        vllm_version=str(vllm_version),
        device=str(current_platform.get_device_name()),
        model=str(config.model_config.model),
        gpus=int(config.parallel_config.world_size),
        blocks=int(config.cache_config.num_gpu_blocks),
        block_tokens=int(config.cache_config.block_size),
        max_sequences=int(config.scheduler_config.max_num_seqs),
        max_batched_tokens=int(config.scheduler_config.max_num_batched_tokens),
        max_model_tokens=int(config.model_config.max_model_len),
        has_prefix_cache=bool(config.cache_config.enable_prefix_caching),
        is_asynchronous=bool(config.scheduler_config.async_scheduling),
    )


def _counts(scheduler: Any, scheduled_tokens: dict[str, int], prefill: dict[str, int]) -> tuple[int, float, int, int]:
    """The step in the cost model's terms, counted as the engine kernel counts them (`schedule_tokens`)."""
    prefill_tokens, prefill_context, decodes, kv_tokens = 0, 0.0, 0, 0
    for name, tokens in scheduled_tokens.items():
        before = scheduler.requests[name].num_computed_tokens - tokens  # vLLM has counted the step's tokens already
        if before < prefill[name]:
            prefill_tokens += tokens
            prefill_context += tokens * (before + 0.5 * tokens)
        else:
            decodes += 1
            kv_tokens += before + tokens
    return prefill_tokens, prefill_context, decodes, kv_tokens
