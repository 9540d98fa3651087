"""Small fleets for tests, of which each test changes what it is about."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from small_engines import EVERY_TERM

from autoscaler.interface import Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_state import Fate
from loadgen.trace import Trace, make_trace

HARDWARE = replace(
    EVERY_TERM, kv_cache_tokens=4 * 41, block_tokens=4, max_sequences=6, max_batched_tokens=32, max_model_tokens=96
)
# One request at a time, 0.01 s for each token and nothing else: service time is proportional to output tokens.
ONE_AT_A_TIME = replace(
    HARDWARE,
    memory_s=0.0,
    memory_token_s=0.0,
    token_s=0.0,
    sequence_s=0.0,
    kv_token_s=0.0,
    prefill_context_s=0.0,
    mixed_sequence_s=0.0,
    mixed_kv_token_s=0.0,
    host_s=0.0,
    kv_cache_tokens=1_000_000,
    block_tokens=16,
    max_sequences=1,
    max_model_tokens=100_000,
)


def services(conversation_s: float = 1e9, api_s: float = 1e9) -> dict[str, ServiceClass]:
    """Both services with these deadlines."""
    return {
        "conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, conversation_s)),
        "api": ServiceClass(Priority.BATCH, Slo(60.0, 0.5, api_s)),
    }


def config(**changes: object) -> FleetConfig:
    """One replica of the test hardware, with changes."""
    plain = FleetConfig(
        hardware=HARDWARE,
        limits=ScalingLimits(0, 4),
        initial_replicas=1,
        cold_start_s=5.0,
        max_ongoing_requests=8,
        services=services(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def trace(
    arrival_s: ArrayLike, prompt_tokens: ArrayLike = 10, output_tokens: ArrayLike = 3, service: ArrayLike = 0
) -> Trace:
    """A trace in which single numbers hold for every request."""
    arrivals = np.asarray(arrival_s, float)
    prompts, outputs = (
        np.broadcast_to(np.asarray(tokens), arrivals.shape) for tokens in (prompt_tokens, output_tokens)
    )
    return make_trace("test", arrivals, prompts, outputs, duration_s=float(arrivals[-1]) + 1.0, service=service)


def fleet_of(requests: Trace, fleet: FleetConfig, seed: int = 0, *, event_skipping: bool = True) -> Fleet:
    """A fleet that has not begun."""
    return Fleet(requests, fleet, np.random.default_rng(seed), event_skipping=event_skipping)


def fates(fleet: Fleet) -> list[Fate]:
    """How each request ended."""
    return [Fate(fate) for fate in fleet.requests.fate]
