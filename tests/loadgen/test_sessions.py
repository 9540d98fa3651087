"""Conversations keep their order, wait for the answer, and carry their history."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.sessions import Sessions, add_history, draw_turn_arrivals, draw_turns
from loadgen.strict_config import parse

TWO_S = {"distribution": "constant", "value": 2}


def sessions(**keys: Any) -> Sessions:
    plain = {"turns": {"distribution": "constant", "value": 3}, "think_s": TWO_S, "max_prompt_tokens": 1000}
    return parse(Sessions, {**plain, **keys}, "model.yaml")


def test_a_turn_comes_when_the_answer_before_it_is_given_and_thought_about() -> None:
    arrival_s = draw_turn_arrivals(
        sessions(answer_s_per_token=0.1),
        np.array([0.0, 100.0]),
        np.array([0, 0, 0, 1, 1]),
        np.array([10, 30, 99, 0, 5], dtype=np.int32),
        np.random.default_rng(0),
    )
    np.testing.assert_allclose(arrival_s, [0, 1 + 2, 1 + 2 + 3 + 2, 100, 100 + 2])


def test_a_prompt_holds_the_prompts_and_answers_before_it_up_to_the_longest() -> None:
    prompts = add_history(
        np.array([0, 0, 0, 1, 1]),
        np.array([10, 20, 30, 1, 2], dtype=np.int32),
        np.array([5, 0, 9, 7, 7], dtype=np.int32),
        max_prompt_tokens=60,
    )
    assert prompts.tolist() == [10, 10 + 5 + 20, 60, 1, 1 + 7 + 2]


def test_the_number_of_turns_follows_its_distribution() -> None:
    asked = sessions(turns={"distribution": "geometric", "mean": 4, "min": 1, "max": 50})
    turns = np.bincount(draw_turns(asked, 20_000, np.random.default_rng(0)))
    assert turns.min() == 1
    assert turns.mean() == pytest.approx(4, rel=0.03)


def test_pauses_are_lognormal_up_to_the_longest() -> None:
    asked = sessions(think_s={"distribution": "lognormal", "median": 60, "sigma": 1.2, "max": 3600})
    session = np.repeat(np.arange(50_000), 2)
    arrival_s = draw_turn_arrivals(
        asked, np.zeros(50_000), session, np.ones(100_000, dtype=np.int32), np.random.default_rng(0)
    )
    pauses_s = arrival_s[1::2]
    assert np.median(pauses_s) == pytest.approx(60, rel=0.03)
    assert np.log(pauses_s).std() == pytest.approx(1.2, rel=0.02)
    assert 1000 < pauses_s.max() <= 3600


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 2000), st.integers(0, 2**32))
def test_every_history_agrees_with_one_turn_after_the_other(turns: list[int], longest: int, seed: int) -> None:
    session = np.repeat(np.arange(len(turns)), turns)
    rng = np.random.default_rng(seed)
    prompts, outputs = (rng.integers(0, 100, len(session)).astype(np.int32) for _ in range(2))
    told, expected = 0, []
    for row, number in enumerate(session):
        if row == 0 or session[row - 1] != number:
            told = 0
        told += int(prompts[row])
        expected.append(min(told, longest))
        told += int(outputs[row])
    assert add_history(session, prompts, outputs, longest).tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_prompt_tokens": None}, "give max_prompt_tokens, the most that the model reads, or set with_history"),
        ({"think_s": {"distribution": "lognormal", "median": 1e9, "sigma": 0.1, "max": 9}}, "leaves nothing up to 9"),
        (
            {"think_s": {"distribution": "constant", "seconds": 9}},
            "unknown key 'think_s.seconds'; .*distribution, value",
        ),
        ({"think_s": {"distribution": "gamma"}}, "'think_s': .*'constant', 'lognormal'"),
    ],
)
def test_impossible_sessions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^model.yaml: .*{message}"):
        sessions(**change)
