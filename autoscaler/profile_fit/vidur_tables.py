"""Kernel times from Vidur's tables of a model's exact layers; attention is modelled, as no table of it is public."""

from pathlib import Path

import numpy as np
import pandas as pd

from autoscaler.profile_fit.model_shapes import ModelShape
from autoscaler.profile_fit.step_table import KernelTimes
from loadgen.errors import InputError

LAYER_KERNELS = (
    "input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm", "mlp_up_proj",
    "mlp_act", "mlp_down_proj", "add", "add",
)  # fmt: skip
READ_FRACTION = 0.8  # of the memory's bandwidth that attention reaches; 0.775 is measured on the L40S


class VidurKernels:
    """The kernels of `shape` on one card, as `KernelTimes`.

    Decode attention reads the KV cache at 0.8 of the memory's bandwidth. Prefill attention takes the time that it takes
    on a card where the same kernel was measured, by the ratio of their peak rates. The output matrix is multiplied at
    the rate of the MLP's first one.

    Args:
        layers_file: Vidur's mlp.csv of the model.
        bytes_per_s: the card's memory bandwidth as its maker states it.
        measured, slower: kernels of another card, and how many times its peak rate is this one's.

    Source: microsoft/vidur, data/profiling/compute (milliseconds of one layer).
    """

    def __init__(
        self, layers_file: Path, shape: ModelShape, bytes_per_s: float, measured: KernelTimes, slower: float
    ) -> None:
        self._shape = shape
        self._bytes_per_s = READ_FRACTION * bytes_per_s
        self._measured, self._slower = measured, slower
        if not layers_file.is_file():
            raise InputError(f"{layers_file}: no such table; check the folder of measured tables")
        table = pd.read_csv(layers_file)
        rows = table[table["num_tensor_parallel_workers"] == shape.tensor_parallel].groupby("num_tokens")
        medians = rows[[f"time_stats.{name}.median" for name in sorted(set(LAYER_KERNELS))]].median()
        self._layer_ms = sum(
            (medians[f"time_stats.{name}.median"] for name in LAYER_KERNELS), start=0 * medians.iloc[:, 0]
        )
        self._up_ms = medians["time_stats.mlp_up_proj.median"]

    def dense_s(self, tokens: int) -> float:
        """See `KernelTimes`."""
        return self._shape.layers * _at(self._layer_ms, tokens) / 1000

    def sampling_s(self, sequences: int) -> float:
        """See `KernelTimes`: the product with the vocabulary, by its size against that of the MLP's first."""
        shape = self._shape
        return _at(self._up_ms, sequences) / 1000 * shape.vocabulary / (2 * shape.feed_forward)

    def prefill_attention_s(self, sequences: int, tokens: int) -> float:
        """See `KernelTimes`."""
        return self._slower * self._measured.prefill_attention_s(sequences, tokens)

    def decode_attention_s(self, sequences: int, context: int) -> float:
        """See `KernelTimes`."""
        read_bytes = self._shape.layer_kv_bytes_per_token * sequences * context
        return self._shape.layers * read_bytes / self._bytes_per_s


def _at(times: "pd.Series[float]", size: int) -> float:
    """Milliseconds at `size`, linear between measured sizes; the last slope holds beyond."""
    sizes, values = times.index.to_numpy(float), times.to_numpy(float)
    if size > sizes[-1]:
        return float(values[-1] * size / sizes[-1])
    return float(np.interp(size, sizes, values))
