"""Conversations of a workload model: turns, growing prompts, think times."""

import numpy as np
import pytest

from loadgen.pacing import think_times_s
from loadgen.trace import Service
from loadgen.workload import expected_requests
from tests.loadgen.small_workloads import draw, gamma, model

TALK = {
    **gamma(rate_per_s=0.5),
    "service": "conversation",
    "models": {"small": 1, "large": 1},
    "model": None,
    "sessions": {
        "turns": {"distribution": "geometric", "mean": 4, "max": 100},
        "think_s": {"distribution": "lognormal", "median": 20, "sigma": 1, "max": 300},
        "answer_s_per_token": 0.05,
        "max_prompt_tokens": 4000,
    },
}


def test_a_session_stays_with_its_model_and_its_prompts_grow_by_what_was_said() -> None:
    trace = draw(model(TALK, duration_s=20_000))
    assert len(trace) == pytest.approx(0.5 * 20_000 * 4, rel=0.06)
    for number in np.unique(trace.session)[:300]:
        rows = np.flatnonzero(trace.session == number)
        assert len(set(trace.model[rows])) == 1
        # Every turn adds a prompt of 100 tokens, every answer 100 more.
        assert trace.prompt_tokens[rows].tolist() == [min(100 + 200 * turn, 4000) for turn in range(len(rows))]
        assert np.all(np.diff(trace.arrival_s[rows]) >= 100 * 0.05)
    assert set(trace.model) == {0, 1}


def test_what_lies_between_two_turns_is_the_answers_time_and_think_time() -> None:
    think_s = {"distribution": "constant", "value": 7.0}
    trace = draw(model({**TALK, "sessions": {**TALK["sessions"], "think_s": think_s}}, {**gamma(rate_per_s=1)}))
    assert trace.elapsed_s is not None
    is_talk = trace.service == Service.CONVERSATION.value
    np.testing.assert_allclose(trace.elapsed_s[is_talk], 100 * 0.05)
    for speed in (1.0, 5.0):
        times_s = think_times_s(trace.sped_up(speed), speed)
        np.testing.assert_allclose(times_s[~np.isnan(times_s)], 7.0 / speed)
        assert np.isnan(times_s).sum() == len(np.unique(trace.session))
    assert draw(model(gamma(rate_per_s=1))).elapsed_s is None


def test_turns_after_the_end_of_the_stream_are_left_out() -> None:
    trace = draw(model({**TALK, "end_s": 500}))
    assert trace.arrival_s[-1] < 500
    assert expected_requests(model({**TALK, "end_s": 500})) == pytest.approx(0.5 * 500 * 4)
    assert len(trace) < 900


def test_sessions_of_two_streams_and_single_requests_are_told_apart() -> None:
    trace = draw(model(TALK, {**TALK, "service": "api"}, {**gamma(rate_per_s=1), "model": "batch"}))
    batch = trace.of_model("batch")
    assert len(np.unique(batch.session)) == len(batch)
    chats, calls = trace.of_service(Service.CONVERSATION), trace.of_service(Service.API)
    assert not set(chats.session) & set(calls.session)
    assert len(np.unique(chats.session)) < len(chats) / 2
