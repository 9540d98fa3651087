"""The profiles that are shipped: which model on which card, from which tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autoscaler.profile_fit.aiconfigurator_tables import AIConfiguratorKernels
from autoscaler.profile_fit.model_shapes import LLAMA_2_7B, LLAMA_2_13B, LLAMA_3_8B, LLAMA_3_70B_ON_4, ModelShape
from autoscaler.profile_fit.serving_sim_tables import serving_sim_steps
from autoscaler.profile_fit.step_table import StepTable, step_table
from autoscaler.profile_fit.vidur_tables import VidurKernels
from loadgen.errors import InputError

BLOCK_TOKENS = 16
GIB = 2**30
MEMORY_FRACTION = 0.9  # vLLM's gpu_memory_utilization
OTHER_BYTES = 4 * GIB  # activations, CUDA graphs and the CUDA context
A40_BYTES_PER_S = 696e9
# A lane of PCIe 4.0 carries 16 Gbit/s in 130 bits for 128, one of 5.0 twice as much; 0.8 of it is taken for large
# copies from and to pinned host memory (assumed, not measured).
PCIE_4_BYTES_PER_S = 0.8 * 16 * 16e9 * (128 / 130) / 8
PCIE_5_BYTES_PER_S = 2 * PCIE_4_BYTES_PER_S
A100_OVER_A40_PEAK = 312 / 149.7  # bfloat16 TFLOPS, dense, by NVIDIA's data sheets


@dataclass(frozen=True, slots=True)
class Card:
    """A card, and how vLLM sets its engine up on it.

    Attributes:
        key: in profile names.
        uncertain: what to know about the tables.
        stands_for: another card that the profile may be used for; empty where none.
        has_mixed_steps: whether steps with both prefill and decodes were measured.
        max_sequences, max_batched_tokens: vLLM's defaults for a server on a card of this size (1,024 and 8,192 from
            70 GiB on, A100 excepted; else 256 and 2,048).
        kv_cache_tokens: where a run of vLLM has told it; None = memory less weights and 4 GiB.
        host_link_bytes_per_s: by its data sheet's PCIe generation.

    Source: vllm 0.29.0, engine/arg_utils.py, get_batch_defaults.
    """

    key: str
    gpu: str
    memory_bytes: int
    models: tuple[ModelShape, ...]
    tables: str
    steps: Callable[[Path, ModelShape, int, int], StepTable]
    uncertain: str
    stands_for: str = ""
    has_mixed_steps: bool = False
    max_sequences: int = 256
    max_batched_tokens: int = 2048
    kv_cache_tokens: int | None = None
    host_link_bytes_per_s: float = PCIE_4_BYTES_PER_S

    def cache_tokens(self, shape: ModelShape) -> int:
        """Tokens in the KV cache of a replica."""
        free_bytes = MEMORY_FRACTION * self.memory_bytes - shape.weight_bytes - OTHER_BYTES
        return self.kv_cache_tokens or int(free_bytes / shape.kv_bytes_per_token)


def _aiconfigurator(folder: str) -> Callable[[Path, ModelShape, int, int], StepTable]:
    """Steps from AIConfigurator's kernels of one system and version."""

    def steps(tables: Path, shape: ModelShape, kv_cache_tokens: int, max_batched_tokens: int) -> StepTable:
        kernels = AIConfiguratorKernels(tables / "aiconfigurator" / folder, shape)
        return step_table(kernels, shape, kv_cache_tokens, max_batched_tokens)

    return steps


def _serving_sim(card: str) -> Callable[[Path, ModelShape, int, int], StepTable]:
    """Steps from LLMServingSim's layer tables of one card."""

    def steps(tables: Path, shape: ModelShape, kv_cache_tokens: int, _max_batched_tokens: int) -> StepTable:
        return serving_sim_steps(tables / "llmservingsim" / card / "Llama-3.1-8B" / "tp1", shape, kv_cache_tokens)

    return steps


def _a40_steps(tables: Path, shape: ModelShape, kv_cache_tokens: int, max_batched_tokens: int) -> StepTable:
    """Steps from Vidur's layers on the A40, with the A100's prefill attention by their peak rates."""
    measured = AIConfiguratorKernels(tables / "aiconfigurator" / "a100_sxm" / "0.14.0", shape)
    layers = tables / "vidur" / "a40" / "Llama-2-7b-hf" / "mlp.csv"
    kernels = VidurKernels(layers, shape, A40_BYTES_PER_S, measured, A100_OVER_A40_PEAK)
    return step_table(kernels, shape, kv_cache_tokens, max_batched_tokens)


KERNEL_SUMS = "Sums of measured kernels, not measured steps. "
OWN_MIXED = "The mixed-step terms are this card's own."
CARDS = (
    Card(
        "a100", "A100 80 GB SXM", 80 * GIB, (LLAMA_2_7B, LLAMA_2_13B, LLAMA_3_8B, LLAMA_3_70B_ON_4),
        "NVIDIA AIConfigurator (Apache-2.0), a100_sxm, vLLM 0.14", _aiconfigurator("a100_sxm/0.14.0"),
        KERNEL_SUMS + "An A800 has the same compute and memory and a slower NVLink; vLLM's defaults there are 1024 "
        "sequences and 8192 tokens a step. ",
        stands_for="A800 80 GB",
    ),
    Card(
        "h100", "H100 80 GB SXM", 80 * GIB, (LLAMA_2_7B, LLAMA_2_13B, LLAMA_3_8B, LLAMA_3_70B_ON_4),
        "NVIDIA AIConfigurator (Apache-2.0), h100_sxm, vLLM 0.24", _aiconfigurator("h100_sxm/0.24.0"), KERNEL_SUMS,
        max_sequences=1024, max_batched_tokens=8192, host_link_bytes_per_s=PCIE_5_BYTES_PER_S,
    ),
    Card(
        "h200", "H200 141 GB SXM", 141 * GIB, (LLAMA_2_7B, LLAMA_2_13B, LLAMA_3_8B, LLAMA_3_70B_ON_4),
        "NVIDIA AIConfigurator (Apache-2.0), h200_sxm, vLLM 0.24", _aiconfigurator("h200_sxm/0.24.0"), KERNEL_SUMS,
        max_sequences=1024, max_batched_tokens=8192, host_link_bytes_per_s=PCIE_5_BYTES_PER_S,
    ),
    Card(
        "l40s", "L40S 48 GB", 46068 * 2**20, (LLAMA_2_7B, LLAMA_2_13B, LLAMA_3_8B),
        "NVIDIA AIConfigurator (Apache-2.0), l40s, vLLM 0.24", _aiconfigurator("l40s/0.24.0"),
        KERNEL_SUMS + "Decode attention that reads less than about 100 MB a layer was measured from the L2 cache: the "
        "time that the memory needs is taken there. ",
    ),
    Card(
        "a40", "A40 48 GB", 48 * GIB, (LLAMA_2_7B,),
        "Vidur (MIT), layers of this model on this card", _a40_steps,
        KERNEL_SUMS + "Attention is not measured on this card: decode reads the KV cache at 0.8 of 696 GB/s, prefill "
        "takes the A100's time by the ratio of peak rates. An RTX A6000 is the same chip with 768 GB/s. ",
        stands_for="RTX A6000 48 GB",
    ),
    Card(
        "rtx4090", "RTX 4090 24 GB", 24080 * 2**20, (LLAMA_3_8B,),
        "LLMServingSim (MIT), layer tables of this card, vLLM 0.19", _serving_sim("RTX4090"), OWN_MIXED,
        has_mixed_steps=True, kv_cache_tokens=41408,  # its vLLM run said so
    ),
    Card(
        "rtxpro6000", "RTX PRO 6000 96 GB", 97887 * 2**20, (LLAMA_3_8B,),
        "LLMServingSim (MIT), layer tables of this card, vLLM 0.19", _serving_sim("RTXPRO6000"), OWN_MIXED,
        has_mixed_steps=True, max_sequences=1024, max_batched_tokens=8192, host_link_bytes_per_s=PCIE_5_BYTES_PER_S,
    ),
)  # fmt: skip


def profile_name(card: Card, shape: ModelShape) -> str:
    """The name of a profile and its file: a100-llama-2-13b, h100-llama-3-70b-tp4."""
    cards = f"-tp{shape.tensor_parallel}" if shape.tensor_parallel > 1 else ""
    return f"{card.key}-{shape.name}{cards}"


def shipped() -> Iterator[tuple[Card, ModelShape]]:
    """Every profile of configs/hardware that comes from tables."""
    for card in CARDS:
        for shape in card.models:
            yield card, shape


def find_shipped(gpu: str, model: str) -> tuple[Card, ModelShape]:
    """The card and model of that key and name.

    Raises:
        InputError: there are no tables for the two.
    """
    for card, shape in shipped():
        if (card.key, shape.name) == (gpu, model):
            return card, shape
    known = ", ".join(f"{card.key} {shape.name}" for card, shape in shipped())
    raise InputError(f"no tables for gpu '{gpu}' and model '{model}'; known: {known}")
