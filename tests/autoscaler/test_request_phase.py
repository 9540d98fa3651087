"""In which phase a simulated request fails, told as stories in which each step of an engine takes a second."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from small_engines import TOKENS_AND_SEQUENCES

from autoscaler.interface import (
    ClusterSnapshot,
    HardwareProfile,
    Priority,
    ScalingDecision,
    ScalingLimits,
    ServiceClass,
    Slo,
)
from autoscaler.simulator.engine import EngineStepper
from autoscaler.simulator.faults import Fault, ReplicaDeath
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.run import simulate
from loadgen.records import Phase
from loadgen.trace import Service, make_trace

SECONDS = replace(TOKENS_AND_SEQUENCES, fixed_s=1.0, token_s=0.0, sequence_s=0.0)
ONE_AT_A_TIME = replace(SECONDS, max_sequences=1)
FOUR_TOKENS_A_STEP = replace(SECONDS, max_batched_tokens=4)
SEVEN_BLOCKS = replace(SECONDS, kv_cache_tokens=8 * 16, block_tokens=16, max_model_tokens=112)


def phases(
    prompts: Sequence[int],
    hardware: HardwareProfile = SECONDS,
    *faults: Fault,
    targets: Sequence[tuple[float, int]] = ((0.0, 1),),
    first_service: Service = Service.CONVERSATION,
    **changes: object,
) -> list[str | None]:
    """The phases of requests that come at instant 1 one after the other, each of 60 output tokens and for 10 s.

    One of `first_service` api has the time that it needs.
    """

    class Told:
        def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
            return ScalingDecision([to for at_s, to in targets if at_s <= cluster.now_s][-1], "told")

    fleet = FleetConfig(
        hardware=hardware,
        limits=ScalingLimits(0, 2),
        initial_replicas=1,
        cold_start_s=100.0,
        max_ongoing_requests=8,
        services={
            "conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 10.0)),
            "api": ServiceClass(Priority.BATCH, Slo(2.0, 0.2, 100.0)),
        },
        faults=faults,
    )
    arrival_s = 1.0 + 0.01 * np.arange(len(prompts))
    service = np.array([first_service, *[Service.CONVERSATION] * (len(prompts) - 1)])
    outputs = np.full(len(prompts), 60)
    trace = make_trace("story", arrival_s, prompts, outputs, duration_s=30.0, service=service)
    fleet = replace(fleet, **changes)  # type: ignore[arg-type]
    records = simulate(trace, Told(), fleet, rng=np.random.default_rng(0)).records
    return [None if phase is None else str(phase) for phase in records["phase"].to_pylist()]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (lambda: phases([10]), ["decode"]),
        (lambda: phases([10, 10], ONE_AT_A_TIME), ["decode", "engine_queue"]),
        (lambda: phases([50], FOUR_TOKENS_A_STEP), ["prefill"]),
        # 47 tokens have three blocks: 48 is the first token, 49 takes a fourth; the fourth of the second is not there.
        (lambda: phases([47, 47], SEVEN_BLOCKS), ["decode", "preemption"]),
        (lambda: phases([10, 10], first_service=Service.API, max_ongoing_requests=1), [None, "router_queue"]),
        (lambda: phases([10, 10], max_ongoing_requests=1, max_queued_requests=0), ["decode", "router_queue"]),
        (lambda: phases([10], initial_replicas=0), ["cold_start"]),
        (lambda: phases([10], SECONDS, ReplicaDeath(5.0)), ["replica_lost"]),
        (lambda: phases([10], targets=((0.0, 1), (3.0, 0)), drain_timeout_s=2.0), ["drained"]),
        (lambda: phases([10_000]), [None]),
    ],
    ids=["decode", "engine queue", "prefill", "preemption", "router queue", "refused", "cold start", "death", "drained",
         "too long"],
)  # fmt: skip
def test_a_request_fails_where_it_was(told, expected) -> None:  # type: ignore[no-untyped-def]
    assert told() == expected


def test_a_request_that_ended_ok_has_no_phase() -> None:
    services = {"conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 100.0))}
    assert phases([10], services=services) == [None]


def test_an_engine_that_is_asked_after_a_step_says_where_its_requests_were_in_it() -> None:
    """One prompt of two steps, one that has no place: the answer begins in the third step."""
    engine = EngineStepper(replace(FOUR_TOKENS_A_STEP, max_sequences=1))
    engine.add(0, prompt_tokens=8, output_tokens=3)
    engine.add(1, prompt_tokens=8, output_tokens=3)
    assert [engine.phase(request) for request in (0, 1)] == [Phase.ENGINE_QUEUE] * 2
    seen = []
    for _ in range(4):
        engine.step()
        seen.append((engine.phase(0), engine.phase(1)))
    assert [phase for phase, _ in seen] == [Phase.PREFILL, Phase.PREFILL, Phase.DECODE, None], "it has all after four"
    assert [phase for _, phase in seen] == [Phase.ENGINE_QUEUE] * 4
