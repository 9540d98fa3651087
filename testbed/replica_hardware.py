"""What follows from a replica's hardware profile: the GPUs that it holds, and the rate that policies plan with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler.capacity import Capacity, replica_capacity
from autoscaler.interface import Priority, Slo
from autoscaler.policies import POLICIES, parameter_names
from autoscaler.simulator.cost_model import load_hardware, read_hardware
from autoscaler.simulator.engine_state import engine_limits
from loadgen.errors import InputError
from loadgen.trace import SERVICE_LABELS, Trace
from serve_app.config import AppConfig, PolicySettings, VllmEngine

RATE = "replica_requests_per_s"
DERIVED = "auto"
# Lengths of so many requests, spread evenly over the trace, say what a request costs.
SAMPLED_REQUESTS = 20_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """An application as it is after a choice, and what a person should know of it, one line each."""

    app: AppConfig
    notes: tuple[str, ...] = ()


def with_hardware(app: AppConfig, name: str) -> Chosen:
    """Put another profile in place of the file's. What the file says of one replica's rate holds no longer.

    Raises:
        InputError: there is no such profile.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        name = str(Path(name).absolute())
    before, hardware = app.engine.hardware, read_hardware(name)
    if name == before:
        return Chosen(app)
    fleet, policy = app.fleet, app.policy
    if isinstance(app.engine, VllmEngine) and fleet.gpus_per_replica > 0:
        fleet = fleet.model_copy(update={"gpus_per_replica": float(hardware.gpus)})
    if _takes_rate(policy):
        policy = policy.model_copy(update={"params": {**policy.params, RATE: DERIVED}})
    engine = app.engine.model_copy(update={"hardware": name})
    note = (
        f"hardware {name} in place of {before}; as the file has them: "
        f"max_ongoing_requests {fleet.max_ongoing_requests}, cold_start_s {fleet.planned_cold_start_s:g}"
    )
    return Chosen(app.model_copy(update={"engine": engine, "fleet": fleet, "policy": policy}), (note,))


def with_static_fleet(app: AppConfig, replicas: int) -> AppConfig:
    """Always so many replicas; nobody needs a forecast then."""
    fleet = app.fleet.model_copy(update=dict.fromkeys(("min_replicas", "max_replicas", "initial_replicas"), replicas))
    policy = PolicySettings(name="static", params={"replicas": replicas})
    return app.model_copy(update={"fleet": fleet, "policy": policy, "forecaster": None})


def leaves_rate_open(policy: PolicySettings) -> bool:
    """Whether the policy plans with a replica's rate that nobody has given."""
    return _takes_rate(policy) and policy.params.get(RATE, DERIVED) == DERIVED


def with_rate(app: AppConfig, requests_per_s: float) -> AppConfig:
    """Say what one replica carries, where that is left open."""
    if not leaves_rate_open(app.policy):
        return app
    params: Mapping[str, Any] = {**app.policy.params, RATE: requests_per_s}
    return app.model_copy(update={"policy": app.policy.model_copy(update={"params": params})})


def with_derived_rate(app: AppConfig, trace: Trace) -> Chosen:
    """Work out what one replica carries of this traffic within the SLO, where that is left open.

    Raises:
        InputError: a request alone already breaks the SLO on this hardware.
    """
    if not leaves_rate_open(app.policy):
        return Chosen(app)
    capacity, unlimited = _capacities(app, trace)
    rate = float(f"{capacity.requests_per_s:.3g}")
    note = (
        f"{RATE} {rate:g}, derived from {app.engine.hardware}, the trace's lengths and "
        f"max_ongoing_requests {app.fleet.max_ongoing_requests}; bound by {capacity.binding.value}"
    )
    if unlimited.requests_per_s > 1.05 * capacity.requests_per_s:
        note += f" (with as many as the engine takes, {unlimited.requests_per_s:.3g})"
    return Chosen(with_rate(app, rate), (note,))


def _takes_rate(policy: PolicySettings) -> bool:
    """Whether the policy plans with what one replica carries; of a policy of the user's own, its parameters tell."""
    return RATE in policy.params or (policy.name in POLICIES and RATE in parameter_names(policy.name))


def _capacities(app: AppConfig, trace: Trace) -> tuple[Capacity, Capacity]:
    """What one replica carries with the router's limit, and with only the engine's own."""
    hardware = load_hardware(app.engine.hardware)
    outputs = np.maximum(trace.output_tokens, 1)
    is_served = trace.prompt_tokens + outputs <= engine_limits(hardware).longest_request_tokens
    if not is_served.any():
        raise InputError(f"trace '{trace.name}': hardware '{hardware.name}' can hold none of its requests")
    served = np.flatnonzero(is_served)
    sample = served[np.linspace(0, len(served) - 1, min(len(served), SAMPLED_REQUESTS)).astype(np.int64)]
    slo = _strictest_slo(app, trace)
    prompts, outputs = trace.prompt_tokens[sample], outputs[sample]
    limits = (app.fleet.max_ongoing_requests, hardware.max_sequences)
    try:
        limited, unlimited = (replica_capacity(hardware, prompts, outputs, slo, limit) for limit in limits)
    except InputError as error:
        raise InputError(f"policy '{app.policy.name}': {RATE} cannot be derived: {error}; or give {RATE}") from error
    return limited, unlimited


def _strictest_slo(app: AppConfig, trace: Trace) -> Slo:
    """The tightest promise to those services of the trace that cannot wait; to all of them where none is such."""
    occurring = {SERVICE_LABELS[index] for index in np.unique(trace.service).tolist()}
    services = [service for label, service in app.services.items() if label in occurring] or list(app.services.values())
    pressing = [service for service in services if service.priority is Priority.INTERACTIVE] or services
    first = pressing[0].service_class.slo
    return replace(
        first,
        ttft_s=min(service.ttft_s for service in pressing),
        tpot_s=min(service.tpot_s for service in pressing),
    )
