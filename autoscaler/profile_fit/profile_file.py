"""A fitted profile as a file of configs/hardware, with what it comes from and what is uncertain."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoscaler.profile_fit.catalogue import BLOCK_TOKENS, Card, profile_name, shipped
from autoscaler.profile_fit.fit import MIXED, Fit, fit_steps
from autoscaler.profile_fit.model_shapes import ModelShape
from autoscaler.simulator.cost_model import HardwareFile
from loadgen.strict_config import parse

HOST_S = 0.001  # one value for all cards: the middle of what single runs on other cards are consistent with
HOST_S_RANGE = (0.0, 0.002)
HOST_LINK = "host_link_bytes_per_s is taken as 0.8 of the card's PCIe x16 link, not measured."
MEASURED_MIXED_ERROR = 0.5  # of a measured mixed-step term: so far one moves with contexts up to 16,384 in the fit


@dataclass(frozen=True, slots=True)
class MixedRatios:
    """The mixed-step terms over kv_token_s on the cards that were measured: (least, mean, most) of each.

    `sequence` is in KV tokens: a decode in a mixed step costs as much more as reading so many tokens.
    """

    sequence: tuple[float, float, float]
    kv_token: tuple[float, float, float]


def fit_profile(card: Card, shape: ModelShape, tables: Path) -> Fit:
    """Fit the cost model to the steps of a model on a card."""
    steps = card.steps(tables, shape, card.cache_tokens(shape), card.max_batched_tokens)
    return fit_steps(steps)


def mixed_ratios(tables: Path) -> MixedRatios:
    """What the cards with measured mixed steps say for those without."""
    fits = [fit_profile(card, shape, tables) for card, shape in shipped() if card.has_mixed_steps]
    ratios = {
        name: [fit.mixed[name] / fit.coefficients["kv_token_s"] for fit in fits if fit.mixed is not None]
        for name in MIXED
    }
    spans = {name: (min(values), sum(values) / len(values), max(values)) for name, values in ratios.items()}
    return MixedRatios(spans["mixed_sequence_s"], spans["mixed_kv_token_s"])


def hardware_file(card: Card, shape: ModelShape, fit: Fit, ratios: MixedRatios) -> HardwareFile:
    """The profile of a fit, with `ratios` where no mixed step was measured on the card."""
    name = profile_name(card, shape)
    mixed, ranges = _mixed_terms(shape, fit, ratios)
    values: dict[str, Any] = {
        "name": name,
        "gpu": f"{card.gpu} (also for {card.stands_for})" if card.stands_for else card.gpu,
        "gpus": shape.tensor_parallel,
        "model": shape.name,
        "source": _source(card, shape, fit),
        "fit_error_percent": fit.errors.model_dump(),
        **{key: rounded(value) for key, value in {**fit.coefficients, **mixed}.items()},
        **{f"{key}_range": [rounded(end) for end in ends] for key, ends in ranges.items()},
        "host_s": HOST_S,
        "host_s_range": list(HOST_S_RANGE),
        "kv_cache_tokens": card.cache_tokens(shape),
        "block_tokens": BLOCK_TOKENS,
        "max_sequences": card.max_sequences,
        "max_batched_tokens": card.max_batched_tokens,
        "max_model_tokens": shape.max_model_tokens,
        "kv_token_bytes": shape.kv_bytes_per_token,
        "host_link_bytes_per_s": rounded(card.host_link_bytes_per_s),
    }
    return parse(HardwareFile, values, name)


def write_hardware(hardware: HardwareFile, path: Path, written_by: str = "profile fit") -> None:
    """Write the file, its source folded to lines that a person reads; `written_by` which command."""
    optional = {name for name, field in HardwareFile.model_fields.items() if not field.is_required()}
    values = hardware.model_dump(mode="json", exclude={name for name in optional if getattr(hardware, name) is None})
    source = textwrap.fill(values.pop("source"), 118, initial_indent="  ", subsequent_indent="  ")
    head = {key: values.pop(key) for key in ("name", "gpu", "gpus", "model")}
    order = [name for name in HardwareFile.model_fields if name in values]
    body = {name: values[name] for name in sorted(order, key=_place)}
    text = yaml.safe_dump(head, sort_keys=False, width=118, allow_unicode=True)
    text += f"source: >-\n{source}\n"
    text += yaml.safe_dump(body, sort_keys=False, default_flow_style=None, width=118)
    values_in = " in bfloat16" if written_by == "profile fit" else ""
    head_line = f"# Written by `burstscale {written_by}`; {head['model']}{values_in}.\n"
    path.write_text(head_line + text, encoding="utf-8")


def _place(name: str) -> tuple[int, str]:
    """Ranges stand right under their coefficients."""
    names = [field for field in HardwareFile.model_fields if not field.endswith("_range")]
    return names.index(name.removesuffix("_range")), name


def _mixed_terms(
    shape: ModelShape, fit: Fit, ratios: MixedRatios
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The mixed-step terms and their ranges.

    Measured: as fitted, give or take a half. Not measured: with grouped attention the mean of the measured cards
    (groups of 4), from nothing to the most, in proportion to larger groups, since what decodes lose in a mixed step is
    the sharing of one read by the queries of a group. With multi-head attention there is nothing to lose: 0, up to the
    same most.
    """
    if fit.mixed is not None:
        spread = {
            name: (value * (1 - MEASURED_MIXED_ERROR), value * (1 + MEASURED_MIXED_ERROR))
            for name, value in fit.mixed.items()
        }
        return dict(fit.mixed), spread
    kv_token_s = fit.coefficients["kv_token_s"]
    groups = max(1.0, shape.queries_per_kv_head / 4)
    is_grouped = shape.queries_per_kv_head > 1
    spans = {"mixed_sequence_s": ratios.sequence, "mixed_kv_token_s": ratios.kv_token}
    terms = {name: mean * kv_token_s if is_grouped else 0.0 for name, (_, mean, _) in spans.items()}
    return terms, {name: (0.0, most * kv_token_s * groups) for name, (_, _, most) in spans.items()}


def _source(card: Card, shape: ModelShape, fit: Fit) -> str:
    """From which tables, and what of it is uncertain."""
    parts = [f"Fitted to {card.tables}. {card.uncertain}".strip()]
    if fit.mixed is None:
        kind = "the mean of two measured cards" if shape.queries_per_kv_head > 1 else "taken as 0"
        parts.append(f"Steps that mix prefill and decode are not in these tables: their terms are {kind}.")
    if shape.card_kv_heads > 8 and card.key != "a40":
        times = shape.card_kv_heads // 8
        parts.append(
            f"Decode tables stop at 8 KV heads: {shape.card_kv_heads} are taken as 8 at {times} times the context "
            f"(kv_token_s uncertain by -30 to +10 %)."
        )
    parts.append("host_s is not identified: 0 to 2 ms fit single runs, 1 ms is taken for all cards.")
    if card.kv_cache_tokens is None:
        parts.append("kv_cache_tokens = (0.9 memory - weights - 4 GiB) / bytes of a token.")
    else:
        parts.append("kv_cache_tokens is what a run of vLLM reported.")
    parts.append(HOST_LINK)
    return " ".join(parts)


def rounded(value: float) -> float:
    """Four digits; what is below a picosecond is nothing."""
    return float(f"{value:.4g}") if value >= 1e-12 else 0.0
