"""What the choice of the replica is worth: the same requests on the same fleet under each routing."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from autoscaler.interface import Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.engine_state import engine_limits
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.router_state import RouterConfig, Routing
from loadgen.trace import Trace
from testbed.bench_simulator import bursty_trace

SLO = Slo(ttft_s=2.0, tpot_s=0.2, deadline_s=30.0)
DRAWN_REQUESTS = 50_000


@dataclass(frozen=True, slots=True)
class RoutingOutcome:
    """One run. A request that did not end ok counts as infinite in TTFT and as a miss in attainment.

    Attributes:
        found_fraction: share of the prompts' tokens that a prefix cache had.
    """

    routing: str
    ttft_p50_s: float
    ttft_p99_s: float
    attainment_fraction: float
    failed_fraction: float
    found_fraction: float


@dataclass(frozen=True, slots=True)
class RoutingSetup:
    """The fleet and the requests.

    Attributes:
        trace: what the model takes of it is served; None = bursty requests are drawn, `rate_per_s` for each replica.
    """

    hardware: str
    replicas: int
    trace: Trace | None
    rate_per_s: float
    seeds: int


def bench_routing(setup: RoutingSetup, on_stage: Callable[[str], None]) -> list[RoutingOutcome]:
    """Serve the same requests under each routing, once for each seed.

    Engines have a prefix cache where the trace says which prompts begin alike.
    """
    outcomes = []
    for seed in range(setup.seeds):
        served = bursty_trace(DRAWN_REQUESTS, setup.replicas * setup.rate_per_s, seed)
        if setup.trace is not None:
            served = servable(setup.trace, setup.hardware)
        for routing in Routing:
            on_stage(f"{routing}, seed {seed}")
            outcomes.append(outcome_of(served, setup, routing, seed))
    return outcomes


def servable(trace: Trace, hardware: str) -> Trace:
    """The trace without the requests that are longer than the model takes: they fail under any routing."""
    tokens = np.maximum(trace.prompt_tokens, 1) + np.maximum(trace.output_tokens, 1)
    return trace.take(np.flatnonzero(tokens <= engine_limits(load_hardware(hardware)).longest_request_tokens))


def outcome_of(trace: Trace, setup: RoutingSetup, routing: Routing, seed: int) -> RoutingOutcome:
    """One run on a fleet whose size stays."""
    config = FleetConfig(
        hardware=load_hardware(setup.hardware),
        limits=ScalingLimits(setup.replicas, setup.replicas),
        initial_replicas=setup.replicas,
        cold_start_s=70.0,
        max_ongoing_requests=64,
        services=dict.fromkeys(("conversation", "api"), ServiceClass(Priority.INTERACTIVE, SLO)),
        router=RouterConfig(routing=routing),
        prefix_caching=trace.prefix is not None,
    )
    fleet = Fleet(trace, config, np.random.default_rng(seed))
    fleet.advance(trace.duration_s + SLO.deadline_s)
    requests, states = fleet.requests, fleet.compiled[0].states
    ok = requests.fate == Fate.OK
    ttft_s = np.where(ok, requests.first_token_s - requests.arrival_s, np.inf)
    tpot_s = (requests.finished_s - requests.first_token_s) / np.maximum(requests.output_tokens - 1, 1)
    p50_s, p99_s = np.percentile(ttft_s, [50, 99], method="inverted_cdf")
    return RoutingOutcome(
        routing=routing.value,
        ttft_p50_s=float(p50_s),
        ttft_p99_s=float(p99_s),
        attainment_fraction=float(np.mean(ok & (ttft_s <= SLO.ttft_s) & (tpot_s <= SLO.tpot_s))),
        failed_fraction=float(np.mean(~ok)),
        found_fraction=float(states["found_tokens"].sum() / max(1, states["looked_up_tokens"].sum())),
    )


def routing_table(outcomes: Sequence[RoutingOutcome], title: str) -> Table:
    """One row per routing: the median of its seeds, and from least to most."""
    table = Table(
        "routing",
        "TTFT p50 s",
        "TTFT p99 s",
        "attainment",
        "failed",
        "found in cache",
        title=title,
        title_justify="left",
    )
    for routing in Routing:
        mine = [outcome for outcome in outcomes if outcome.routing == routing.value]
        _, *figures = zip(*(astuple(outcome) for outcome in mine), strict=True)
        table.add_row(routing.value, *(_shown(values) for values in figures))
    return table


def outcomes_as_json(outcomes: Sequence[RoutingOutcome]) -> list[dict[str, Any]]:
    """Every run by itself."""
    return [asdict(outcome) for outcome in outcomes]


def _shown(values: Sequence[float]) -> str:
    middle, least, most = median(values), min(values), max(values)
    return f"{middle:.3f}" if least == most else f"{middle:.3f} ({least:.3f} to {most:.3f})"
