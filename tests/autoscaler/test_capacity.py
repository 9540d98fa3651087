"""The capacity of a replica: by hand, against the engine itself, and against what users would then have met."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_fleets import ONE_AT_A_TIME

from autoscaler.capacity import Binding, Capacity, replica_capacity
from autoscaler.interface import HardwareProfile, Slo
from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.engine import EngineStepper
from loadgen.errors import InputError

A100 = load_hardware("a100-llama-2-13b")
CHAT = Slo(ttft_s=2.0, tpot_s=0.2, deadline_s=30.0)
NO_LIMIT = Slo(ttft_s=1e6, tpot_s=1e6, deadline_s=1e6)
Lengths = NDArray[np.int64]

# A step takes 10 ms, whatever is in it, and a prefill nothing more: rates that can be worked out in the head.
TEN_MS = replace(
    ONE_AT_A_TIME,
    kv_cache_tokens=100_000,
    block_tokens=16,
    max_sequences=256,
    max_batched_tokens=2048,
    max_model_tokens=4096,
)


def varied_lengths(rng: np.random.Generator, requests: int) -> tuple[Lengths, Lengths]:
    """Prompts and outputs as spread as those of real conversations."""
    prompts = np.clip(rng.lognormal(np.log(800), 0.8, requests), 1, 3000).astype(np.int64)
    return prompts, np.clip(rng.geometric(1 / 211, requests), 1, 1000)


def test_a_step_of_ten_ms_makes_a_hundred_tokens_a_second_and_sequence() -> None:
    capacity = replica_capacity(TEN_MS, 100, 101, NO_LIMIT, max_ongoing_requests=50, utilisation=1.0)
    assert capacity.binding is Binding.MAX_ONGOING_REQUESTS
    assert capacity.full.tpot_s == pytest.approx(0.01)
    # b decode for 100 steps and one more prefills for a step: b + b / 100 = 50 in progress, b / 1 s completions.
    assert capacity.full.sequences == pytest.approx(50 / 1.01)
    assert capacity.requests_per_s == pytest.approx(50 / 1.01)
    assert capacity.full.in_progress == pytest.approx(50)
    assert capacity.full.ttft_s == pytest.approx(0.015), "half of the step under way, then its own"


def test_the_worked_example_of_the_docstring() -> None:
    capacity = replica_capacity(A100, 1138, 211, CHAT, max_ongoing_requests=31, utilisation=1.0)
    assert capacity.full.requests_per_s == pytest.approx(2.6, abs=0.05)
    assert capacity.full.prefill_fraction == pytest.approx(0.26, abs=0.01)


@pytest.mark.parametrize(
    ("hardware", "slo", "ongoing", "lengths", "binding"),
    [
        (A100, CHAT, 16, (1138, 211), Binding.MAX_ONGOING_REQUESTS),
        (A100, CHAT, 200, (1138, 211), Binding.KV_CACHE),
        (A100, Slo(2.0, 0.05, 30.0), 200, (1138, 211), Binding.TPOT),
        (A100, Slo(0.15, 0.2, 30.0), 200, (1138, 211), Binding.TTFT),
        (replace(A100, max_sequences=20), CHAT, 200, (1138, 211), Binding.MAX_SEQUENCES),
        (TEN_MS, NO_LIMIT, 4000, (2000, 2), Binding.COMPUTE),
    ],
    ids=lambda value: value.value if isinstance(value, Binding) else "",
)
def test_the_limit_that_binds_is_named(
    hardware: HardwareProfile, slo: Slo, ongoing: int, lengths: tuple[int, int], binding: Binding
) -> None:
    capacity = replica_capacity(hardware, *lengths, slo, ongoing)
    assert capacity.binding is binding
    assert capacity.requests_per_s == pytest.approx(0.85 * capacity.full.requests_per_s)


def test_lengths_that_vary_hold_more_of_the_cache_than_their_mean() -> None:
    prompts, outputs = varied_lengths(np.random.default_rng(3), 4000)
    spread = replica_capacity(A100, prompts, outputs, CHAT, 200)
    mean = replica_capacity(A100, prompts.mean(), outputs.mean(), CHAT, 200)
    assert spread.binding is mean.binding is Binding.KV_CACHE
    assert spread.full.sequences < 0.95 * mean.full.sequences


def test_a_request_that_breaks_the_slo_alone_is_an_error_with_the_numbers() -> None:
    with pytest.raises(InputError, match=r"hardware 'a100-llama-2-13b': .* limit 'tpot' \(TPOT 0\.02\d* s of 0\.01"):
        replica_capacity(A100, 1138, 211, Slo(2.0, 0.01, 30.0), 32)
    with pytest.raises(InputError, match="limit 'ttft'"):
        replica_capacity(A100, 1138, 211, Slo(0.05, 0.2, 30.0), 32)


@pytest.mark.parametrize("lengths", [([], []), ([10, 20], [10])])
def test_lengths_that_do_not_fit_together_are_an_error(lengths: tuple[list[int], list[int]]) -> None:
    with pytest.raises(InputError, match=r"prompt and .* output lengths; want as many, and some"):
        replica_capacity(A100, *lengths, CHAT, 32)


@given(
    prompt=st.integers(1, 2000),
    output=st.integers(50, 1500),
    ongoing=st.integers(1, 300),
    tpot_s=st.floats(0.04, 1.0),
    longer=st.integers(0, 500),
)
def test_longer_requests_and_tighter_limits_never_raise_the_capacity(
    prompt: int, output: int, ongoing: int, tpot_s: float, longer: int
) -> None:
    # Of answers of a few tokens it isn't so: most steps carry a prompt, beside which each decode costs more than alone,
    # so that fewer at a time get through faster.
    def rate(**changed: float) -> float:
        values = {"prompt": prompt, "output": output, "ongoing": ongoing, "tpot_s": tpot_s} | changed
        slo = Slo(5.0, float(values["tpot_s"]), 60.0)
        return replica_capacity(A100, values["prompt"], values["output"], slo, int(values["ongoing"])).requests_per_s

    base = rate() * (1 + 1e-9)
    assert 0 < rate(prompt=prompt + longer) <= base
    assert 0 < rate(output=output + longer) <= base
    assert 0 < rate(ongoing=max(1, ongoing - longer)) <= base
    assert 0 < rate(tpot_s=max(0.04, tpot_s / 2)) <= base


def engine_attainment(capacity: Capacity, load: float, slo: Slo, ongoing: int, seed: int) -> tuple[float, float]:
    """Share of requests that one engine serves within the SLO at `load` x capacity, and its completions per second."""
    rng = np.random.default_rng(seed)
    prompts, outputs = varied_lengths(rng, 1200)
    arrival_s = np.cumsum(rng.exponential(1 / (load * capacity.requests_per_s), len(prompts)))
    engine, queue = EngineStepper(A100), deque(range(len(prompts)))
    first_s, last_s, now_s = np.zeros(len(prompts)), np.zeros(len(prompts)), 0.0
    while queue or engine.running + engine.waiting:
        while queue and arrival_s[queue[0]] <= now_s and engine.running + engine.waiting < ongoing:
            request = queue.popleft()
            engine.add(request, int(prompts[request]), int(outputs[request]))
        step = engine.step()
        if step is None:
            now_s = float(arrival_s[queue[0]])
            continue
        now_s += step.duration_s
        for request, tokens in step.tokens:
            if tokens == 1:
                first_s[request] = now_s
        last_s[step.finished] = now_s
    tpot_s = (last_s - first_s) / np.maximum(outputs - 1, 1)
    met = (first_s - arrival_s <= slo.ttft_s) & (tpot_s <= slo.tpot_s)
    return float(met.mean()), len(prompts) / now_s


@pytest.mark.parametrize(
    ("slo", "ongoing", "binding"),
    [
        (CHAT, 32, Binding.MAX_ONGOING_REQUESTS),
        (CHAT, 128, Binding.KV_CACHE),
        (Slo(2.0, 0.05, 30.0), 64, Binding.TPOT),
    ],
    ids=["ongoing", "kv", "tpot"],
)
def test_the_engine_meets_the_slo_below_its_capacity_and_collapses_above(
    slo: Slo, ongoing: int, binding: Binding
) -> None:
    capacity = replica_capacity(A100, *varied_lengths(np.random.default_rng(1), 4000), slo, ongoing)
    assert capacity.binding is binding
    below, _ = engine_attainment(capacity, 0.8, slo, ongoing, seed=2)
    above, _ = engine_attainment(capacity, 1.3, slo, ongoing, seed=2)
    assert below > 0.95
    assert above < 0.5


def test_an_overloaded_engine_completes_what_the_analysis_says() -> None:
    capacity = replica_capacity(A100, *varied_lengths(np.random.default_rng(1), 4000), CHAT, 32)
    _, completed_per_s = engine_attainment(capacity, 3.0, CHAT, 32, seed=2)
    assert completed_per_s == pytest.approx(capacity.full.requests_per_s, rel=0.08)
