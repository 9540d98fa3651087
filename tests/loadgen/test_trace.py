"""Traces keep their requests through cutting, speeding up and selecting; columns that do not fit are refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Service, Trace, make_trace
from tests.loadgen.small_traces import assert_same, small_trace, traces


@given(traces(), st.lists(st.floats(0, 1), max_size=5))
def test_windows_that_tile_a_trace_recompose_it(trace: Trace, cuts: list[float]) -> None:
    edges = sorted({0.0, *(cut * trace.duration_s for cut in cuts), trace.duration_s})
    windows = [trace.window(start, end) for start, end in itertools.pairwise(edges)]
    assert sum(len(window) for window in windows) == len(trace)
    assert np.isclose(sum(window.duration_s for window in windows), trace.duration_s)
    for column in ("prompt_tokens", "output_tokens", "service", "model", "session"):
        joined = np.concatenate([getattr(window, column) for window in windows])
        assert np.array_equal(joined, getattr(trace, column)), column
    joined_s = np.concatenate([window.arrival_s + edge for window, edge in zip(windows, edges, strict=False)])
    np.testing.assert_allclose(joined_s, trace.arrival_s, rtol=1e-12, atol=1e-12 * trace.duration_s)
    assert all(np.all((window.arrival_s >= 0) & (window.arrival_s < window.duration_s)) for window in windows)


@given(traces(), st.floats(1e-3, 1e6))
def test_speeding_up_keeps_every_request_and_scales_time(trace: Trace, speed: float) -> None:
    faster = trace.sped_up(speed)
    assert len(faster) == len(trace)
    assert faster.duration_s == trace.duration_s / speed
    np.testing.assert_allclose(faster.arrival_s * speed, trace.arrival_s, rtol=1e-12, atol=1e-300)
    assert np.all(faster.arrival_s < faster.duration_s)
    assert np.all(np.diff(faster.arrival_s) >= 0)


@given(traces(), st.integers(1, 2**40), st.integers(1, 2**31))
def test_capping_bounds_the_tokens_and_leaves_shorter_requests_alone(trace: Trace, prompt: int, output: int) -> None:
    capped = trace.capped(prompt, output)
    assert np.array_equal(capped.prompt_tokens, [min(int(tokens), prompt) for tokens in trace.prompt_tokens])
    assert np.array_equal(capped.output_tokens, [min(int(tokens), output) for tokens in trace.output_tokens])
    assert capped.prompt_tokens.dtype == np.int32
    assert_same(trace.capped(None, None), trace)


@given(traces())
def test_the_services_of_a_trace_add_up_to_it(trace: Trace) -> None:
    parts = [trace.of_service(service) for service in Service]
    assert sum(len(part) for part in parts) == len(trace)
    for service, part in zip(Service, parts, strict=True):
        assert np.all(part.service == service)
        assert part.duration_s == trace.duration_s


def test_a_window_copies_nothing_but_the_times() -> None:
    trace = small_trace()
    window = trace.window(0.5, 3.25)
    assert np.shares_memory(window.prompt_tokens, trace.prompt_tokens)
    assert np.shares_memory(window.session, trace.session)
    assert not np.shares_memory(window.arrival_s, trace.arrival_s)


def test_a_window_is_half_open_and_counts_from_its_start() -> None:
    window = small_trace().window(0.5, 3.25)
    assert window.arrival_s.tolist() == [0.0, 0.0]
    assert window.prompt_tokens.tolist() == [20, 0]
    assert window.duration_s == 2.75


def test_a_window_past_the_end_stops_at_the_end() -> None:
    assert small_trace().window(3.0, 1e9).duration_s == 7.0


@pytest.mark.parametrize(("start_s", "end_s"), [(5, 5), (6, 5), (-1, 5), (10, 20), (float("nan"), 5)])
def test_a_window_without_time_is_refused(start_s: float, end_s: float) -> None:
    with pytest.raises(InputError, match="trace 'small': no window from"):
        small_trace().window(start_s, end_s)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_a_speed_that_is_no_positive_number_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match="want a positive number"):
        small_trace().sped_up(speed)


def test_a_cap_below_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="max_output_tokens is 0, want at least 1"):
        small_trace().capped(None, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival_s": [0.0, 3.0, 1.0]}, r"arrival_s goes backward at row 2 \(3.0 s, then 1.0 s\); sort"),
        ({"arrival_s": [0.0, 3.0, 10.0]}, "arrival_s is 10.0 s at row 2, want 0 to below the duration of 10.0 s"),
        ({"arrival_s": [-1.0, 3.0, 4.0]}, "arrival_s is -1.0 s at row 0"),
        ({"arrival_s": [0.0, float("nan"), 4.0]}, "arrival_s is nan s at row 1"),
        ({"prompt_tokens": [1, -2, 3]}, "prompt_tokens is -2 at row 1, want 0 to"),
        ({"prompt_tokens": [1, 2]}, "prompt_tokens has 2 rows, arrival_s has 3"),
        ({"output_tokens": [1, 2, 2**31]}, "output_tokens is 2147483648 at row 2"),
        ({"output_tokens": [1.5, 2.0, 3.0]}, "output_tokens holds float64, want integers"),
        ({"service": [0, 2, 0]}, "service is 2 at row 1, want 0 to 1"),
        ({"model": [0, 0, 1]}, "model is 1 at row 2, want 0 to 0"),
        ({"duration_s": float("inf")}, "duration_s is inf, want a positive number"),
    ],
)
def test_a_broken_column_is_refused_with_its_row(change: dict[str, object], message: str) -> None:
    columns: dict[str, object] = {
        "arrival_s": [0.0, 1.0, 2.0],
        "prompt_tokens": [1, 2, 3],
        "output_tokens": [1, 2, 3],
        "duration_s": 10.0,
    }
    with pytest.raises(InputError, match=f"trace 'bad': {message}"):
        make_trace("bad", **{**columns, **change})  # type: ignore[arg-type]


def test_a_request_without_a_session_is_one_of_its_own() -> None:
    trace = make_trace("plain", [0.0, 1.0], [1, 1], [1, 1], duration_s=2.0)
    assert trace.session.tolist() == [0, 1]
    assert trace.service.tolist() == [Service.CONVERSATION] * 2


def test_a_taken_row_keeps_its_blocks_and_its_optional_columns() -> None:
    trace = make_trace(
        "blocks",
        [0.0, 1.0, 2.0, 3.0],
        [1500, 10, 600, 512],
        [1, 1, 1, 1],
        duration_s=4.0,
        service=[0, 1, 0, 0],
        elapsed_s=[1.5, np.nan, 2.5, 3.5],
        output_is_limit=[False, True, False, True],
        prefix=PrefixBlocks(512, np.array([0, 3, 3, 5, 6]), np.array([7, 8, 9, 7, 4, 7])),
    )
    conversation = trace.of_service(Service.CONVERSATION).window(1.0, 4.0)
    assert conversation.prefix is not None
    assert [conversation.prefix.of(row).tolist() for row in range(len(conversation))] == [[7, 4], [7]]
    assert conversation.elapsed_s is not None
    assert conversation.output_is_limit is not None
    assert conversation.elapsed_s.tolist() == [2.5, 3.5]
    assert conversation.output_is_limit.tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elapsed_s": [1.0]}, "elapsed_s has 1 rows, arrival_s has 2"),
        ({"elapsed_s": [1.0, -2.0]}, "elapsed_s is -2.0 at row 1, want a number >= 0"),
        ({"output_is_limit": [True] * 3}, "output_is_limit has 3 rows"),
        ({"prefix": PrefixBlocks(0, np.array([0, 0, 0]), np.array([], dtype=int))}, "block_tokens is 0"),
        ({"prefix": PrefixBlocks(16, np.array([0, 1]), np.array([5]))}, "are of 1 prompts, arrival_s has 2 rows"),
        ({"prefix": PrefixBlocks(16, np.array([0, 1, 1]), np.array([5, 6]))}, "bounds do not cover"),
    ],
)
def test_an_optional_column_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_trace("bad", [0.0, 1.0], [1, 1], [1, 1], duration_s=2.0, **change)  # type: ignore[arg-type]


def test_the_requests_of_one_model_are_those_that_name_it() -> None:
    trace = small_trace()
    assert trace.of_model("GPT-4").prompt_tokens.tolist() == [20, 0, 50]
    with pytest.raises(InputError, match="has no model 'gpt'; it has ChatGPT, GPT-4"):
        trace.of_model("gpt")
