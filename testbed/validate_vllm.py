"""Predicted against measured: real vLLM on this machine, fitted on one load and judged by another."""

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile
from autoscaler.profile_fit.fit import MIXED, PURE, predicted_steps
from autoscaler.profile_fit.measured_profile import MeasuredEngine, measured_hardware
from autoscaler.profile_fit.step_log import StepLog, measured_steps, read_step_log
from autoscaler.simulator.cost_model import HardwareFile
from autoscaler.simulator.engine_replay import ReplayTimes
from testbed.designed_load import PieceTimes, drive_round
from testbed.engine_load import OfferedLoad, send_at_times
from testbed.latency_errors import Repeat, VllmCheck
from testbed.measure_engine import plan_rounds
from testbed.tiny_model import ModelSize, make_tiny_model

# Large enough that steps take 10 to 400 ms on a CPU's core, so that computing outweighs handing requests about.
MODEL = ModelSize(layers=8, hidden=512, feed_forward=1408, heads=8)
ENGINE_KWARGS = {
    "load_format": "dummy",
    "dtype": "float32",
    "enforce_eager": True,
    # In the engine's own process. On CPUs vLLM would start another, and the two poll for each other without rest.
    "distributed_executor_backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
    "enable_prefix_caching": False,
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "max_num_batched_tokens": 512,
    "num_gpu_blocks_override": 256,
}
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
OFFERED_FRACTION = 0.4  # of what the engine carries with full batches
PLANNED_REQUESTS = 1000


def check_vllm(repeats: int = 3, round_s: float = 22.0, held_out_s: float = 35.0, seed: int = 0) -> VllmCheck:
    """Start vLLM with a made-up model, measure both loads in turns, fit on the one and predict the other.

    Rounds of the fit's load and repeats of the held-out one take turns, fit rounds first and last, so that a machine
    that is busy with other things for a while disturbs both. One fit over all fit rounds; how much longer its own
    steps took before and after a repeat than the fit says (`disturbance`) stretches the prediction of that repeat.
    Latencies are taken in this process, where vLLM's engine hands tokens over: no HTTP is in them.

    Raises:
        InputError: vLLM is not installed, or cannot start.
    """
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(Path(folder) / "model", MODEL)
        return asyncio.run(_check(Path(folder), repeats, round_s, held_out_s, np.random.default_rng(seed)))


async def _check(folder: Path, repeats: int, round_s: float, held_out_s: float, rng: np.random.Generator) -> VllmCheck:
    from serve_app.engines.vllm_in_process import in_process_engine

    prompts_rng, order_rng, load_rng = rng.spawn(3)  # how fast the machine is must not change what is drawn
    path = folder / "steps.jsonl"
    pieces: list[PieceTimes] = []
    fit_spans: list[tuple[float, float]] = []
    held_spans: list[tuple[float, float]] = []
    measured: list[ReplayTimes] = []
    async with in_process_engine(str(folder / "model"), ENGINE_KWARGS, path, prompts_rng) as generate:
        header = read_step_log(path).header
        planned = await plan_rounds(generate, header.limits(), round_s)

        async def drive_fit_round() -> None:
            began_s = time.monotonic()
            pieces.extend(await drive_round(generate, planned, order_rng))
            fit_spans.append((began_s, time.monotonic()))

        await drive_fit_round()
        load = held_out_load(_fit(read_step_log(path), fit_spans).profile(), held_out_s, load_rng)
        for _ in range(repeats):
            began_s = time.monotonic()
            measured.append(await send_at_times(generate, load))
            held_spans.append((began_s, time.monotonic()))
            await drive_fit_round()
    log = read_step_log(path)
    profile = _fit(log, fit_spans)
    found = [
        _repeat(profile, log, load, times, fit_spans[turn : turn + 2], held_spans[turn])
        for turn, times in enumerate(measured)
    ]
    engine = f"vLLM {header.vllm_version} on {header.device}, Llama of {MODEL.layers} layers x {MODEL.hidden}"
    return VllmCheck(engine, profile, len(load.arrival_s), held_out_s, _outside_steps_s(log, pieces), found)


def held_out_load(hardware: HardwareProfile, seconds: float, rng: np.random.Generator) -> OfferedLoad:
    """Requests over `seconds` that keep an engine on `hardware` about half busy, whatever the machine.

    Their number comes from how long the engine, as fitted, takes for many of them at once.
    """
    gaps = rng.gamma(0.5, size=PLANNED_REQUESTS)
    prompts = np.clip(rng.lognormal(5.0, 0.8, PLANNED_REQUESTS), 16, 900).astype(np.int64)
    outputs = np.clip(rng.geometric(1 / 24, PLANNED_REQUESTS), 2, 96).astype(np.int64)
    at_once_s = OfferedLoad(np.zeros(PLANNED_REQUESTS), prompts, outputs).replayed(hardware).finished_s.max()
    requests = int(np.clip(OFFERED_FRACTION * seconds / at_once_s * PLANNED_REQUESTS, 10, PLANNED_REQUESTS))
    arrival_s = np.cumsum(gaps[:requests])
    return OfferedLoad(seconds / arrival_s[-1] * arrival_s, prompts[:requests], outputs[:requests])


def stretched(hardware: HardwareProfile, factor: float) -> HardwareProfile:
    """The same hardware where everything takes `factor` times as long."""
    return replace(hardware, **{name: factor * getattr(hardware, name) for name in (*PURE, *MIXED, "host_s")})


def _fit(log: StepLog, spans: Sequence[tuple[float, float]]) -> HardwareFile:
    """The profile that the steps of these rounds give."""
    header = log.header
    how = f"Fitted to the steps of vLLM {header.vllm_version} with a made-up model."
    engine = MeasuredEngine("measured", header.device, header.gpus, "made-up llama", how, header.limits())
    return measured_hardware(engine, measured_steps(log.between(spans)))


def _repeat(
    profile: HardwareFile,
    log: StepLog,
    load: OfferedLoad,
    times: ReplayTimes,
    around: Sequence[tuple[float, float]],
    span: tuple[float, float],
) -> Repeat:
    """Predict one repeat; `around` are the fit rounds before and after it, `span` is its own time."""
    coefficients = {name: getattr(profile, name) for name in (*PURE, *MIXED)}
    fitted = measured_steps(log.between(around)).table
    disturbance = float(fitted.duration_s.sum() / predicted_steps(fitted, coefficients).sum())
    held_out = measured_steps(log.between([span])).table
    predicted_s = disturbance * predicted_steps(held_out, coefficients)
    hardware = profile.profile()
    began_s = log.between([span]).column("started_s") - span[0]
    slowdown = (held_out.duration_s + hardware.host_s) / (predicted_s / disturbance + hardware.host_s)

    def slowdown_at(now_s: float) -> float:
        """How much longer than fitted the step took that was logged next to this second."""
        return float(slowdown[np.argmin(np.abs(began_s - now_s))])

    return Repeat(
        disturbance,
        _latencies(times, load.output_tokens),
        _latencies(load.replayed(stretched(hardware, disturbance)), load.output_tokens),
        _latencies(load.replayed(hardware, slowdown_at), load.output_tokens),
        {
            "sum": 100 * float(predicted_s.sum() / held_out.duration_s.sum() - 1),
            "mean_absolute": 100 * float(np.abs(predicted_s / held_out.duration_s - 1).mean()),
        },
    )


def _latencies(times: ReplayTimes, output_tokens: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Mean and p90 of each latency."""
    seconds = {"ttft": times.ttft_s, "tpot": times.tpot_s(output_tokens), "e2e": times.e2e_s}
    return {name: {"mean": float(each.mean()), "p90": float(np.quantile(each, 0.9))} for name, each in seconds.items()}


def _outside_steps_s(log: StepLog, pieces: Sequence[PieceTimes]) -> float:
    """Median of what prompts that were alone in the engine took beyond the steps that computed them."""
    scheduled_s, finished_s = log.column("scheduled_s"), log.column("finished_s")
    beyond_s = []
    for times in (one for piece in pieces if not piece.piece.decoding for one in piece.prompts):
        own = (scheduled_s >= times.sent_s) & (finished_s <= times.finished_s)
        beyond_s.append(times.finished_s - times.sent_s - float((finished_s - scheduled_s)[own].sum()))
    return float(np.median(beyond_s))
