"""The same requests, step times and limits, as Dynamo's offline replay takes them and as the fleet simulator does."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile
from loadgen.trace import Trace

RECORDED_BLOCK_TOKENS = 512  # of Mooncake's format
# The table ends here: Dynamo draws the same straight lines on beyond it.
MOST_PREFILL_TOKENS, MOST_KV_TOKENS, MOST_CONTEXT_TOKENS = 20_000.0, 1_000_000.0, 200_000.0
UNLIMITED_TOKENS = 10**6


@dataclass(frozen=True, slots=True)
class StepTimes:
    """An additive step time: step_s, prefill_token_s for each prefill token, kv_token_s for each KV token read."""

    step_s: float
    prefill_token_s: float
    kv_token_s: float


@dataclass(frozen=True, slots=True)
class EngineSize:
    """What one engine holds; `kv_blocks` are those that requests can have."""

    kv_blocks: int
    block_tokens: int
    max_sequences: int
    max_batched_tokens: int


def hardware_profile(times: StepTimes, size: EngineSize) -> HardwareProfile:
    """The engine for our simulator.

    Our formula charges `memory_token_s` for every token of a step, Dynamo's table charges prefill alone: what a decode
    pays there is given back by `sequence_s`. Of our KV blocks one is never given out, as in vLLM.
    """
    return HardwareProfile(
        name="additive",
        source="set for a comparison",
        fixed_s=times.step_s,
        memory_s=0.0,
        memory_token_s=times.prefill_token_s,
        token_s=0.0,
        sequence_s=-times.prefill_token_s,
        kv_token_s=times.kv_token_s,
        prefill_context_s=0.0,
        mixed_sequence_s=0.0,
        mixed_kv_token_s=0.0,
        host_s=0.0,
        kv_cache_tokens=(size.kv_blocks + 1) * size.block_tokens,
        block_tokens=size.block_tokens,
        max_sequences=size.max_sequences,
        max_batched_tokens=size.max_batched_tokens,
        max_model_tokens=UNLIMITED_TOKENS,
    )


def engine_arguments(size: EngineSize, table: Path, prefix_caching: bool) -> dict[str, Any]:
    """The engine for Dynamo (`MockEngineArgs`), with its step times in `table`."""
    return {
        "engine_type": "vllm",
        "planner_profile_data": str(table),
        "num_gpu_blocks": size.kv_blocks,
        "block_size": size.block_tokens,
        "max_num_seqs": size.max_sequences,
        "max_num_batched_tokens": size.max_batched_tokens,
        "enable_prefix_caching": prefix_caching,
        "enable_chunked_prefill": True,
        "preemption_mode": "lifo",
    }


def write_timing_table(path: Path, times: StepTimes) -> None:
    """Write the step times as Dynamo's NPZ: a line for prefill tokens, a plane for (KV tokens, mean context).

    A step takes the sum of both; the mean context has no effect.
    """
    prefill_tokens = np.array([0.0, MOST_PREFILL_TOKENS])
    kv_tokens = np.array([0.0, MOST_KV_TOKENS])
    context_tokens = np.array([0.0, MOST_CONTEXT_TOKENS])
    decode_s = (times.step_s + times.kv_token_s * kv_tokens)[:, None] + np.zeros(len(context_tokens))
    np.savez(
        path,
        prefill_isl=prefill_tokens,
        prefill_ttft_ms=1000.0 * times.prefill_token_s * prefill_tokens,
        decode_active_kv_tokens=kv_tokens,
        decode_context_length=context_tokens,
        decode_itl=1000.0 * decode_s,
    )


def apart(arrival_s: NDArray[np.float64], gap_s: float) -> NDArray[np.float64]:
    """The same arrivals, each at least `gap_s` after the one before it."""
    least_s = gap_s * np.arange(len(arrival_s))
    return np.asarray(np.maximum.accumulate(arrival_s - least_s) + least_s)


def write_mooncake(path: Path, trace: Trace, gap_s: float = 0.0) -> None:
    """Write a trace as Mooncake's JSON lines, with arrivals at least `gap_s` apart.

    A prompt without recorded blocks gets hashes of its own, so that it begins like no other. A request that failed when
    it was recorded asks for one token, as in our simulator.
    """
    arrival_ms = 1000.0 * apart(trace.arrival_s, gap_s)
    prompt_tokens, output_tokens = np.maximum(trace.prompt_tokens, 1), np.maximum(trace.output_tokens, 1)
    unused = 0 if trace.prefix is None else int(trace.prefix.block.max(initial=-1)) + 1
    with path.open("w", encoding="utf-8") as file:
        for row in range(len(trace)):
            blocks = -(-int(prompt_tokens[row]) // RECORDED_BLOCK_TOKENS)
            hashes: list[int] = [] if trace.prefix is None else list(trace.prefix.of(row).tolist())
            own = max(0, blocks - len(hashes))
            hashes.extend(range(unused, unused + own))
            unused += own
            line = {
                "timestamp": float(arrival_ms[row]),
                "input_length": int(prompt_tokens[row]),
                "output_length": int(output_tokens[row]),
                "hash_ids": hashes,
            }
            file.write(json.dumps(line) + "\n")
