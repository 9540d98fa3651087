"""Steps from the layer tables of LLMServingSim's profiler: the only public ones with mixed prefill and decode."""

from pathlib import Path

import numpy as np
import pandas as pd

from autoscaler.profile_fit.model_shapes import ModelShape
from autoscaler.profile_fit.step_table import StepTable, Times
from loadgen.errors import InputError

LAYER_KERNELS = {
    "layernorm": 2, "qkv_proj": 1, "rotary_emb": 1, "o_proj": 1, "gate_up_proj": 1, "act_fn": 1, "down_proj": 1,
}  # fmt: skip
MOST_CONTEXT_TOKENS = 4096


def serving_sim_steps(folder: Path, shape: ModelShape, kv_cache_tokens: int) -> StepTable:
    """Every measured attention batch with the layers around it.

    A batch is one prefill chunk after `kv_prefill` tokens, `n_decode` sequences of `kv_decode` tokens each, or both.
    Kept are contexts up to 4,096 tokens that the KV cache holds, and steps no larger than the other layers' tables.
    Beyond that a short chunk after a long context takes the time of one sequence's latency, which no sum tells.

    Args:
        folder: with attention.csv, dense.csv and per_sequence.csv.

    Raises:
        InputError: a table is missing or lacks a layer.

    Source: casys-kaist/LLMServingSim, profiler/perf (microseconds of one layer, vLLM 0.19).
    """
    dense, sampling = _read(folder / "dense.csv"), _read(folder / "per_sequence.csv")
    batches = _read(folder / "attention.csv")
    tokens = batches["prefill_chunk"] + batches["n_decode"]
    held = batches["prefill_chunk"] + batches["kv_prefill"] + batches["n_decode"] * batches["kv_decode"]
    kept = (tokens <= dense["tokens"].max()) & (held <= kv_cache_tokens)
    kept &= (batches["kv_prefill"] <= MOST_CONTEXT_TOKENS) & (batches["kv_decode"] <= MOST_CONTEXT_TOKENS)
    batches = batches[kept]
    chunk, decodes = batches["prefill_chunk"].to_numpy(float), batches["n_decode"].to_numpy(float)
    sequences = decodes + (chunk > 0)
    duration_us = shape.layers * batches["time_us"].to_numpy(float)
    for layer, times in LAYER_KERNELS.items():
        duration_us += shape.layers * times * _layer_us(dense, "tokens", layer, chunk + decodes)
    for layer in ("embedding", "final_layernorm"):
        duration_us += _layer_us(dense, "tokens", layer, chunk + decodes)
    for layer in ("lm_head", "sampler"):
        duration_us += _layer_us(sampling, "sequences", layer, sequences)
    return StepTable(
        prefill_tokens=chunk,
        prefill_context=chunk * (batches["kv_prefill"].to_numpy(float) + chunk / 2),
        decodes=decodes,
        kv_tokens=decodes * batches["kv_decode"].to_numpy(float),
        duration_s=duration_us / 1e6,
    )


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such table; check the folder of measured tables")
    return pd.read_csv(path)


def _layer_us(table: pd.DataFrame, by: str, layer: str, sizes: Times) -> Times:
    """Microseconds of one kernel at each size, linear between measured sizes."""
    rows = table[table["layer"] == layer].sort_values(by)
    if rows.empty:
        raise InputError(f"layer tables: no rows of '{layer}'; want the tables of LLMServingSim's profiler")
    times_us: Times = np.interp(sizes, rows[by].to_numpy(float), rows["time_us"].to_numpy(float))
    return times_us
