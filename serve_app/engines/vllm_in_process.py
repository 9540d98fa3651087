"""Real vLLM without Serve or HTTP: its asynchronous engine with a step log, for measuring what it costs."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler.profile_fit.step_log import STEP_LOG_VARIABLE
from loadgen.errors import InputError

# vLLM reads these when it is imported; its chatter would stand among a command's own output.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
try:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM
except ImportError as error:
    raise InputError(f"measuring vLLM: {error}; install vLLM: see README") from error

FIRST_TOKEN_ID = 10  # below are the special tokens of most models
Generate = Callable[[int, int], AsyncIterator[int]]


@asynccontextmanager
async def in_process_engine(
    model: str, engine_kwargs: Mapping[str, Any], step_log: Path, rng: np.random.Generator
) -> AsyncGenerator[Generate]:
    """Start vLLM, which writes its steps to `step_log`; gives a function that answers one request.

    `generate(prompt_tokens, output_tokens)` sends made-up token ids and yields how many tokens there are, each time
    that some came.

    Raises:
        InputError: vLLM does not take these arguments, or cannot start.
    """
    os.environ[STEP_LOG_VARIABLE] = str(step_log.resolve())
    try:
        arguments = AsyncEngineArgs(model=model, **{"disable_log_stats": True, **engine_kwargs})
        config = arguments.create_engine_config()
        kind = "AsyncStepLogScheduler" if config.scheduler_config.async_scheduling else "StepLogScheduler"
        config.scheduler_config.scheduler_cls = f"serve_app.engines.step_log.{kind}"
        engine = AsyncLLM.from_vllm_config(config, disable_log_stats=arguments.disable_log_stats)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"vLLM cannot start with model {model}: {' '.join(str(error).split())[:300]}") from error
    try:
        yield _generator(engine, config.model_config.get_vocab_size(), rng)
    finally:
        engine.shutdown()


def _generator(engine: Any, vocabulary: int, rng: np.random.Generator) -> Generate:
    numbers = count()

    async def generate(prompt_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        asked = SamplingParams(
            max_tokens=output_tokens, ignore_eos=True, temperature=0.0, output_kind=RequestOutputKind.CUMULATIVE
        )
        prompt = {"prompt_token_ids": rng.integers(FIRST_TOKEN_ID, vocabulary, prompt_tokens).tolist()}
        async for answer in engine.generate(prompt, asked, f"measured-{next(numbers)}"):
            yield len(answer.outputs[0].token_ids)

    return generate
