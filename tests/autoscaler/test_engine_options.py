"""The engine kernel's options: schedules worked out by hand, and what must hold in every step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import EVERY_TERM
from small_fleets import services

from autoscaler.interface import HardwareProfile, Priority
from autoscaler.simulator.cost_model import step_duration_s
from autoscaler.simulator.engine import EngineStep, EngineStepper
from autoscaler.simulator.engine_options import AdmissionOrder, EngineOptions, Preemption, engine_ranks
from autoscaler.simulator.prompt_texts import prompt_texts
from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import make_trace

# 4 usable blocks of 4 tokens; a block is 4 MiB and takes 1/256 s to copy.
TIGHT = replace(EVERY_TERM, kv_cache_tokens=20, block_tokens=4, max_model_tokens=16)
COPY_S = 4 * 2**20 / 2**30
SWAP = EngineOptions(preemption=Preemption.SWAP)


def next_step(engine: EngineStepper) -> EngineStep:
    """The next step, which must be there, with the engine's invariants checked after it."""
    step = engine.step()
    engine.check()
    assert step is not None
    return step


def run_dry(engine: EngineStepper) -> list[EngineStep]:
    """All steps until there is nothing to do."""
    steps = []
    while engine.running + engine.waiting > 0:
        steps.append(next_step(engine))
        assert len(steps) < 100_000, "the engine never gets done"
    return steps


def order_of_ends(engine: EngineStepper) -> list[int]:
    return [request for step in run_dry(engine) for request in step.finished]


def test_the_lowest_rank_is_admitted_first_and_equals_in_order_of_arrival() -> None:
    engine = EngineStepper(replace(EVERY_TERM, max_sequences=1))
    for request, rank in enumerate([1.0, 0.0, 1.0, 0.0, -3.0]):
        engine.add(request, 4, 2, rank)
    assert order_of_ends(engine) == [4, 1, 3, 0, 2]


def test_the_request_of_the_highest_rank_is_preempted_wherever_it_stands() -> None:
    engine = EngineStepper(TIGHT)
    engine.add(1, 4, 8, rank=1.0)
    next_step(engine)
    engine.add(2, 4, 8, rank=0.0)
    for _ in range(4):
        next_step(engine)  # 2 blocks each: 8 tokens of request 1, 7 of request 2
    tight = next_step(engine)  # request 1, first in the list, needs a third block and gives up its own
    assert (tight.tokens, tight.preempted) == ([(2, 5)], [1])
    assert order_of_ends(engine) == [2, 1]


def test_a_request_that_gives_up_its_blocks_after_it_was_scheduled_gets_no_token_in_that_step() -> None:
    engine = EngineStepper(TIGHT)
    engine.add(1, 3, 8, rank=1.0)
    engine.add(2, 4, 8, rank=0.0)
    for _ in range(5):
        next_step(engine)  # 7 tokens of request 1 are computed, 8 of request 2
    step = next_step(engine)  # request 1's eighth fits; request 2's ninth takes its blocks
    assert (step.tokens, step.preempted) == ([(2, 6)], [1])
    assert step.duration_s == step_duration_s(TIGHT, decode_contexts=(9,))


def test_a_swapped_request_keeps_its_kv_and_the_steps_that_copy_take_longer() -> None:
    engine = EngineStepper(TIGHT, options=SWAP)
    engine.add(1, 4, 8)
    engine.add(2, 4, 8)
    for _ in range(5):
        next_step(engine)
    out = next_step(engine)
    assert (out.tokens, out.preempted) == ([(1, 6)], [2])
    assert out.duration_s == step_duration_s(TIGHT, decode_contexts=(9,)) + 2 * COPY_S
    engine.add(3, 1, 1)  # one block is free, but who is in host memory comes first
    assert next_step(engine).tokens == [(1, 7)]
    assert next_step(engine).finished == [1]
    back = next_step(engine)
    assert back.tokens == [(2, 6), (3, 1)]
    assert back.duration_s == step_duration_s(TIGHT, ((1, 0),), (9,)) + 2 * COPY_S
    assert [step.tokens for step in run_dry(engine)] == [[(2, 7)], [(2, 8)]]


def test_where_host_memory_is_full_requests_are_computed_anew() -> None:
    one_block = replace(SWAP, swap_space_gib=4 / 1024)
    engine = EngineStepper(TIGHT, options=one_block)
    engine.add(1, 4, 8)
    engine.add(2, 4, 8)
    for _ in range(5):
        next_step(engine)
    assert next_step(engine).duration_s == step_duration_s(TIGHT, decode_contexts=(9,))
    next_step(engine)
    next_step(engine)
    assert next_step(engine).duration_s == step_duration_s(TIGHT, ((9, 0),))


def test_a_cancelled_request_frees_its_host_memory() -> None:
    engine = EngineStepper(TIGHT, options=SWAP)
    engine.add(1, 4, 8)
    engine.add(2, 4, 8)
    for _ in range(6):
        next_step(engine)
    engine.cancel(2)
    engine.check()
    assert order_of_ends(engine) == [1]


def test_blocks_that_the_prefix_cache_still_has_are_not_copied_back() -> None:
    nothing_shared = prompt_texts(PrefixBlocks(4, np.zeros(4, np.int64), np.zeros(0, np.int64)))
    engine = EngineStepper(TIGHT, texts=nothing_shared, options=SWAP)
    engine.add(1, 4, 8)
    engine.add(2, 4, 8)
    for _ in range(5):
        next_step(engine)
    next_step(engine)  # request 1 takes one of request 2's two blocks
    next_step(engine)
    assert next_step(engine).finished == [1]
    assert next_step(engine).duration_s == step_duration_s(TIGHT, (), (9,)) + COPY_S


def test_an_admission_leaves_the_watermark_free_unless_nothing_runs() -> None:
    engine = EngineStepper(TIGHT, options=EngineOptions(watermark_fraction=0.2))  # 1 of 5 blocks, the null block too
    engine.add(1, 4, 2)
    engine.add(2, 9, 1)  # 3 blocks are free, it needs them all
    next_step(engine)
    assert (engine.running, engine.waiting) == (1, 1)
    assert order_of_ends(engine) == [1, 2]


def test_swap_needs_to_know_what_a_copy_takes() -> None:
    with pytest.raises(InputError, match="hardware 'every term' lacks kv_token_bytes or host_link_bytes_per_s"):
        EngineStepper(replace(TIGHT, kv_token_bytes=None), options=SWAP)


def test_predictions_are_the_true_lengths_times_an_error_of_median_one() -> None:
    outputs = np.full(20_000, 100)
    trace = make_trace("test", np.arange(20_000.0), outputs, outputs, duration_s=1e6, service=outputs * 0)
    exact = EngineOptions(order=AdmissionOrder.SHORTEST_PREDICTED)
    rng = np.random.default_rng(0)
    assert (engine_ranks(trace, services(), exact, rng) == 100.0).all()
    ratios = engine_ranks(trace, services(), replace(exact, prediction_sigma=0.5), rng) / 100.0
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)
    assert np.log(ratios).std() == pytest.approx(0.5, abs=0.01)
    assert len(engine_ranks(trace, services(), EngineOptions(), rng)) == 0
    assert EngineOptions(order=AdmissionOrder.PRIORITY).rank(Priority.INTERACTIVE, 5.0) < EngineOptions(
        order=AdmissionOrder.PRIORITY
    ).rank(Priority.BATCH, 1.0)


def engine_of(hardware: HardwareProfile, options: EngineOptions, paths: list[list[int]] | None) -> EngineStepper:
    """An engine, with a prefix cache where `paths` say what prompts begin with."""
    if paths is None:
        return EngineStepper(hardware, 4, options=options)
    first = np.cumsum([0] + [len(path) for path in paths])
    blocks = np.array([number for path in paths for number in path], np.int64)
    return EngineStepper(hardware, 4, prompt_texts(PrefixBlocks(4, first, blocks)), options)


@settings(max_examples=200, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.integers(1, 40),
            st.integers(1, 24),
            st.sampled_from([0.0, 1.0, 2.0]),
            st.lists(st.sampled_from([0, 0, 1]), max_size=10),
        ),
        min_size=1,
        max_size=14,
    ),
    blocks=st.integers(16, 40),
    sequences=st.integers(1, 6),
    budget=st.integers(1, 48),
    cancelled=st.sets(st.integers(0, 13), max_size=3),
    prefix_caching=st.booleans(),
    options=st.builds(
        EngineOptions,
        preemption=st.sampled_from(Preemption),
        swap_space_gib=st.sampled_from([0.0, 0.02, 4.0]),  # 5 blocks, or all
        watermark_fraction=st.sampled_from([0.0, 0.1, 0.5]),
    ),
)
def test_blocks_add_up_in_every_step_and_each_request_gets_its_tokens_once(
    requests: list[tuple[int, int, float, list[int]]],
    blocks: int,
    sequences: int,
    budget: int,
    cancelled: set[int],
    prefix_caching: bool,
    options: EngineOptions,
) -> None:
    hardware = replace(
        TIGHT,
        kv_cache_tokens=4 * (blocks + 1),
        max_sequences=sequences,
        max_batched_tokens=budget,
        max_model_tokens=64,
    )
    engine = engine_of(hardware, options, [path for *_, path in requests] if prefix_caching else None)
    received: dict[int, list[int]] = {number: [] for number in range(len(requests))}

    def take(step: EngineStep) -> None:
        for request, tokens in step.tokens:
            received[request].append(tokens)

    for number, (prompt_tokens, output_tokens, rank, _) in enumerate(requests):
        engine.add(number, prompt_tokens, output_tokens, rank)
        if number % 2:
            take(next_step(engine))
    for number in cancelled:
        engine.cancel(number)
        engine.check()
    for step in run_dry(engine):
        take(step)
    for number, (_, output_tokens, _, _) in enumerate(requests):
        if number not in cancelled:
            assert received[number] == list(range(1, output_tokens + 1))
    assert engine.kv_cache_fraction == 0.0
