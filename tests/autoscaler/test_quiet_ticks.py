"""Passing quiet control periods in compiled code gives what asking the policy each time gives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fault_mixes import fault_mixes
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import TOKENS_AND_SEQUENCES

from autoscaler.interface import (
    ClusterSnapshot,
    Policy,
    Priority,
    ScalingDecision,
    ScalingLimits,
    ServiceClass,
    Slo,
)
from autoscaler.policies.ray_default import RayDefault
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import SimulationResult
from autoscaler.simulator.run import simulate
from loadgen.trace import Trace, make_trace

HARDWARE = replace(TOKENS_AND_SEQUENCES, mixed_sequence_s=0.0002, mixed_kv_token_s=0.00001)
FLEET = FleetConfig(
    hardware=HARDWARE,
    limits=ScalingLimits(0, 5),
    initial_replicas=1,
    cold_start_s=7.3,
    cold_start_sigma=0.2,
    max_ongoing_requests=8,
    services={
        "conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 30.0)),
        "api": ServiceClass(Priority.BATCH, Slo(60.0, 0.5, 300.0)),
    },
    settle_s=40.0,
)


class Asked:
    """A policy that the simulator does not know: it is asked in each period."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.times = 0

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        self.times += 1
        return self._policy.decide(cluster)


def bursts_and_silence(seed: int, seconds: float) -> Trace:
    """Few requests at first, a burst, silence, a second burst."""
    rng = np.random.default_rng(seed)
    arrivals_s = np.sort(
        np.concatenate(
            [
                rng.uniform(0.0, 0.2 * seconds, 8),
                rng.uniform(0.2 * seconds, 0.3 * seconds, rng.integers(1, 200)),
                rng.uniform(0.7 * seconds, 0.75 * seconds, rng.integers(1, 100)),
            ]
        )
    )
    count = len(arrivals_s)
    return make_trace(
        "bursts",
        arrivals_s,
        rng.integers(1, 300, count),
        rng.integers(1, 80, count),
        duration_s=seconds,
        service=rng.integers(0, 2, count),
    )


def run(trace: Trace, policy: Policy, fleet: FleetConfig, record_interval_s: float) -> SimulationResult:
    return simulate(trace, policy, fleet, rng=np.random.default_rng(3), record_interval_s=record_interval_s)


def tables(result: SimulationResult) -> list[Any]:
    return [
        result.records.to_pydict(),
        result.replicas.to_pydict(),
        result.engine.to_pydict(),
        [record.as_json() for record in result.decisions],
        result.end_s,
    ]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    period_s=st.sampled_from([0.5, 1.0, 3.0]),
    metrics_interval_s=st.sampled_from([0.7, 1.0, 5.0]),
    look_back_period_s=st.sampled_from([4.0, 30.0, 100.0]),
    delays_s=st.sampled_from([(0.0, 0.0), (5.0, 20.0), (30.0, 60.0)]),
    factor=st.sampled_from([0.3, 1.0, 1.5]),
    faults=st.one_of(st.just(()), fault_mixes(400.0)),
)
def test_the_compiled_rule_and_the_policy_give_the_same_tables(
    seed: int,
    period_s: float,
    metrics_interval_s: float,
    look_back_period_s: float,
    delays_s: tuple[float, float],
    factor: float,
    faults: tuple[Any, ...],
) -> None:
    fleet = replace(
        FLEET,
        period_s=period_s,
        metrics_interval_s=metrics_interval_s,
        faults=faults,
        failure_notice_s=2.0,
        replicas_per_node=2,
    )
    trace = bursts_and_silence(seed, 400.0)

    def policy() -> RayDefault:
        return RayDefault(
            target_ongoing_requests=3.0,
            upscale_delay_s=delays_s[0],
            downscale_delay_s=delays_s[1],
            upscaling_factor=factor,
            downscaling_factor=factor,
            look_back_period_s=look_back_period_s,
        )

    asked = Asked(policy())
    assert tables(run(trace, policy(), fleet, 20.0)) == tables(run(trace, asked, fleet, 20.0))
    assert asked.times > 100


def test_what_happens_does_not_depend_on_how_often_it_is_written_down() -> None:
    trace = bursts_and_silence(7, 400.0)
    policies = [RayDefault(upscale_delay_s=2.0, downscale_delay_s=15.0, look_back_period_s=5.0) for _ in range(2)]
    each, rarely = (
        run(trace, policy, FLEET, interval_s) for policy, interval_s in zip(policies, (0.0, 60.0), strict=True)
    )
    assert each.records.equals(rarely.records)
    assert each.replicas.equals(rarely.replicas)
    assert len(each.decisions) > 400
    assert len(rarely.decisions) < 60
    kept = {record.time_s: record for record in each.decisions}
    assert all(record == kept[record.time_s] for record in rarely.decisions)
    changes = [
        later.time_s
        for before, later in zip(each.decisions[:-1], each.decisions[1:], strict=True)
        if later.target_replicas != before.target_replicas
    ]
    assert len(changes) >= 3
    assert set(changes) <= {record.time_s for record in rarely.decisions}
    for result in (each, rarely):
        output_tokens = pa.compute.sum(result.engine["output_tokens"]).as_py()
        assert output_tokens == pa.compute.sum(result.records["output_tokens"]).as_py()


def test_the_policy_is_asked_for_all_that_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_s: list[float] = []
    decide = RayDefault.decide

    def counted(self: RayDefault, cluster: ClusterSnapshot) -> ScalingDecision:
        asked_s.append(cluster.now_s)
        return decide(self, cluster)

    monkeypatch.setattr(RayDefault, "decide", counted)
    result = run(bursts_and_silence(1, 2000.0), RayDefault(), FLEET, 100.0)
    assert [record.time_s for record in result.decisions] == sorted(set(asked_s) & {r.time_s for r in result.decisions})
    assert len(asked_s) < 100, "of more than 2,000 periods"
