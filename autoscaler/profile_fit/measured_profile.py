"""A hardware profile from steps that were measured on a running engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoscaler.profile_fit.fit import MIXED, Fit, fit_steps
from autoscaler.profile_fit.profile_file import rounded
from autoscaler.profile_fit.step_log import MeasuredSteps
from autoscaler.profile_fit.step_table import StepTable
from autoscaler.simulator.cost_model import HardwareFile
from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError
from loadgen.strict_config import parse

CELL_RATIO = 1.1  # steps whose sizes differ by less than this factor are repeats of one measurement
LEFT_OUT_PARTS = 4
# What mixed-step terms may be where no mixed step was measured: the most of two measured cards (docs/fidelity.md).
MOST_MIXED_KV_TOKENS = 1.13
MOST_MIXED_SEQUENCE_KV_TOKENS = 237.0


@dataclass(frozen=True, slots=True)
class MeasuredEngine:
    """What a profile says of the engine beside its costs.

    Attributes:
        gpu: the device, as the engine names it.
        how: how it was measured, in a sentence or two.
    """

    name: str
    gpu: str
    gpus: int
    model: str
    how: str
    limits: EngineLimits


def typical_steps(table: StepTable) -> StepTable:
    """One step for each size that was measured: the median of its repeats.

    A step that the machine disturbed is a repeat that takes longer; and a size is not worth more to the fit because it
    came more often.
    """
    columns = np.stack([getattr(table, name) for name in StepTable.__slots__], axis=1)
    sizes = np.round(np.log(np.maximum(columns[:, :4], 1.0)) / np.log(CELL_RATIO))
    sizes[:, 2] = table.decodes  # batches are told apart to the sequence
    _, cells = np.unique(np.column_stack([sizes, table.is_mixed]), axis=0, return_inverse=True)
    medians = np.stack([np.median(columns[cells == cell], axis=0) for cell in range(cells.max() + 1)])
    return StepTable(*medians.T)


def measured_hardware(engine: MeasuredEngine, steps: MeasuredSteps) -> HardwareFile:
    """Fit the cost model to the steps and say what is uncertain.

    Raises:
        InputError: prefill or decode was not measured.
    """
    table = typical_steps(steps.table)
    for kind, rows in (("prefill", table.is_prefill), ("decode", table.is_decode)):
        if rows.sum() < 2:
            raise InputError(f"measured steps: {rows.sum()} sizes of {kind} alone, want 2 or more; measure for longer")
    fit = fit_steps(table)
    mixed = fit.mixed or dict.fromkeys(MIXED, 0.0)
    limits = engine.limits
    values: dict[str, Any] = {
        "name": engine.name,
        "gpu": engine.gpu,
        "gpus": engine.gpus,
        "model": engine.model,
        "source": f"{engine.how} {_extent(steps.table)}",
        "fit_error_percent": fit.errors.model_dump(),
        **{key: rounded(value) for key, value in {**fit.coefficients, **mixed}.items()},
        **{f"{key}_range": [rounded(end) for end in ends] for key, ends in _mixed_ranges(table, fit).items()},
        "host_s": rounded(steps.host_s),
        "host_s_range": [rounded(end) for end in steps.host_s_range],
        "kv_cache_tokens": (limits.usable_blocks + 1) * limits.block_tokens,
        "block_tokens": limits.block_tokens,
        "max_sequences": limits.max_sequences,
        "max_batched_tokens": limits.max_batched_tokens,
        "max_model_tokens": limits.max_model_tokens,
    }
    return parse(HardwareFile, values, engine.name)


def _mixed_ranges(table: StepTable, fit: Fit) -> Mapping[str, tuple[float, float]]:
    """How far the mixed-step terms move without a quarter of all sizes; 0 to the most where none is known."""
    if fit.mixed is None:
        kv_token_s = fit.coefficients["kv_token_s"]
        most = {"mixed_sequence_s": MOST_MIXED_SEQUENCE_KV_TOKENS, "mixed_kv_token_s": MOST_MIXED_KV_TOKENS}
        return {name: (0.0, tokens * kv_token_s) for name, tokens in most.items()}
    found = [fit.mixed]
    parts = np.arange(len(table.decodes)) % LEFT_OUT_PARTS
    for part in range(LEFT_OUT_PARTS):
        kept = fit_steps(StepTable(*(getattr(table, name)[parts != part] for name in StepTable.__slots__)))
        if kept.mixed is not None:
            found.append(kept.mixed)
    return {name: (min(one[name] for one in found), max(one[name] for one in found)) for name in MIXED}


def _extent(table: StepTable) -> str:
    """How far the measured steps reach: beyond that the profile extrapolates."""
    kinds = [
        f"{table.is_prefill.sum():,} of prefill alone",
        f"{table.is_decode.sum():,} of decode alone",
        f"{table.is_mixed.sum():,} of both",
    ]
    return (
        f"Steps: {', '.join(kinds)}; up to {table.prefill_tokens.max():,.0f} prefill tokens, "
        f"{table.decodes.max():,.0f} decoding sequences and {table.kv_tokens.max():,.0f} KV tokens read: beyond that "
        f"the formula extrapolates."
    )
