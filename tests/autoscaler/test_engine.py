"""The engine kernel: schedules worked out by hand, and what must hold in every step."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import EVERY_TERM

from autoscaler.simulator.cost_model import step_duration_s
from autoscaler.simulator.engine import EngineStep, EngineStepper
from loadgen.errors import InputError

ROOMY = EVERY_TERM
# 4 usable blocks of 4 tokens: vLLM's null block is the fifth.
TIGHT = replace(ROOMY, kv_cache_tokens=20, block_tokens=4, max_model_tokens=16)


def next_step(engine: EngineStepper) -> EngineStep:
    """The next step, which must be there, with the engine's invariants checked after it."""
    step = engine.step()
    engine.check()
    assert step is not None
    return step


def run_dry(engine: EngineStepper, most_steps: int = 100_000) -> list[EngineStep]:
    """All steps until there is nothing to do."""
    steps = []
    while engine.running + engine.waiting > 0:
        steps.append(next_step(engine))
        assert len(steps) < most_steps, "the engine never gets done"
    assert engine.step() is None
    return steps


def test_one_request_alone_takes_the_time_that_the_formula_says() -> None:
    engine = EngineStepper(ROOMY)
    engine.add(7, prompt_tokens=50, output_tokens=3)
    steps = run_dry(engine)
    assert [step.tokens for step in steps] == [[(7, 1)], [(7, 2)], [(7, 3)]]
    assert steps[-1].finished == [7]
    # the first decode attends to 50 prompt tokens and the first output token, 51; the second to 52
    expected_s = [
        step_duration_s(ROOMY, prefill_chunks=((50, 0),)),
        step_duration_s(ROOMY, decode_contexts=(51,)),
        step_duration_s(ROOMY, decode_contexts=(52,)),
    ]
    assert [step.duration_s for step in steps] == expected_s
    assert expected_s[1] == pytest.approx(0.01 + 0.005 + 0.00001 + 0.001 + 51 * 0.00001 + 0.002)


def test_a_long_prompt_is_computed_over_several_steps_and_only_the_last_brings_a_token() -> None:
    engine = EngineStepper(ROOMY)
    engine.add(1, prompt_tokens=150, output_tokens=1)
    steps = run_dry(engine)
    assert [step.tokens for step in steps] == [[], [], [(1, 1)]]
    assert [step.duration_s for step in steps] == [
        step_duration_s(ROOMY, prefill_chunks=((64, 0),)),
        step_duration_s(ROOMY, prefill_chunks=((64, 64),)),
        step_duration_s(ROOMY, prefill_chunks=((22, 128),)),
    ]


def test_a_decode_goes_on_while_another_prompt_is_computed_in_what_is_left_of_the_budget() -> None:
    engine = EngineStepper(ROOMY)
    engine.add(1, prompt_tokens=10, output_tokens=4)
    next_step(engine)
    engine.add(2, prompt_tokens=100, output_tokens=1)
    mixed, second, last = next_step(engine), next_step(engine), next_step(engine)
    assert mixed.tokens == [(1, 2)]
    assert mixed.duration_s == step_duration_s(ROOMY, ((63, 0),), (11,))  # 64 tokens less one decode
    assert second.tokens == [(1, 3), (2, 1)]
    assert second.duration_s == step_duration_s(ROOMY, ((37, 63),), (12,))
    assert (last.tokens, last.finished) == ([(1, 4)], [1])


def test_at_most_max_sequences_run_and_the_rest_waits_first_come_first_served() -> None:
    engine = EngineStepper(replace(ROOMY, max_sequences=2))
    for request in range(5):
        engine.add(request, 4, 2)
    next_step(engine)
    assert (engine.running, engine.waiting) == (2, 3)
    order = [request for step in run_dry(engine) for request in step.finished]
    assert order == [0, 1, 2, 3, 4]


def test_the_latest_request_is_preempted_and_computed_anew_where_blocks_run_out() -> None:
    engine = EngineStepper(TIGHT)
    engine.add(1, prompt_tokens=4, output_tokens=8)
    engine.add(2, prompt_tokens=4, output_tokens=8)
    assert next_step(engine).tokens == [(1, 1), (2, 1)]  # a block each
    for produced in (2, 3, 4, 5):  # tokens 5 to 8 lie in a second block each: all 4 are held
        assert next_step(engine).tokens == [(1, produced), (2, produced)]
    assert engine.kv_cache_fraction == 1.0
    tight = next_step(engine)  # token 9 of request 1 needs a third block: request 2 gives up its two
    assert (tight.tokens, tight.preempted) == ([(1, 6)], [2])
    assert tight.duration_s == step_duration_s(TIGHT, decode_contexts=(9,))
    assert (engine.running, engine.waiting, engine.kv_cache_fraction) == (1, 1, 0.75)
    # request 2 has 4 + 5 = 9 known tokens, 3 blocks; 1 is free until request 1 ends with its 8th token
    assert next_step(engine).tokens == [(1, 7)]
    assert next_step(engine).finished == [1]
    again = next_step(engine)
    assert again.tokens == [(2, 6)], "the tokens that it had are not delivered twice"
    assert again.duration_s == step_duration_s(TIGHT, prefill_chunks=((9, 0),))
    assert [step.tokens for step in run_dry(engine)] == [[(2, 7)], [(2, 8)]]


def test_a_preempted_request_goes_before_those_that_wait() -> None:
    engine = EngineStepper(replace(TIGHT, max_sequences=2))
    for request in (1, 2, 3):
        engine.add(request, 4, 8)
    order = [request for step in run_dry(engine) for request in step.finished]
    assert order == [1, 2, 3]


def test_a_request_is_admitted_only_where_its_whole_prompt_fits() -> None:
    engine = EngineStepper(replace(TIGHT, max_batched_tokens=4))
    engine.add(1, prompt_tokens=4, output_tokens=2)
    engine.add(2, prompt_tokens=15, output_tokens=1)  # its first chunk would fit beside request 1, its 4 blocks not
    next_step(engine)
    next_step(engine)
    assert (engine.running, engine.waiting) == (0, 1)
    assert run_dry(engine)[-1].finished == [2]


def test_a_cancelled_request_frees_its_blocks_at_once_running_or_waiting() -> None:
    engine = EngineStepper(replace(ROOMY, max_sequences=1))
    for request in (1, 2, 3):
        engine.add(request, 30, 5)
    next_step(engine)
    engine.cancel(2)
    engine.check()
    assert engine.kv_cache_fraction > 0
    engine.cancel(1)
    engine.check()
    assert (engine.running, engine.waiting, engine.kv_cache_fraction) == (0, 1, 0.0)
    engine.cancel(1)  # a second time changes nothing
    assert run_dry(engine)[0].tokens == [(3, 1)]


def test_a_request_that_could_never_end_is_refused() -> None:
    with pytest.raises(InputError, match=r"request 1: prompt and output are 17 tokens together, the engine takes 16"):
        EngineStepper(TIGHT).add(1, 10, 7)
    with pytest.raises(InputError, match="the engine takes 16384"):
        EngineStepper(replace(ROOMY, max_model_tokens=99_999)).add(1, 16_000, 400)


def test_the_engine_grows_with_the_requests_that_it_is_given() -> None:
    engine = EngineStepper(replace(ROOMY, max_sequences=2), capacity_requests=2)
    steps = []
    for request in range(9):
        engine.add(request, 4, 3)
        if request % 3 == 0:
            steps.append(next_step(engine))
    steps += run_dry(engine)
    assert [request for step in steps for request in step.finished] == list(range(9))


requests = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 24)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    requests=requests,
    blocks=st.integers(16, 40),
    sequences=st.integers(1, 6),
    budget=st.integers(1, 48),
    cancelled=st.sets(st.integers(0, 11), max_size=3),
)
def test_each_request_gets_its_tokens_once_and_in_order_however_tight_the_cache(
    requests: list[tuple[int, int]], blocks: int, sequences: int, budget: int, cancelled: set[int]
) -> None:
    hardware = replace(
        ROOMY,
        kv_cache_tokens=4 * (blocks + 1),
        block_tokens=4,
        max_sequences=sequences,
        max_batched_tokens=budget,
        max_model_tokens=64,
    )
    engine = EngineStepper(hardware, capacity_requests=3)
    received: dict[int, list[int]] = {number: [] for number in range(len(requests))}
    for number, (prompt_tokens, output_tokens) in enumerate(requests):
        engine.add(number, prompt_tokens, output_tokens)
        if number % 2:
            step = next_step(engine)
            for request, tokens in step.tokens:
                received[request].append(tokens)
    for number in cancelled:
        engine.cancel(number)
        engine.check()
    for step in run_dry(engine):
        assert not cancelled & {request for request, _ in step.tokens}
        for request, tokens in step.tokens:
            received[request].append(tokens)
    for number, (_, output_tokens) in enumerate(requests):
        if number not in cancelled:
            assert received[number] == list(range(1, output_tokens + 1))
    assert engine.kv_cache_fraction == 0.0
