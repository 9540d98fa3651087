"""Kernel times from the measured tables of NVIDIA AIConfigurator: matrix products, attention, all-reduce."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.interpolate import RegularGridInterpolator

from autoscaler.profile_fit.model_shapes import BYTES_PER_VALUE, ModelShape
from loadgen.errors import InputError

MOST_KV_HEADS = 8  # of the decode tables: beyond, attention of as many bytes in fewer heads is taken
ELEMENTWISE_KERNELS = 4  # of a layer: two norms with their residual, rotation, activation


class AIConfiguratorKernels:
    """The kernels of `shape` on one system, as `KernelTimes`.

    Matrix products between measured sizes are interpolated linearly in all three sizes. What is elementwise moves its
    bytes at the bandwidth and start time that AIConfigurator states for the card. A table of one kernel run again and
    again reads its KV from the L2 cache where that is large (L40S: 16,384 tokens in half of the time that its memory
    needs): reading the KV is never taken to be faster than the memory.

    Args:
        folder: of the version, such as aiconfigurator/h100_sxm/0.24.0; the system's YAML lies beside it.

    Raises:
        InputError: a table is missing, or has no rows for this model.

    Source: ai-dynamo/aiconfigurator, aic-core/src/aiconfigurator_core/systems (tables, and the system's constants).
    """

    def __init__(self, folder: Path, shape: ModelShape) -> None:
        self._shape = shape
        gpu = _read_system(folder.parent)
        self._bytes_per_s = float(gpu["mem_bw"]) * float(gpu["mem_bw_empirical_scaling_factor"])
        self._start_s = float(gpu["mem_empirical_constant_latency"])
        products = _read_table(folder / "gemm_perf.parquet")
        quantised = shape.weight_bytes_per_value == 1
        layers = products[products["gemm_dtype"] == ("fp8" if quantised else "bfloat16")]
        output = products[products["gemm_dtype"] == "bfloat16"]
        self._layer_products = [_product_times(layers, *sizes) for sizes in shape.layer_products]
        self._output_product = _product_times(output, shape.vocabulary // shape.tensor_parallel, shape.hidden)
        self._prefill = _prefill_times(_read_table(folder / "context_attention_perf.parquet"), shape)
        self._decode, self._kv_heads = _decode_times(_read_table(folder / "generation_attention_perf.parquet"), shape)
        self._all_reduce = _all_reduce_times(folder, shape.tensor_parallel) if shape.tensor_parallel > 1 else None

    def dense_s(self, tokens: int) -> float:
        """See `KernelTimes`; two all-reduces a layer where there are several cards."""
        layer_s = sum(_at(times, tokens) for times in self._layer_products) + self._elementwise_s(tokens)
        if self._all_reduce is not None:
            layer_s += 2 * _at(self._all_reduce, tokens * self._shape.hidden)
        return self._shape.layers * layer_s

    def sampling_s(self, sequences: int) -> float:
        """See `KernelTimes`: the product with the vocabulary."""
        return _at(self._output_product, sequences)

    def prefill_attention_s(self, sequences: int, tokens: int) -> float:
        """See `KernelTimes`."""
        return self._shape.layers * float(self._prefill((sequences, tokens)))

    def decode_attention_s(self, sequences: int, context: int) -> float:
        """See `KernelTimes`; heads beyond the table's are taken as so many times the context."""
        scaled = context * self._shape.card_kv_heads / self._kv_heads
        read_s = sequences * context * self._shape.layer_kv_bytes_per_token / self._bytes_per_s
        return self._shape.layers * max(float(self._decode((sequences, scaled))), read_s)

    def _elementwise_s(self, tokens: int) -> float:
        """Two norms read and write the residual stream, rotation the heads; the activation reads two and writes one."""
        shape = self._shape
        heads = (shape.card_heads + shape.card_kv_heads) * shape.head_size
        values = 2 * 4 * shape.hidden + 2 * heads + 3 * shape.feed_forward // shape.tensor_parallel
        return ELEMENTWISE_KERNELS * self._start_s + tokens * values * BYTES_PER_VALUE / self._bytes_per_s


def _read_table(path: Path) -> pd.DataFrame:
    """Read one table; its latencies are milliseconds."""
    if not path.is_file():
        raise InputError(f"{path}: no such table; check the folder of measured tables")
    return pd.read_parquet(path)


def _read_system(folder: Path) -> dict[str, Any]:
    """The constants of the card."""
    path = folder / f"{folder.name}.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the folder of measured tables")
    gpu: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["gpu"]
    return gpu


def _at(times: pd.Series, size: float) -> float:
    """Seconds at `size`, linear between measured sizes and beyond the last two."""
    sizes, seconds = times.index.to_numpy(dtype=np.float64), times.to_numpy()
    if size > sizes[-1]:
        return float(seconds[-1] + (seconds[-1] - seconds[-2]) * (size - sizes[-1]) / (sizes[-1] - sizes[-2]))
    return float(np.interp(size, sizes, seconds))


def _neighbours(sizes: Sequence[int], size: int) -> tuple[int, int]:
    """The measured sizes to interpolate between; the last two where `size` lies beyond."""
    upper = min(max(int(np.searchsorted(sizes, size)), 1), len(sizes) - 1)
    return sizes[upper - 1], sizes[upper]


def _product_times(table: pd.DataFrame, columns: int, inner: int) -> pd.Series:
    """Seconds of a matrix product by its rows (tokens), between the measured numbers of columns and inner sizes."""
    n_low, n_high = _neighbours(sorted(table["n"].unique()), columns)
    k_low, k_high = _neighbours(sorted(table["k"].unique()), inner)
    n_share, k_share = (columns - n_low) / (n_high - n_low), (inner - k_low) / (k_high - k_low)
    shares = {
        (n_low, k_low): (1 - n_share) * (1 - k_share),
        (n_low, k_high): (1 - n_share) * k_share,
        (n_high, k_low): n_share * (1 - k_share),
        (n_high, k_high): n_share * k_share,
    }
    corners = []
    for (n, k), share in shares.items():
        rows = table[(table["n"] == n) & (table["k"] == k)]
        if share and rows.empty:
            raise InputError(f"gemm_perf.parquet: no times of {n} columns x {k}; want another version")
        if share:
            corners.append(share * rows.groupby("m")["latency"].median())
    times: pd.Series = pd.concat(corners, axis=1).dropna().sum(axis=1) / 1000
    return times


def _attention_rows(table: pd.DataFrame, shape: ModelShape, kv_heads: int) -> pd.DataFrame:
    """The rows of plain attention with the query heads of `shape` and so many KV heads."""
    heads = shape.card_heads
    rows = table[
        (table["num_heads"] == heads)
        & (table["num_key_value_heads"] == kv_heads)
        & (table["head_dim"] == shape.head_size)
        & (table["kv_cache_dtype"] == ("fp8" if shape.kv_bytes_per_value == 1 else "bfloat16"))
        & table["kernel_source"].str.startswith("vllm_flash_attn")
        & (table["kernel_source"] != "vllm_flash_attn_fa4")
    ]
    if "window_size" in rows:
        rows = rows[rows["window_size"] == 0]
    if rows.empty:
        raise InputError(f"attention tables: no rows with {heads} heads and {kv_heads} KV heads; want another model")
    return rows


def _interpolated(rows: pd.DataFrame, length: pd.Series) -> RegularGridInterpolator:
    """Seconds by (sequences, tokens), linear between measured points; where a corner was not measured, extended."""
    grid = rows.assign(length=length).pivot_table(index="batch_size", columns="length", values="latency") / 1000
    grid = grid.interpolate(axis=1, method="index", limit_area="inside")
    while grid.isna().to_numpy().any():  # time grows with what is read: twice the sequences, twice the time
        grid = grid.where(grid.notna(), 2 * grid.shift(1))
    axes = (grid.index.to_numpy(dtype=float), grid.columns.to_numpy(dtype=float))
    return RegularGridInterpolator(axes, grid.to_numpy(), bounds_error=False, fill_value=None)


def _prefill_times(table: pd.DataFrame, shape: ModelShape) -> RegularGridInterpolator:
    """Seconds of one layer's attention by (prompts, tokens of each)."""
    rows = _attention_rows(table, shape, shape.card_kv_heads)
    return _interpolated(rows, rows["isl"])


def _decode_times(table: pd.DataFrame, shape: ModelShape) -> tuple[RegularGridInterpolator, int]:
    """Seconds of one layer's attention by (sequences, context), and of how many KV heads."""
    kv_heads = min(shape.card_kv_heads, MOST_KV_HEADS)
    rows = _attention_rows(table, shape, kv_heads)
    return _interpolated(rows, rows["step"] + 1), kv_heads


def _all_reduce_times(folder: Path, cards: int) -> pd.Series:
    """Seconds of an all-reduce by its values, as vLLM does it inside a CUDA graph."""
    table = _read_table(folder / "custom_allreduce_perf.parquet")
    rows = table[(table["num_gpus"] == cards) & (table["backend"] == "vllm_graph")]
    if rows.empty:
        raise InputError(f"{folder}: no all-reduce times for {cards} cards; want another number")
    times: pd.Series = rows.groupby("message_size")["latency"].median() / 1000
    return times
