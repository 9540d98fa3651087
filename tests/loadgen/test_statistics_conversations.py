"""Conversations are told apart by their session, and described turn by turn."""

import numpy as np
import pytest

from loadgen.statistics.conversations import describe_conversations
from loadgen.trace import Trace, make_trace


def trace_of(session: list[int], arrival_s: list[float], prompt_tokens: list[int]) -> Trace:
    return make_trace("t", arrival_s, prompt_tokens, np.ones(len(session), dtype=int), duration_s=1e6, session=session)


def test_turns_intervals_and_growth_are_those_of_the_sessions() -> None:
    found = describe_conversations(
        trace_of([7, 3, 7, 9, 3, 7], [0.0, 10.0, 40.0, 50.0, 70.0, 200.0], [100, 50, 180, 10, 40, 260])
    )
    assert found is not None
    assert found.sessions == 3
    assert found.multi_turn_fraction == pytest.approx(2 / 3)
    assert found.mean_turns == 2.0
    assert (found.turns.tolist(), found.sessions_by_turns.tolist()) == ([1, 2, 3], [1, 1, 1])
    assert found.interval_quantiles_s["p50"] == 60.0, "of 40, 160 and 60 s"
    assert found.intervals_s.counts.sum() == 3
    assert found.prompt_change_tokens == 80.0, "of 80, 80 and -10"
    assert found.growing_fraction == pytest.approx(2 / 3)
    assert found.mean_prompt_by_turn.tolist() == [pytest.approx(160 / 3)]


def test_the_mean_prompt_grows_turn_by_turn_as_far_as_ten_sessions_reach() -> None:
    sessions = [session for turn in range(4) for session in range(12 if turn < 3 else 9)]
    turns = [turn for turn in range(4) for _ in range(12 if turn < 3 else 9)]
    found = describe_conversations(trace_of(sessions, [float(i) for i in range(45)], [100 * (t + 1) for t in turns]))
    assert found is not None
    assert found.mean_prompt_by_turn.tolist() == [100.0, 200.0, 300.0]


def test_requests_that_are_each_a_session_are_no_conversations() -> None:
    assert describe_conversations(trace_of([1, 2, 3], [0, 1, 2], [1, 1, 1])) is None
    assert describe_conversations(trace_of([9, 2, 5], [0, 1, 2], [1, 1, 1])) is None
    assert describe_conversations(trace_of([], [], [])) is None
