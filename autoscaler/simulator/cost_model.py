"""How long an engine step takes, and the hardware profiles that say so."""

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from autoscaler.interface import HardwareProfile
from loadgen.errors import InputError
from loadgen.strict_config import StrictModel, parse, read_yaml

Range = tuple[NonNegativeFloat, NonNegativeFloat]
HARDWARE_FOLDER = Path(__file__).parents[2] / "configs" / "hardware"


class StepCosts(NamedTuple):
    """The coefficients of a profile as compiled code takes them; names and units are those of `HardwareProfile`.

    Attributes:
        block_copy_s: to copy a KV block to host memory or back.
    """

    fixed_s: float
    memory_s: float
    memory_token_s: float
    token_s: float
    sequence_s: float
    kv_token_s: float
    prefill_context_s: float
    mixed_sequence_s: float
    mixed_kv_token_s: float
    host_s: float
    block_copy_s: float = 0.0


def step_costs(hardware: HardwareProfile) -> StepCosts:
    """The step-time coefficients of `hardware`; copies take no time where the profile does not say what they take.

    The cards of a replica copy at the same time, each its own part of a block. Worked example: 16 tokens of 819,200
    bytes at 25.2 GB/s take 0.52 ms.
    """
    block_copy_s = 0.0
    if hardware.kv_token_bytes is not None and hardware.host_link_bytes_per_s is not None:
        block_copy_s = hardware.block_tokens * hardware.kv_token_bytes / hardware.host_link_bytes_per_s
    coefficients = {name: float(getattr(hardware, name)) for name in StepCosts._fields if name != "block_copy_s"}
    return StepCosts(**coefficients, block_copy_s=block_copy_s)


def step_seconds(
    costs: StepCosts, prefill_tokens: float, prefill_context: float, decodes: float, kv_tokens: float
) -> float:
    """Seconds of one step; see `step_duration_s`. Means over many steps may be given as well as counts.

    A step reads the weights once, whatever its batch (`memory_s`, and `memory_token_s` a token), unless computing takes
    longer (`token_s` a token): the roofline. Attention comes on top, linear in what it reads. Where prefill and decodes
    share a step they share one attention kernel, made for many queries a sequence: decodes cost more than in their own.
    """
    tokens = prefill_tokens + decodes
    dense_s = max(costs.memory_s + costs.memory_token_s * tokens, costs.token_s * tokens)
    attention_s = costs.kv_token_s * kv_tokens + costs.prefill_context_s * prefill_context
    if prefill_tokens > 0 and decodes > 0:
        attention_s += costs.mixed_sequence_s * decodes + costs.mixed_kv_token_s * kv_tokens
    return costs.fixed_s + dense_s + costs.sequence_s * decodes + attention_s + costs.host_s


def step_duration_s(
    hardware: HardwareProfile,
    prefill_chunks: tuple[tuple[int, int], ...] = (),
    decode_contexts: tuple[int, ...] = (),
) -> float:
    """How long one step takes that does these prefill chunks and decodes these sequences.

    A chunk of n tokens after `before` tokens attends to before + n / 2 tokens on average: it counts
    n * (before + n / 2). Worked example: 512 tokens after 1024 are 512 * 1280 = 655,360.

    Args:
        prefill_chunks: (tokens in this step, tokens computed before it) of each sequence in prefill.
        decode_contexts: tokens that each decoding sequence attends to, its newest token included.
    """
    return step_seconds(
        step_costs(hardware),
        sum(tokens for tokens, _ in prefill_chunks),
        float(sum(tokens * (before + tokens / 2) for tokens, before in prefill_chunks)),
        len(decode_contexts),
        sum(decode_contexts),
    )


class FitErrors(StrictModel):
    """Mean absolute error of the fitted step time over measured steps of each kind, percent; null = none measured."""

    prefill: NonNegativeFloat
    decode: NonNegativeFloat
    mixed: NonNegativeFloat | None


class HardwareNotes(StrictModel):
    """What a profile stands for and how well it is known; nothing of it enters a simulation.

    Attributes:
        gpu: the card, and what else it may stand for.
        gpus: cards of one replica (tensor parallelism).
        fit_error_percent: null where the coefficients were not fitted.
    """

    gpu: str
    gpus: PositiveInt
    model: str
    source: str
    fit_error_percent: FitErrors | None
    host_s_range: Range
    mixed_sequence_s_range: Range
    mixed_kv_token_s_range: Range


class HardwareFile(HardwareNotes):
    """A file of configs/hardware: the fields of `HardwareProfile`, and the notes."""

    name: str
    fixed_s: NonNegativeFloat
    memory_s: NonNegativeFloat
    memory_token_s: NonNegativeFloat
    token_s: NonNegativeFloat
    sequence_s: NonNegativeFloat
    kv_token_s: NonNegativeFloat
    prefill_context_s: NonNegativeFloat
    mixed_sequence_s: NonNegativeFloat
    mixed_kv_token_s: NonNegativeFloat
    host_s: NonNegativeFloat
    kv_cache_tokens: PositiveInt
    block_tokens: PositiveInt
    max_sequences: PositiveInt
    max_batched_tokens: PositiveInt
    max_model_tokens: PositiveInt
    kv_token_bytes: PositiveInt | None = None
    host_link_bytes_per_s: PositiveFloat | None = None

    def profile(self) -> HardwareProfile:
        """The part that the engine works with."""
        return HardwareProfile(**{field.name: getattr(self, field.name) for field in fields(HardwareProfile)})

    @model_validator(mode="after")
    def _check_step_takes_time(self) -> Self:
        if self.fixed_s + self.memory_s + self.token_s + self.host_s == 0:
            raise ValueError("a step takes no time: fixed_s, memory_s, token_s and host_s are all 0; want one above 0")
        return self

    @model_validator(mode="after")
    def _check_two_blocks(self) -> Self:
        if self.kv_cache_tokens < 2 * self.block_tokens:
            raise ValueError(
                f"kv_cache_tokens must hold at least 2 blocks of block_tokens, "
                f"got {self.kv_cache_tokens} and {self.block_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("host_s", "mixed_sequence_s", "mixed_kv_token_s"):
            (low, high), value = getattr(self, f"{name}_range"), getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in {name}_range, got {value:g} and [{low:g}, {high:g}]")
        return self


def known_hardware() -> list[str]:
    """The names of the profiles in configs/hardware, sorted."""
    return sorted(path.stem for path in HARDWARE_FOLDER.glob("*.yaml"))


def load_hardware(name_or_path: str | Path) -> HardwareProfile:
    """The hardware profile of that name in configs/hardware, or in that YAML file; raises as `read_hardware`."""
    return read_hardware(name_or_path).profile()


def read_hardware(name_or_path: str | Path) -> HardwareFile:
    """The profile of that name in configs/hardware, or in that YAML file, with its notes.

    Raises:
        InputError: there is no such profile, or its file is wrong.
    """
    text = str(name_or_path)
    is_path = text.endswith((".yaml", ".yml")) or "/" in text
    path = Path(text) if is_path else HARDWARE_FOLDER / f"{text}.yaml"
    if not is_path and not path.is_file():
        raise InputError(f"unknown hardware '{text}'; known: {', '.join(known_hardware())}, or give a path to a YAML")
    return parse(HardwareFile, read_yaml(path), str(path))
