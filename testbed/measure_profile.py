"""A hardware profile of a real vLLM: started here, or running behind a URL."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from autoscaler.profile_fit.measured_profile import MeasuredEngine, measured_hardware
from autoscaler.profile_fit.step_log import StepLog, StepLogHeader, measured_steps, read_step_log
from autoscaler.simulator.cost_model import HardwareFile
from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError
from testbed.client_steps import client_steps
from testbed.http_engine import ServedEngine, ask_server, http_generator
from testbed.measure_engine import drive_for, plan_rounds

ROUNDS = 4  # of the whole load that are driven, for repeats of each size
ROUND_S_AT_LEAST = 5.0


@dataclass(frozen=True, slots=True)
class Measuring:
    """How to measure.

    Attributes:
        gpu: the device's name where the engine should not tell it itself; empty = it should.
        seconds: how long, after the engine is up and warm.
    """

    name: str
    gpu: str
    seconds: float
    seed: int

    @property
    def round_s(self) -> float:
        """How long a round of the designed load should take."""
        return max(self.seconds / ROUNDS, ROUND_S_AT_LEAST)


@dataclass(frozen=True, slots=True)
class ToldLimits:
    """What a server does not tell over HTTP; None = it was not said here either."""

    max_sequences: int | None
    max_batched_tokens: int | None


def measure_started_engine(model: str, engine_kwargs: Mapping[str, Any], measuring: Measuring) -> HardwareFile:
    """Start vLLM with these arguments in this process, measure it, end it.

    The prefix cache is off unless asked for.

    Raises:
        InputError: vLLM is not installed or cannot start, or it is too slow for the time given.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = asyncio.run(_drive_started(model, engine_kwargs, Path(folder) / "steps.jsonl", measuring))
    return _from_log(log, log.header.model, "started for this", measuring)


def measure_served_engine(url: str, step_log: Path | None, told: ToldLimits, measuring: Measuring) -> HardwareFile:
    """Measure a vLLM server that runs, and has nothing else to do meanwhile.

    With the step log that its scheduler writes the profile is as good as that of an engine started here. Without, steps
    are told apart by when tokens come: then the engine's own time between steps is part of the steps, the web server's
    time is in them, and its limits have to be said.

    Raises:
        InputError: the server does not answer as vLLM does, or a limit is not known.
    """
    return asyncio.run(_measure_served(url, step_log, told, measuring))


async def _drive_started(model: str, engine_kwargs: Mapping[str, Any], path: Path, measuring: Measuring) -> StepLog:
    """Start the engine and drive the load; its log from the first round on."""
    from serve_app.engines.vllm_in_process import in_process_engine

    rng = np.random.default_rng(measuring.seed)
    arguments = {"enable_prefix_caching": False, **engine_kwargs}
    async with in_process_engine(model, arguments, path, rng) as generate:
        pieces = await plan_rounds(generate, read_step_log(path).header.limits(), measuring.round_s)
        rounds = await drive_for(generate, pieces, measuring.seconds, rng)
    return read_step_log(path).between(rounds.spans_s)


async def _measure_served(url: str, step_log: Path | None, told: ToldLimits, measuring: Measuring) -> HardwareFile:
    rng = np.random.default_rng(measuring.seed)
    before = read_step_log(step_log) if step_log is not None else None
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url.rstrip("/"), timeout=timeout, connector=connector) as session:
        served = await ask_server(session)
        limits = before.header.limits() if before is not None else _limits(served, told)
        generate = http_generator(session, served.model, rng)
        pieces = await plan_rounds(generate, limits, measuring.round_s)
        warmed_up_steps = len(read_step_log(step_log).steps) if step_log is not None else 0
        rounds = await drive_for(generate, pieces, measuring.seconds, rng)
    if step_log is not None:
        return _from_log(read_step_log(step_log).after(warmed_up_steps), served.model, "behind HTTP", measuring)
    steps = client_steps(rounds.pieces, limits.max_batched_tokens, served.null_s)
    how = (
        f"Measured from outside vLLM {served.version}, by when tokens came over HTTP; prompts less the "
        f"{served.null_s * 1000:.1f} ms of a request that only the web server handles. The engine's own time between "
        f"steps cannot be told from outside: it is in the steps, so host_s is 0 and may be nearly "
        f"as long as the short ones. max_sequences and max_batched_tokens are as the user said."
    )
    gpu = measuring.gpu or "not told over HTTP"
    return measured_hardware(MeasuredEngine(measuring.name, gpu, 1, served.model, how, limits), steps)


def _limits(served: ServedEngine, told: ToldLimits) -> EngineLimits:
    """The server's limits, with what it does not tell as the user said."""
    if told.max_sequences is None or told.max_batched_tokens is None:
        raise InputError(
            "--url: a vLLM server does not tell its max_num_seqs and max_num_batched_tokens; give --max-sequences and "
            "--max-batched-tokens as it was started, or --step-log (see `burstscale profile measure --help`)"
        )
    return EngineLimits(
        served.blocks - 1, served.block_tokens, told.max_sequences, told.max_batched_tokens, served.max_model_tokens
    )


def _from_log(log: StepLog, model: str, where: str, measuring: Measuring) -> HardwareFile:
    """The profile that the logged steps give."""
    header: StepLogHeader = log.header
    scheduling = "asynchronous" if header.is_asynchronous else "synchronous"
    cache = "on" if header.has_prefix_cache else "off"
    how = (
        f"Measured on vLLM {header.vllm_version} {where}, {scheduling} scheduling, prefix cache {cache}, by the log of "
        f"its own steps. host_s is the median time between steps, its range the 10th to 90th percentile; ranges of "
        f"mixed-step terms: fits with a quarter of all sizes left out."
    )
    gpu = measuring.gpu or header.device
    name = Path(model).name or model
    engine = MeasuredEngine(measuring.name, gpu, header.gpus, name, how, header.limits())
    return measured_hardware(engine, measured_steps(log))
