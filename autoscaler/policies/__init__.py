"""The table of policies, and the one way to make one by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.interface import Policy
from autoscaler.policies.forecast_quantile import ForecastQuantile
from autoscaler.policies.parameters import ParameterDescription, check_parameters, describe_parameters
from autoscaler.policies.ray_default import RayDefault
from autoscaler.policies.reactive import Reactive
from autoscaler.policies.static import Static
from loadgen.errors import InputError

POLICIES: Mapping[str, type[Any]] = {
    "static": Static,
    "ray-default": RayDefault,
    "reactive": Reactive,
    "forecast-quantile": ForecastQuantile,
}

# Delays around these would add to the ones that are part of their rule.
POLICIES_WITH_DELAYS = frozenset({"ray-default"})


@dataclass(frozen=True, slots=True)
class PolicyDescription:
    """A row of the table of policies, for a person to choose from."""

    name: str
    summary: str
    parameters: tuple[ParameterDescription, ...]


def make_policy(name: str, /, **params: Any) -> Policy:
    """Make a policy of `POLICIES` with its parameters.

    Raises:
        InputError: the policy or a parameter is unknown, a parameter is missing or not what is wanted.
    """
    policy: Policy = _policy_type(name)(**check_parameters(f"policy {name!r}", _policy_type(name), params))
    return policy


def parameter_names(name: str) -> frozenset[str]:
    """The parameters that a policy takes.

    Raises:
        InputError: the policy is unknown.
    """
    return frozenset(parameter.name for parameter in describe_parameters(_policy_type(name)))


def with_fleet_defaults(
    name: str, params: Mapping[str, Any], *, cold_start_s: float, period_s: float, initial_replicas: int
) -> dict[str, Any]:
    """Add to a policy's parameters those that the fleet's configuration answers, where they are not given.

    `horizon_s`, how far a policy looks ahead, is the cold start plus one control period: what is asked for now is ready
    after the first, and can't be corrected before the second. `replicas` of a static fleet is how many it starts with.

    Raises:
        InputError: the policy is unknown.
    """
    known = parameter_names(name)
    answered = {"horizon_s": cold_start_s + period_s, "replicas": initial_replicas}
    return {key: value for key, value in answered.items() if key in known} | dict(params)


def describe_policies() -> list[PolicyDescription]:
    """List all policies with their parameters, in the order of the table."""
    return [
        PolicyDescription(name, (policy.__doc__ or "").splitlines()[0], describe_parameters(policy))
        for name, policy in POLICIES.items()
    ]


def _policy_type(name: str) -> type[Any]:
    """Look a policy up."""
    if name not in POLICIES:
        raise InputError(f"unknown policy {name!r}; known: {', '.join(POLICIES)}")
    return POLICIES[name]
