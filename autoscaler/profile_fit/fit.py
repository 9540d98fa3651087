"""Coefficients of the cost model from a table of steps: least squares of relative errors, none below zero."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import least_squares

from autoscaler.profile_fit.step_table import StepTable, Times
from autoscaler.simulator.cost_model import FitErrors

PURE = ("fixed_s", "memory_s", "memory_token_s", "token_s", "sequence_s", "kv_token_s", "prefill_context_s")
MIXED = ("mixed_sequence_s", "mixed_kv_token_s")
OUTLIER = 0.05  # relative errors beyond count linearly, not squared: a table has a few kernels that are badly chosen


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients by their names in `HardwareProfile`; the mixed ones are None where no mixed step was measured."""

    coefficients: Mapping[str, float]
    mixed: Mapping[str, float] | None
    errors: FitErrors


def fit_steps(table: StepTable) -> Fit:
    """Fit the cost model to measured steps.

    Two stages, so that no slope is shared by pure and mixed steps: the coefficients of pure steps come from pure steps
    alone, prefill and decode with equal weight; then what a mixed step takes longer than those say is fitted by what
    its decodes add. One slope for both would be wrong in both: decode attention costs 1.5 to 2.5 times as much in a
    step that carries prefill.
    """
    coefficients = _fit_pure(table)
    mixed = _fit_mixed(table, coefficients) if table.is_mixed.any() else None
    predicted_s = predicted_steps(table, {**coefficients, **(mixed or dict.fromkeys(MIXED, 0.0))})
    errors = np.abs(predicted_s / table.duration_s - 1) * 100
    return Fit(
        coefficients,
        mixed,
        FitErrors(
            prefill=round(float(errors[table.is_prefill].mean()), 2),
            decode=round(float(errors[table.is_decode].mean()), 2),
            mixed=round(float(errors[table.is_mixed].mean()), 2) if mixed else None,
        ),
    )


def predicted_steps(table: StepTable, coefficients: Mapping[str, float]) -> Times:
    """Step times by the cost model, without host time, f64[steps]: `step_seconds` on arrays."""
    tokens = table.prefill_tokens + table.decodes
    memory_s = coefficients["memory_s"] + coefficients["memory_token_s"] * tokens
    pure_s: Times = (
        coefficients["fixed_s"]
        + np.maximum(memory_s, coefficients["token_s"] * tokens)
        + coefficients["sequence_s"] * table.decodes
        + coefficients["kv_token_s"] * table.kv_tokens
        + coefficients["prefill_context_s"] * table.prefill_context
    )
    extra_s = coefficients["mixed_sequence_s"] * table.decodes + coefficients["mixed_kv_token_s"] * table.kv_tokens
    predicted_s: Times = pure_s + extra_s * table.is_mixed
    return predicted_s


def _fit_pure(table: StepTable) -> dict[str, float]:
    """The coefficients of pure steps. The roofline has a corner, so it is sought from several starts."""
    pure = ~table.is_mixed
    table = StepTable(*(getattr(table, name)[pure] for name in StepTable.__slots__))
    weights = np.where(table.is_prefill, 1 / table.is_prefill.sum(), 1 / table.is_decode.sum())
    weights = np.sqrt(weights * len(weights) / 2)
    scale = _scale(table)

    def errors(values: Times) -> Times:
        named = dict(zip(PURE, values * scale, strict=True)) | dict.fromkeys(MIXED, 0.0)
        weighted: Times = (predicted_steps(table, named) / table.duration_s - 1) * weights
        return weighted

    _, values = min((_least_squares(errors, start) for start in _starts()), key=lambda found: found[0])
    return dict(zip(PURE, (values * scale).tolist(), strict=True))


def _fit_mixed(table: StepTable, coefficients: Mapping[str, float]) -> dict[str, float]:
    """What each decode, and each KV token, adds in mixed steps."""
    rows = table.is_mixed
    duration_s, decodes, kv_tokens = table.duration_s[rows], table.decodes[rows], table.kv_tokens[rows]
    pure_s = predicted_steps(table, {**coefficients, **dict.fromkeys(MIXED, 0.0)})[rows]
    scale = np.array([duration_s.mean() / decodes.mean(), duration_s.mean() / kv_tokens.mean()]) / 10

    def errors(values: Times) -> Times:
        sequence_s, kv_token_s = values * scale
        relative: Times = (pure_s + sequence_s * decodes + kv_token_s * kv_tokens) / duration_s - 1
        return relative

    _, values = _least_squares(errors, np.ones(2))
    return dict(zip(MIXED, (values * scale).tolist(), strict=True))


def _least_squares(errors: Callable[[Times], Times], start: Times) -> tuple[float, Times]:
    """The robust cost and the values, none below zero."""
    found = least_squares(errors, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=OUTLIER, xtol=1e-12, ftol=1e-12)
    return float(found.cost), found.x


def _scale(table: StepTable) -> Times:
    """The order of magnitude of each coefficient of pure steps, so that the search sees numbers around 1."""
    least_s = float(table.duration_s.min())
    most_tokens = int(np.argmax(table.prefill_tokens))
    token_s = float(table.duration_s[most_tokens] / table.prefill_tokens[most_tokens])
    most_kv = int(np.argmax(table.kv_tokens))
    kv_token_s = float((table.duration_s[most_kv] - least_s) / table.kv_tokens[most_kv])
    context_s = 0.2 * float(table.duration_s[most_tokens]) / float(table.prefill_context.max())
    return np.array([least_s, least_s, token_s, token_s, token_s, kv_token_s, context_s])


def _starts() -> list[Times]:
    """Starting points: how much of the least step is reading weights, and how steep it is before the corner."""
    return [
        np.array([1 - memory, memory, below, 1.0, 0.1, 1.0, 1.0])
        for memory, below in product((0.1, 0.3, 0.5, 0.8, 0.95), (0.1, 0.4))
    ]
