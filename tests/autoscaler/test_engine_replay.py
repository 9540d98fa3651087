"""Replay on one engine: by hand, and against the engine asked step by step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import ONE_AT_A_TIME, config, fleet_of, trace

from autoscaler.interface import HardwareProfile, ScalingLimits
from autoscaler.simulator.engine import EngineStepper
from autoscaler.simulator.engine_replay import replay_arrivals, replay_concurrent

HARDWARE = HardwareProfile(
    name="test",
    source="made for tests",
    fixed_s=0.01,
    memory_s=0.0,
    memory_token_s=0.0,
    token_s=0.0001,
    sequence_s=0.001,
    kv_token_s=0.00001,
    prefill_context_s=0.0,
    mixed_sequence_s=0.002,
    mixed_kv_token_s=0.00003,
    host_s=0.002,
    kv_cache_tokens=1024,
    block_tokens=16,
    max_sequences=4,
    max_batched_tokens=128,
    max_model_tokens=512,
)


def test_a_request_alone_takes_its_prefill_and_then_a_step_a_token() -> None:
    times = replay_arrivals(HARDWARE, np.array([2.0]), np.array([100]), np.array([3]))
    # prefill: 0.01 + 100 * 0.0001 + 0.002; then decodes that attend to 101 and 102 tokens, 0.0131 + K * 0.00001 each
    assert times.ttft_s == pytest.approx([0.022])
    assert times.e2e_s == pytest.approx([0.022 + 2 * 0.0131 + 203 * 0.00001])
    assert times.tpot_s(np.array([3])) == pytest.approx([0.0131 + 101.5 * 0.00001])


def test_a_request_that_comes_during_a_step_waits_for_its_end() -> None:
    times = replay_arrivals(HARDWARE, np.array([0.0, 0.001]), np.array([100, 10]), np.array([1, 1]))
    assert times.first_token_s == pytest.approx([0.022, 0.022 + 0.013])


def test_an_idle_engine_begins_with_the_first_of_those_that_come_at_once() -> None:
    times = replay_arrivals(HARDWARE, np.array([3.0, 3.0, 3.0]), np.array([100, 10, 20]), np.array([1, 1, 1]))
    # the others share the second step: 0.01 + 30 * 0.0001 + 0.002
    assert times.first_token_s == pytest.approx([3.022, 3.037, 3.037])


def test_what_comes_as_a_step_ends_is_too_late_for_the_one_that_begins_then() -> None:
    half_seconds = replace(ONE_AT_A_TIME, fixed_s=0.5, max_sequences=4)
    arrival_s, prompts, outputs = np.array([0.0, 0.5]), np.array([9, 9]), np.array([4, 1])
    times = replay_arrivals(half_seconds, arrival_s, prompts, outputs)
    fleet = fleet_of(trace(arrival_s, prompts, outputs), config(hardware=half_seconds))
    fleet.advance(10.0)
    assert times.first_token_s.tolist() == fleet.requests.first_token_s.tolist() == [0.5, 1.5]


# of no round numbers: sums of steps and of gaps are never equal but for rounding
gaps_s = st.lists(st.sampled_from([0.0, 0.0, 0.00137291, 0.0223171, 0.5000123]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(gaps_s=gaps_s, seed=st.integers(0, 2**32 - 1))
def test_an_engine_alone_and_a_fleet_of_one_replica_serve_the_same_requests_alike(
    gaps_s: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(gaps_s)
    prompts, outputs = rng.integers(1, 200, len(gaps_s)), rng.integers(1, 100, len(gaps_s))
    times = replay_arrivals(HARDWARE, arrival_s, prompts, outputs)
    one = config(hardware=HARDWARE, limits=ScalingLimits(1, 1), max_ongoing_requests=len(gaps_s))
    fleet = fleet_of(trace(arrival_s, prompts, outputs), one)
    fleet.advance(1e6)
    assert fleet.requests.first_token_s == pytest.approx(times.first_token_s, abs=1e-9)
    assert fleet.requests.finished_s == pytest.approx(times.finished_s, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_keeping_the_engine_filled_gives_the_times_of_going_step_by_step(seed: int, concurrency: int) -> None:
    rng = np.random.default_rng(seed)
    prompts, outputs = rng.integers(1, 200, 12), rng.integers(1, 200, 12)
    times = replay_concurrent(HARDWARE, concurrency, prompts, outputs)
    engine, now_s, sent, ended = EngineStepper(HARDWARE), 0.0, 0, 0
    sent_s, finished_s = np.zeros(12), np.zeros(12)
    while ended < 12:
        while sent < min(12, ended + concurrency):
            engine.add(sent, int(prompts[sent]), int(outputs[sent]))
            sent_s[sent] = now_s
            sent += 1
        step = engine.step()
        assert step is not None
        now_s += step.duration_s
        for request in step.finished:
            finished_s[request] = now_s
        ended += len(step.finished)
    assert times.sent_s == pytest.approx(sent_s)
    assert times.finished_s == pytest.approx(finished_s)
