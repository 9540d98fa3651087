"""The policies at work: a simulated fleet meets a burst, an idle night, and exactly what it can carry."""

from typing import Any

import numpy as np
import pytest

from autoscaler.capacity import replica_capacity
from autoscaler.interface import Policy, Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.policies import make_policy, with_fleet_defaults
from autoscaler.policies.forecast_quantile import is_fallback
from autoscaler.policies.stabilized import Stabilized
from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import SimulationResult
from autoscaler.simulator.run import simulate
from autoscaler.simulator.snapshots import ForecastSettings
from loadgen.metrics import summarise_records
from loadgen.trace import Service, Trace, make_trace

SLO = Slo(ttft_s=2.0, tpot_s=0.2, deadline_s=30.0)
API_SLO = Slo(ttft_s=60.0, tpot_s=0.5, deadline_s=300.0)
SERVICES = {
    "conversation": ServiceClass(Priority.INTERACTIVE, SLO),
    "api": ServiceClass(Priority.BATCH, API_SLO),
}
HARDWARE = load_hardware("a100-llama-2-13b")
LENGTHS = (1138, 211)
CAPACITY = replica_capacity(HARDWARE, *LENGTHS, SLO, max_ongoing_requests=32).requests_per_s


def poisson_trace(rates: list[tuple[float, float]], seed: int = 1, service: Service = Service.CONVERSATION) -> Trace:
    """Requests of one length that arrive at random, at (seconds, requests/s) one after the other."""
    rng = np.random.default_rng(seed)
    arrivals, start_s = [], 0.0
    for length_s, rate in rates:
        arrivals.append(np.sort(rng.uniform(start_s, start_s + length_s, rng.poisson(rate * length_s))))
        start_s += length_s
    arrival_s = np.concatenate(arrivals)
    prompts, outputs = (np.full(len(arrival_s), tokens) for tokens in LENGTHS)
    return make_trace("story", arrival_s, prompts, outputs, duration_s=start_s, service=service)


def run(
    policy: Policy, trace: Trace, *, initial: int = 2, cold_start_s: float = 10.0, forecaster: str | None = None
) -> SimulationResult:
    """Simulate the fleet of this file."""
    fleet = FleetConfig(
        hardware=HARDWARE,
        limits=ScalingLimits(1, 12),
        initial_replicas=initial,
        cold_start_s=cold_start_s,
        max_ongoing_requests=32,
        services=SERVICES,
        settle_s=120.0,
    )
    levels = (0.1, 0.5, 0.9, 0.95, 0.99)
    feed = forecaster and ForecastSettings(name=forecaster, bin_s=5.0, horizon_s=30.0, levels=levels)
    return simulate(trace, policy, fleet, forecasting=feed or None, rng=np.random.default_rng(7))


def attainment(result: SimulationResult) -> float:
    """Share of all requests that ended ok within their service's SLO."""
    summary = summarise_records(result.records, {"conversation": SLO, "api": API_SLO}).total
    assert summary.offered > 100
    assert summary.attainment_fraction is not None
    return summary.attainment_fraction


def held_replica_seconds(result: SimulationResult) -> float:
    """Replica-seconds of the fleet."""
    lives = result.replicas.to_pandas()
    return float((lives["end_s"] - lives["start_s"]).sum())


@pytest.mark.parametrize(("load", "low", "high"), [(0.8, 0.98, 1.0), (1.3, 0.0, 0.5)], ids=["below", "above"])
def test_a_static_fleet_meets_the_slo_below_its_capacity_and_collapses_above(
    load: float, low: float, high: float
) -> None:
    replicas = 4
    trace = poisson_trace([(400.0, load * replicas * CAPACITY)])
    result = run(make_policy("static", replicas=replicas), trace, initial=replicas)
    assert low <= attainment(result) <= high


SCALING: dict[str, dict[str, Any]] = {
    "ray-default": {
        "target_ongoing_requests": 12.0,
        "upscale_delay_s": 2.0,
        "downscale_delay_s": 20.0,
        "look_back_period_s": 5.0,
    },
    "reactive": {"replica_requests_per_s": CAPACITY},
    "forecast-quantile": {"replica_requests_per_s": CAPACITY},
}
BURST = [(120.0, 1.0), (90.0, 12.0), (180.0, 1.0)]


@pytest.mark.parametrize("name", SCALING)
def test_a_burst_makes_the_fleet_grow_and_its_end_makes_it_shrink(name: str) -> None:
    params = with_fleet_defaults(name, SCALING[name], cold_start_s=10.0, period_s=1.0, initial_replicas=2)
    forecaster = "last-value" if name == "forecast-quantile" else None
    result = run(Stabilized(make_policy(name, **params), 0.0, 20.0), poisson_trace(BURST), forecaster=forecaster)
    targets = {record.time_s: record.target_replicas for record in result.decisions}
    assert all(record.error is None for record in result.decisions)
    assert all(1 <= target <= 12 for target in targets.values())
    assert targets[110.0] <= 3
    assert max(targets[float(second)] for second in range(125, 150)) >= 6, "12 requests/s need 6"
    assert targets[370.0] <= 3
    assert attainment(result) > attainment(run(make_policy("static", replicas=2), poisson_trace(BURST)))


def test_without_a_forecaster_the_forecast_policy_is_the_reactive_one_and_says_so() -> None:
    params = {"replica_requests_per_s": CAPACITY}
    trace = poisson_trace(BURST)
    alone = run(make_policy("forecast-quantile", **params, horizon_s=11.0), trace)
    reactive = run(make_policy("reactive", **params), trace)
    assert [record.target_replicas for record in alone.decisions] == [
        record.target_replicas for record in reactive.decisions
    ]
    assert all(is_fallback(record.reason) for record in alone.decisions)
    assert alone.records.equals(reactive.records)


def test_the_same_run_twice_makes_the_same_decisions() -> None:
    def decisions() -> list[dict[str, object]]:
        policy = make_policy("forecast-quantile", replica_requests_per_s=CAPACITY, horizon_s=11.0)
        result = run(Stabilized(policy, 0.0, 20.0), poisson_trace(BURST), forecaster="last-value")
        return [record.as_json() for record in result.decisions]

    assert decisions() == decisions()


def test_a_patient_batch_job_is_served_in_time_by_fewer_replicas() -> None:
    job = poisson_trace([(60.0, 0.5), (60.0, 12.0), (200.0, 0.2)], service=Service.API)
    prompt = make_policy("reactive", replica_requests_per_s=CAPACITY)
    patient = make_policy("reactive", replica_requests_per_s=CAPACITY, patience_s={"api": 60.0})
    at_once, later = (run(Stabilized(policy, 0.0, 20.0), job) for policy in (prompt, patient))
    assert attainment(at_once) > 0.98
    assert attainment(later) > 0.98
    assert held_replica_seconds(later) < 0.75 * held_replica_seconds(at_once)
