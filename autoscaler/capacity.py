"""Requests per second that one replica carries within the SLO, from its hardware profile and the requests' lengths."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoscaler.interface import HardwareProfile, Slo
from autoscaler.simulator.cost_model import StepCosts, step_costs, step_seconds
from loadgen.errors import InputError

# At the saturated rate itself any queue grows without end; random arrivals need some room below it.
UTILISATION = 0.85
HALVINGS = 40


class Binding(StrEnum):
    """What keeps a replica from carrying more."""

    TPOT = "tpot"
    TTFT = "ttft"
    KV_CACHE = "kv_cache"
    MAX_SEQUENCES = "max_sequences"
    MAX_ONGOING_REQUESTS = "max_ongoing_requests"
    COMPUTE = "compute"  # prompts and decodes fill the step's budget of tokens


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """An engine in its steady state while `sequences` requests decode, in the mean.

    Attributes:
        requests_per_s: completions, and as many admissions.
        in_progress: mean requests inside, those in prefill included.
        tpot_s: mean time per output token, the prefills of others included.
        ttft_s: mean time from admission to the first token; time in the queue comes on top.
        prefill_fraction: share of the time that goes into prefill.
        kv_cache_fraction: mean share of the KV cache that is held; above 1 it does not fit.
        tokens_per_step: mean tokens that a step works on.
    """

    sequences: float
    requests_per_s: float
    in_progress: float
    tpot_s: float
    ttft_s: float
    prefill_fraction: float
    kv_cache_fraction: float
    tokens_per_step: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica carries within the SLO.

    Attributes:
        requests_per_s: to plan with: the rate when full times the utilisation asked for.
        binding: what keeps it from more.
        full: the engine with as many requests as the limits allow.
    """

    requests_per_s: float
    binding: Binding
    full: EngineLoad


@dataclass(frozen=True, slots=True)
class _Lengths:
    """A sample of requests.

    Attributes:
        prompt_tokens: f64[k], the different prompt lengths.
        shares: f64[k], how often each occurs; they sum to 1.
        decode_steps: mean over requests.
        held_tokens: KV tokens that a request holds, mean over its decode steps.
    """

    prompt_tokens: NDArray[np.float64]
    shares: NDArray[np.float64]
    decode_steps: float
    held_tokens: float

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean over requests."""
        return float(self.prompt_tokens @ self.shares)


def replica_capacity(
    hardware: HardwareProfile,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    slo: Slo,
    max_ongoing_requests: int,
    utilisation: float = UTILISATION,
) -> Capacity:
    """Find the rate that one replica carries within the SLO, by steady-state analysis of its steps.

    With b sequences decoding, a step without prefill takes `plain`; a prompt adds `extra` once, and a request needs D
    decode steps, each of which it shares with b - 1 others. So it costs extra + D * plain / b of the engine's time; the
    reciprocal is the rate, and b is the largest number that breaks no limit. Worked example (A100, Llama-2-13b, 1138
    prompt and 211 output tokens, b = 30): 0.1 s + 210 * 0.041 s / 30 = 0.387 s, so 2.6 requests/s.

    Lengths that vary matter: a long output is in progress for longer, so that what is held in the KV cache is a mean
    over decode steps, not over requests. Give the lengths of a sample of requests where they are known, not means.

    Args:
        prompt_tokens, output_tokens: of each request of a sample, or one mean each.
        max_ongoing_requests: what the router gives to one replica at a time.
        utilisation: share of the full rate to plan with, in (0, 1].

    Raises:
        InputError: the lengths don't fit together, or one request now and then already breaks a limit.
    """
    lengths = _measured(prompt_tokens, output_tokens)

    def broken_limit(sequences: float) -> Binding | None:
        return _broken_limit(_engine_load(hardware, lengths, sequences), hardware, slo, max_ongoing_requests)

    # All limits tighten with b, and no more requests decode than are in progress: halve the interval with the edge.
    kept, broken = 0.0, float(max_ongoing_requests + 1)
    for _ in range(HALVINGS):
        middle = (kept + broken) / 2
        kept, broken = (kept, middle) if broken_limit(middle) else (middle, broken)
    binding = broken_limit(broken)
    assert binding is not None, "more requests decoding than may be ongoing breaks a limit"
    load = _engine_load(hardware, lengths, kept or broken)
    if kept == 0.0:
        raise InputError(
            f"hardware '{hardware.name}': a request alone already breaks the limit '{binding}' "
            f"(TPOT {load.tpot_s:.3g} s of {slo.tpot_s:.3g}, TTFT {load.ttft_s:.3g} s of {slo.ttft_s:.3g}); "
            f"want a looser SLO, shorter requests or other hardware"
        )
    return Capacity(utilisation * load.requests_per_s, binding, load)


def _measured(prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> _Lengths:
    """Digest the sample. The first output token comes with the prefill: 211 output tokens take 210 decode steps."""
    prompts = np.atleast_1d(np.asarray(prompt_tokens, dtype=np.float64))
    outputs = np.atleast_1d(np.asarray(output_tokens, dtype=np.float64))
    if not len(prompts) or len(prompts) != len(outputs):
        raise InputError(
            f"capacity: got {len(prompts)} prompt and {len(outputs)} output lengths; want as many, and some"
        )
    different, counts = np.unique(np.maximum(prompts, 1.0), return_counts=True)
    steps = np.maximum(outputs - 1.0, 1.0)
    held = float(np.sum(steps * (prompts + outputs / 2)) / np.sum(steps))
    return _Lengths(different, counts / len(prompts), float(steps.mean()), held)


def _engine_load(hardware: HardwareProfile, lengths: _Lengths, sequences: float) -> EngineLoad:
    """Work out the steady state with `sequences` requests decoding; see `replica_capacity` for the argument."""
    costs = step_costs(hardware)
    at_work = max(1.0, sequences)  # under one in the mean: one at a time, and pauses
    plain_s = step_seconds(costs, 0, 0.0, at_work, at_work * lengths.held_tokens)
    chunk_tokens = max(1.0, hardware.max_batched_tokens - at_work)
    extra_s = _prefill_extra_s(costs, lengths, (at_work, at_work * lengths.held_tokens), chunk_tokens)
    per_s = 1.0 / (extra_s + lengths.decode_steps * plain_s / sequences)
    tpot_s = sequences / (per_s * lengths.decode_steps)
    in_prefill = per_s * (plain_s + extra_s)
    in_progress = sequences + in_prefill
    prompt_tokens = lengths.mean_prompt_tokens
    # The last block of a request is half empty on average.
    held = sequences * lengths.held_tokens + in_prefill * prompt_tokens + in_progress * hardware.block_tokens / 2
    return EngineLoad(
        sequences=sequences,
        requests_per_s=per_s,
        in_progress=in_progress,
        tpot_s=tpot_s,
        ttft_s=tpot_s / 2 + plain_s + extra_s,  # half of the step under way, then the one that carries its prompt
        prefill_fraction=per_s * extra_s,
        kv_cache_fraction=held / hardware.kv_cache_tokens,
        tokens_per_step=sequences + per_s * tpot_s * prompt_tokens,
    )


def _prefill_extra_s(costs: StepCosts, lengths: _Lengths, decodes: tuple[float, float], chunk_tokens: float) -> float:
    """Mean seconds that a prompt adds to the steps that carry it, beside `decodes` (sequences, and KV tokens read).

    A prompt longer than what the decodes leave of the step's budget comes in full chunks and a rest. A short one may
    cost nothing but its attention, as the step has to read the weights anyway.
    """
    plain_s = step_seconds(costs, 0, 0.0, *decodes)

    def added_s(tokens: float, context: float) -> float:
        return step_seconds(costs, tokens, context, *decodes) - plain_s

    chunk_s = added_s(chunk_tokens, 0.0)
    extras_s = [
        tokens // chunk_tokens * chunk_s + added_s(tokens % chunk_tokens, tokens**2 / 2)
        for tokens in lengths.prompt_tokens.tolist()
    ]
    return float(np.asarray(extras_s) @ lengths.shares)


def _broken_limit(load: EngineLoad, hardware: HardwareProfile, slo: Slo, max_ongoing_requests: int) -> Binding | None:
    """The first limit that the load breaks; None where it keeps all of them."""
    limits = {
        Binding.TPOT: load.tpot_s <= slo.tpot_s,
        Binding.TTFT: load.ttft_s <= slo.ttft_s,
        Binding.KV_CACHE: load.kv_cache_fraction <= 1.0,
        Binding.MAX_SEQUENCES: load.in_progress <= hardware.max_sequences,
        Binding.MAX_ONGOING_REQUESTS: load.in_progress <= max_ongoing_requests,
        Binding.COMPUTE: load.tokens_per_step <= hardware.max_batched_tokens,
    }
    return next((binding for binding, is_kept in limits.items() if not is_kept), None)
