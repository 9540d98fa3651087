"""Fleets in lockstep: alone where there is room, within the budget always, and started as soon as GPUs are free."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fault_mixes import fault_mixes
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import TOKENS_AND_SEQUENCES

from autoscaler.decision_record import DecisionRecord
from autoscaler.interface import ClusterSnapshot, Priority, ScalingDecision, ScalingLimits, ServiceClass, Slo
from autoscaler.simulator.faults import LostMetrics, NodeDeath, RandomDeaths, ReplicaDeath
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import SimulationResult
from autoscaler.simulator.run import simulate
from autoscaler.simulator.shared_run import SharingModel, simulate_together
from autoscaler.simulator.snapshots import ForecastSettings
from loadgen.client_config import ClientConfig
from loadgen.trace import Trace, make_trace

FLEET = FleetConfig(
    hardware=TOKENS_AND_SEQUENCES,
    limits=ScalingLimits(0, 8),
    initial_replicas=1,
    cold_start_s=4.5,
    max_ongoing_requests=8,
    services={"conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 20.0))},
    settle_s=5.0,
)
Target = Callable[[ClusterSnapshot], int]
FORECASTING = ForecastSettings(name="last-value", bin_s=2.0, horizon_s=10.0, levels=(0.5, 0.9))


class Asks:
    """Asks for what `target` answers."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        return ScalingDecision(self._target(cluster), "asked")


def steps(*changes: tuple[float, int]) -> Target:
    """The target of the last change at or before now."""
    return lambda cluster: [target for at_s, target in changes if at_s <= cluster.now_s][-1]


def by_load(cluster: ClusterSnapshot) -> int:
    """One replica for every four requests in the system."""
    return -(-cluster.ongoing_requests // 4)


def traffic(requests_per_s: float, seed: int, seconds: float = 40.0) -> Trace:
    rng = np.random.default_rng(seed)
    count = rng.poisson(seconds * requests_per_s)
    arrival_s = np.sort(rng.uniform(0.0, seconds, count))
    return make_trace("t", arrival_s, rng.integers(1, 400, count), rng.integers(1, 60, count), duration_s=seconds)


def model(
    target: Target,
    *,
    gpus: float = 1.0,
    requests_per_s: float = 2.0,
    seed: int = 0,
    fleet: FleetConfig = FLEET,
    **of: Any,
) -> SharingModel:
    return SharingModel(
        trace=traffic(requests_per_s, seed),
        policy=Asks(target),
        fleet=fleet,
        forecasting=of.get("forecasting"),
        rng=np.random.default_rng(seed),
        gpus_per_replica=gpus,
    )


def starts(result: SimulationResult) -> list[tuple[str, float]]:
    """Which replicas were asked for, and when."""
    rows = [row for row in result.replicas.to_pylist() if row["state"] == "starting"]
    return [(row["replica_id"], row["start_s"]) for row in rows]


def held(results: dict[str, SimulationResult], models: dict[str, SharingModel], at_s: float) -> float:
    """GPUs that are held just after an instant."""
    return sum(
        models[name].gpus_per_replica
        for name, result in results.items()
        for row in result.replicas.to_pylist()
        if row["start_s"] <= at_s < row["end_s"]
    )


def undecorated(record: DecisionRecord) -> DecisionRecord:
    return replace(record, model=None, granted_replicas=None)


@pytest.mark.parametrize("record_interval_s", [0.0, 7.0])
def test_where_there_is_room_each_model_goes_on_as_if_it_were_alone(record_interval_s: float) -> None:
    slower = replace(FLEET, period_s=3.0, metrics_interval_s=0.7, cold_start_sigma=0.3)

    struck = replace(
        FLEET,
        limits=ScalingLimits(0, 3),
        faults=(ReplicaDeath(7.3), NodeDeath(12.0), RandomDeaths(15.0, start_s=5.0), LostMetrics(20.1, 27.3)),
        failure_notice_s=2.2,
        client=ClientConfig(timeout_s=4.0),
        max_queued_requests=5,
        max_ongoing_requests=3,
    )

    def models() -> dict[str, SharingModel]:
        return {
            "busy": model(by_load, requests_per_s=9.0, seed=1, forecasting=FORECASTING),
            "struck": model(by_load, requests_per_s=6.0, seed=4, fleet=struck, forecasting=FORECASTING),
            "slow": model(by_load, requests_per_s=4.0, seed=2, fleet=slower, gpus=4.0),
            "idle": model(steps((0, 1), (20, 0)), requests_per_s=0.1, seed=3),
        }

    together = simulate_together(models(), 1000.0, record_interval_s=record_interval_s)
    assert any(start_s % 1.0 for _, start_s in starts(together["struck"])), "a death is noticed between two periods"
    assert max(together["struck"].records["attempts"].to_pylist()) > 1
    for name, each in models().items():
        alone = simulate(
            each.trace,
            each.policy,
            each.fleet,
            forecasting=each.forecasting,
            rng=each.rng,
            record_interval_s=record_interval_s,
        )
        assert together[name].records.equals(alone.records)
        decisions = [undecorated(record) for record in together[name].decisions if record.time_s <= alone.end_s]
        assert decisions == alone.decisions
        assert {record.model for record in together[name].decisions} == {name}
        assert all(record.granted_replicas == record.target_replicas for record in together[name].decisions)
        assert starts(together[name])[: len(starts(alone))] == starts(alone)


def test_what_waits_is_started_as_soon_as_gpus_are_free() -> None:
    """Four GPUs: A holds three and gives two back at 20 s; B wants three from 5 s on."""
    quiet = {"requests_per_s": 0.05}
    results = simulate_together(
        {
            "a": model(steps((0, 3), (20, 1)), fleet=replace(FLEET, initial_replicas=3), **quiet),
            "b": model(steps((0, 1), (5, 3)), seed=5, **quiet),
        },
        4.0,
    )
    assert starts(results["b"]) == [("replica-1", 20.0), ("replica-2", 20.0)]
    granted = {record.time_s: (record.target_replicas, record.granted_replicas) for record in results["b"].decisions}
    assert (granted[4.0], granted[5.0], granted[19.0], granted[20.0]) == ((1, 1), (3, 1), (3, 1), (3, 3))


def test_a_draining_replica_holds_its_gpu_until_it_is_gone() -> None:
    """A's two replicas are at work when it gives one back at 10 s: B starts when that one has ended."""
    results = simulate_together(
        {
            "a": model(steps((0, 2), (10, 1)), fleet=replace(FLEET, initial_replicas=2), requests_per_s=12.0),
            "b": model(steps((0, 1), (5, 2)), requests_per_s=0.05, seed=5),
        },
        3.0,
    )
    (draining,) = [row for row in results["a"].replicas.to_pylist() if row["state"] == "draining"]
    assert draining["end_s"] > draining["start_s"] == 10.0
    assert starts(results["b"]) == [("replica-1", float(np.ceil(draining["end_s"])))]


def test_a_minimum_goes_before_what_others_would_like() -> None:
    """B's only replica dies at 9.5 s, noticed 0.7 s later; A has wanted more all along, and B's is replaced."""
    fleet = replace(FLEET, limits=ScalingLimits(1, 8), faults=(ReplicaDeath(9.5),), failure_notice_s=0.7)
    results = simulate_together(
        {
            "a": model(steps((0, 8)), requests_per_s=0.05, fleet=replace(FLEET, initial_replicas=3)),
            "b": model(steps((0, 1)), requests_per_s=0.05, seed=5, fleet=fleet),
        },
        4.0,
    )
    assert starts(results["a"]) == []
    assert starts(results["b"]) == [("replica-1", 10.2)]


def test_what_a_dead_replica_held_is_anybodys_as_soon_as_the_death_is_noticed() -> None:
    """A and B share three GPUs; A has two of two, B one of eight, and the larger unmet share when one of A's dies."""
    results = simulate_together(
        {
            "a": model(
                steps((0, 2)),
                requests_per_s=0.05,
                fleet=replace(FLEET, initial_replicas=2, faults=(ReplicaDeath(9.5),), failure_notice_s=0.25),
            ),
            "b": model(steps((0, 8)), requests_per_s=0.05, seed=5),
        },
        3.0,
    )
    assert starts(results["a"]) == []
    assert starts(results["b"]) == [("replica-1", 9.75)]


def test_the_same_arguments_give_the_same_tables() -> None:
    def run() -> list[pa.Table]:
        results = simulate_together(
            {
                "a": model(by_load, requests_per_s=9.0, seed=1, fleet=replace(FLEET, cold_start_sigma=0.4)),
                "b": model(by_load, requests_per_s=5.0, seed=2, gpus=2.0),
            },
            7.0,
        )
        return [table for each in results.values() for table in (each.records, each.replicas, each.engine)]

    assert all(one.equals(other) for one, other in zip(run(), run(), strict=True))


anyone = st.builds(
    lambda least, gpus, rate, seed, period, faults: model(
        by_load,
        gpus=gpus,
        requests_per_s=rate,
        seed=seed,
        fleet=replace(
            FLEET,
            limits=ScalingLimits(least, 8),
            period_s=period,
            faults=faults,
            drain_timeout_s=6.0,
            failure_notice_s=1.5,
        ),
    ),
    least=st.integers(0, 1),
    gpus=st.sampled_from([1.0, 2.0, 4.0]),
    rate=st.sampled_from([0.5, 4.0, 12.0]),
    seed=st.integers(0, 99),
    period=st.sampled_from([1.0, 2.5]),
    faults=fault_mixes(40.0),
)


@settings(max_examples=25, deadline=None)
@given(fleets=st.lists(anyone, min_size=1, max_size=3), spare_gpus=st.integers(0, 8))
def test_the_budget_is_kept_at_every_instant_and_no_request_is_lost(
    fleets: list[SharingModel], spare_gpus: int
) -> None:
    models = {str(place): each for place, each in enumerate(fleets)}
    budget = sum(each.gpus_per_replica for each in fleets) + spare_gpus
    results = simulate_together(models, budget)
    instants = {row["start_s"] for result in results.values() for row in result.replicas.to_pylist()}
    assert all(held(results, models, at_s) <= budget for at_s in instants)
    for name, each in models.items():
        records = results[name].records
        assert len(records) == len(each.trace)
        assert records["status"].null_count == 0
