"""The engine kernel with a prefix cache: schedules worked out by hand, and what must hold in every step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import EVERY_TERM

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.cost_model import step_duration_s
from autoscaler.simulator.engine import EngineStep, EngineStepper
from autoscaler.simulator.prefix_cache_kernel import mixed
from autoscaler.simulator.prompt_texts import prompt_texts
from loadgen.prefix import PrefixBlocks

HARDWARE = replace(EVERY_TERM, kv_cache_tokens=4 * 41, block_tokens=4, max_model_tokens=128)


def engine_with(hardware: HardwareProfile, text_block_tokens: int, *prompts: list[int]) -> EngineStepper:
    """An engine with a prefix cache; request i's prompt begins with the recorded blocks prompts[i]."""
    first = np.cumsum([0] + [len(blocks) for blocks in prompts])
    blocks = np.array([number for prompt in prompts for number in prompt], np.int64)
    return EngineStepper(hardware, 4, prompt_texts(PrefixBlocks(text_block_tokens, first, blocks)))


def next_step(engine: EngineStepper) -> EngineStep:
    """The next step, which must be there, with the engine's invariants checked after it."""
    step = engine.step()
    engine.check()
    assert step is not None
    return step


def prefill_of(engine: EngineStepper, request: int, prompt_tokens: int) -> float:
    """How long the only step of a request for one token takes."""
    engine.add(request, prompt_tokens, 1)
    return next_step(engine).duration_s


def test_a_prompt_that_begins_like_an_earlier_one_is_computed_from_where_they_part() -> None:
    engine = engine_with(HARDWARE, 8, [5, 6], [5, 7], [8, 6])
    assert prefill_of(engine, 0, 16) == step_duration_s(HARDWARE, ((16, 0),))
    assert prefill_of(engine, 1, 16) == step_duration_s(HARDWARE, ((8, 8),))
    assert prefill_of(engine, 2, 16) == step_duration_s(HARDWARE, ((16, 0),)), "block 6 comes after another text here"
    assert engine.kv_cache_fraction == 0.0
    assert engine.found_tokens == 8


def test_of_a_prompt_that_is_cached_whole_the_last_block_is_computed_again() -> None:
    engine = engine_with(HARDWARE, 8, [5, 6], [5, 6], [5, 6])
    prefill_of(engine, 0, 16)
    assert prefill_of(engine, 1, 16) == step_duration_s(HARDWARE, ((4, 12),))
    assert prefill_of(engine, 2, 15) == step_duration_s(HARDWARE, ((3, 12),))


def test_requests_that_run_together_share_blocks_from_the_step_that_computes_them() -> None:
    engine = engine_with(HARDWARE, 8, [5, 6], [5, 6])
    engine.add(0, 17, 2)
    engine.add(1, 17, 2)
    assert next_step(engine).duration_s == step_duration_s(HARDWARE, ((17, 0), (1, 16)))
    assert engine.kv_cache_fraction == pytest.approx((4 + 1 + 1) / 40)
    engine.cancel(0)
    engine.check()
    assert engine.kv_cache_fraction == pytest.approx(5 / 40)


def test_prompts_without_recorded_blocks_share_nothing() -> None:
    engine = engine_with(HARDWARE, 8, [], [])
    prefill_of(engine, 0, 16)
    assert prefill_of(engine, 1, 16) == step_duration_s(HARDWARE, ((16, 0),))


def test_the_blocks_let_go_first_are_given_away_first_and_a_prompts_last_ones_before_its_first() -> None:
    engine = engine_with(replace(HARDWARE, kv_cache_tokens=4 * 13), 4, [1, 2, 3, 4], [5, 6, 7, 8], [], [1, 2, 3, 4])
    prefill_of(engine, 0, 16)
    prefill_of(engine, 1, 16)
    prefill_of(engine, 2, 24)  # 4 blocks were never used; it takes two of request 0, its last ones
    assert prefill_of(engine, 3, 16) == step_duration_s(HARDWARE, ((8, 8),))


def test_a_preempted_request_finds_the_blocks_that_nobody_took_its_output_among_them() -> None:
    tight = replace(HARDWARE, kv_cache_tokens=20, max_model_tokens=16)
    engine = engine_with(tight, 4)
    engine.add(1, prompt_tokens=4, output_tokens=8)
    engine.add(2, prompt_tokens=4, output_tokens=8)
    for _ in range(5):
        next_step(engine)
    assert next_step(engine).preempted == [
        2
    ]  # 2 blocks, full; request 1 takes the one with its output for its ninth token
    next_step(engine)
    assert next_step(engine).finished == [1]
    # 9 tokens are known; its first block is there still
    assert next_step(engine).duration_s == step_duration_s(tight, ((5, 4),))


def test_hashes_do_not_collide_and_are_the_same_compiled() -> None:
    # 10^6 of 62 bits at random would have a pair in common once in ten million times
    texts = prompt_texts(PrefixBlocks(16, np.arange(0, 10**6 + 1, 1000), np.arange(1000).repeat(1000)))
    alone = prompt_texts(PrefixBlocks(16, np.arange(10**6 + 1), np.arange(10**6)))
    assert len(np.unique(alone.text_hashes)) == 10**6
    assert alone.text_hashes[:500].tolist() == [mixed(1, number) for number in range(500)]
    assert alone.text_hashes.min() > 0
    below = np.bincount(alone.text_hashes & 1023, minlength=1024)  # chi-squared of 1023 degrees of freedom
    assert ((below - 10**6 / 1024) ** 2 / (10**6 / 1024)).sum() < 1300
    assert len(np.unique(texts.text_hashes)) == 10**6


requests = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 24), st.lists(st.sampled_from([0, 0, 1]), max_size=10)),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(
    requests=requests,
    text_block_tokens=st.sampled_from([3, 4, 8]),
    blocks=st.integers(16, 40),
    sequences=st.integers(1, 6),
    budget=st.integers(1, 48),
    cancelled=st.sets(st.integers(0, 13), max_size=3),
)
def test_blocks_add_up_in_every_step_and_each_request_gets_its_tokens_once(
    requests: list[tuple[int, int, list[int]]],
    text_block_tokens: int,
    blocks: int,
    sequences: int,
    budget: int,
    cancelled: set[int],
) -> None:
    hardware = replace(
        HARDWARE,
        kv_cache_tokens=4 * (blocks + 1),
        max_sequences=sequences,
        max_batched_tokens=budget,
        max_model_tokens=64,
    )
    engine = engine_with(hardware, text_block_tokens, *(path for _, _, path in requests))
    received: dict[int, list[int]] = {number: [] for number in range(len(requests))}

    def step() -> None:
        for request, tokens in next_step(engine).tokens:
            received[request].append(tokens)

    for number, (prompt_tokens, output_tokens, _) in enumerate(requests):
        engine.add(number, prompt_tokens, output_tokens)
        if number % 2:
            step()
    for number in cancelled:
        engine.cancel(number)
        engine.check()
    while engine.running + engine.waiting > 0:
        step()
    for number, (_, output_tokens, _) in enumerate(requests):
        if number not in cancelled:
            assert received[number] == list(range(1, output_tokens + 1))
    assert engine.kv_cache_fraction == 0.0
