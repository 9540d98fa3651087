"""Workload models: read strictly, drawn repeatably, true to their parameters."""

from typing import Any

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.shipped_workloads import find_workload
from loadgen.strict_config import parse
from loadgen.trace import Service
from loadgen.workload import WorkloadModel, expected_requests, read_workload_model
from tests.loadgen.small_workloads import LENGTHS, draw, gamma, model, rates_per_s


def points(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"at_s": at_s, "value": value} for at_s, value in pairs]


def test_the_same_seed_draws_the_same_trace_and_another_seed_another() -> None:
    workload = model(gamma(rate_per_s=1, alpha=0.3))
    assert np.array_equal(draw(workload, 1).arrival_s, draw(workload, 1).arrival_s)
    assert not np.array_equal(draw(workload, 1).arrival_s[:5], draw(workload, 2).arrival_s[:5])


def test_a_further_stream_leaves_the_first_as_it_was() -> None:
    first, second = {**gamma(rate_per_s=1), "service": "conversation"}, gamma(rate_per_s=2)
    alone, both = draw(model(first)), draw(model(first, second)).of_service(Service.CONVERSATION)
    assert np.array_equal(alone.arrival_s, both.arrival_s)


def test_streams_are_merged_in_order_with_their_service_model_and_lengths() -> None:
    trace = draw(
        model(
            {**gamma(rate_per_s=1), "service": "conversation", "model": "a", "prompt_tokens": {**LENGTHS, "value": 1}},
            {**gamma(rate_per_s=3), "model": "b", "start_s": 200, "end_s": 300},
        )
    )
    assert trace.model_names == ("a", "b")
    assert np.array_equal(trace.model == 0, trace.service == Service.CONVERSATION)
    assert np.array_equal(trace.model == 0, trace.prompt_tokens == 1)
    batch = trace.of_service(Service.API)
    assert 200 <= batch.arrival_s[0] < batch.arrival_s[-1] < 300
    assert np.all(np.diff(trace.arrival_s) >= 0)


def test_steps_hold_their_value_and_the_ends_hold_theirs() -> None:
    trace = draw(model(gamma(rate_per_s={"interpolation": "steps", "points": points((250, 40), (500, 160))})))
    np.testing.assert_allclose(rates_per_s(trace, 0, 250, 500, 1000), [40, 40, 160], rtol=0.05)


def test_a_line_goes_through_its_points() -> None:
    trace = draw(model(gamma(rate_per_s={"interpolation": "linear", "points": points((0, 0), (500, 200))})))
    np.testing.assert_allclose(rates_per_s(trace, 0, 250, 500, 1000), [50, 150, 200], rtol=0.05)


def test_a_parabola_goes_through_its_points() -> None:
    course = {"interpolation": "quadratic", "points": points((0, 20), (500, 120), (1000, 20))}
    trace = draw(model(gamma(rate_per_s=course)))
    # 120 - 100 x^2 with x = (t - 500) / 500: x^2 is 0.0133 in the mean over |x| < 0.2, 0.173 to 0.6, 0.653 to 1.
    np.testing.assert_allclose(
        rates_per_s(trace, 0, 200, 400, 600, 800, 1000), [54.7, 102.7, 118.7, 102.7, 54.7], rtol=0.04
    )


def test_beta_gives_the_rate_one_over_alpha_beta_also_where_both_move() -> None:
    alpha = {"interpolation": "linear", "points": points((0, 0.5), (1000, 2))}
    beta_s = {"interpolation": "linear", "points": points((0, 0.02), (1000, 0.01))}
    workload = model(gamma(alpha=alpha, beta_s=beta_s))
    time_s = np.linspace(0, 1000, 100_001)
    due = np.trapezoid(1 / ((0.5 + 1.5 * time_s / 1000) * (0.02 - 0.01 * time_s / 1000)), time_s)
    assert expected_requests(workload) == pytest.approx(due, rel=1e-4)
    assert len(draw(workload)) == pytest.approx(due, rel=0.02)
    assert expected_requests(model(gamma(alpha=0.25, beta_s=2))) == pytest.approx(2000)


def test_a_burst_after_so_many_requests_is_expected_as_it_is_drawn() -> None:
    burst = {"kind": "rate", "after_requests": 200, "factor": 5, "duration_s": 60}
    workload = model(gamma(alpha=0.25, beta_s=2, bursts=[burst]))
    assert expected_requests(workload) == pytest.approx(2000 + 4 * 2 * 60)
    drawn = [len(draw(workload, seed)) for seed in range(60)]
    assert np.mean(drawn) == pytest.approx(2480, abs=4 * np.sqrt(4 * 2480 / 60))


def test_requests_are_shared_out_between_models_by_their_shares() -> None:
    plain = {**gamma(rate_per_s=100), "service": "conversation"}
    trace = draw(model({**plain, "model": None, "models": {"small": 3, "large": 1}}, {**gamma(rate_per_s=1)}))
    assert trace.model_names == ("small", "large", "llama")
    chat = trace.of_service(Service.CONVERSATION)
    assert np.bincount(chat.model).tolist() == pytest.approx([75_000, 25_000], rel=0.03)
    assert np.all(trace.of_service(Service.API).model == 2)


def test_a_failed_request_has_no_output_and_its_time_and_prompt_stay() -> None:
    plain = {**gamma(rate_per_s=100), "prompt_tokens": {"distribution": "zipf", "theta": 1.1, "max": 999}}
    whole, partly = draw(model(plain)), draw(model({**plain, "failed_fraction": 0.05}))
    assert np.array_equal(whole.arrival_s, partly.arrival_s)
    assert np.array_equal(whole.prompt_tokens, partly.prompt_tokens)
    assert np.mean(partly.output_tokens == 0) == pytest.approx(0.05, rel=0.1)
    assert set(partly.output_tokens) == {0, 100}


def test_an_answer_that_is_left_to_the_engine_is_marked_with_its_limit() -> None:
    free = {**gamma(rate_per_s=5), "output_tokens": {"distribution": "left_to_engine", "limit": 512}}
    trace = draw(model({**free, "failed_fraction": 0.5}, {**gamma(rate_per_s=5), "service": "conversation"}))
    assert trace.output_is_limit is not None
    assert np.array_equal(trace.output_is_limit, trace.output_tokens == 512)
    assert set(trace.of_service(Service.API).output_tokens) == {0, 512}
    assert set(trace.of_service(Service.CONVERSATION).output_tokens) == {100}
    assert draw(model(gamma(rate_per_s=5))).output_is_limit is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 3}, r"unknown key 'streams.0.arrivals.rate'; known keys: alpha, beta_s, bursts, process, rate_per_s"),
        ({"beta_s": 1}, "'streams.0.arrivals': give either rate_per_s or beta_s$"),
        ({"alpha": 0}, r"'streams.0.arrivals.alpha': input should be greater than 0, got 0"),
        ({"rate_per_s": float("nan")}, "input should be a finite number"),
        ({"rate_per_s": 1e9}, "about 1e[+]12 requests are due; want at most 1e[+]08"),
        ({"process": "gama"}, "'streams.0.arrivals': .*'gama' .*'gamma', 'counts'"),
        (
            {"rate_per_s": {"interpolation": "piecewise", "points": points((5, 1), (5, 2))}},
            r"points are at \[5.0, 5.0\] s; want them in order of time",
        ),
        (
            {"rate_per_s": {"interpolation": "linear", "points": points((0, 1), (5, 2), (9, 2))}},
            "a linear schedule goes through 2 points, got 3",
        ),
        (
            {"rate_per_s": {"interpolation": "quadratic", "points": points((0, 1), (9, 2))}},
            "a quadratic schedule goes through 3 points, got 2",
        ),
        (
            {"rate_per_s": {"interpolation": "quadratic", "points": points((0, 9), (500, -1), (1000, 9))}},
            "rate_per_s falls to -1; want at least 0 at all times",
        ),
        ({"alpha": {"interpolation": "steps", "points": points((0, 0))}}, "alpha falls to 0; want at least 0.01"),
        (
            {"alpha": {"interpolation": "steps", "points": [{"at": 0, "value": 1}]}},
            "unknown key 'streams.0.arrivals.alpha.points.0.at'; known keys: at_s, value",
        ),
        ({"alpha": {"interpolation": "steps", "points": [{"value": 1}]}}, "alpha.points.0.at_s' is missing"),
        ({"bursts": [{"after_requests": 9}]}, r"key 'streams.0.arrivals.bursts.0.kind' is missing"),
        (
            {"bursts": [{"kind": "rate", "faktor": 9}]},
            r"unknown key 'streams.0.arrivals.bursts.0.faktor'; known keys: after_requests, duration_s, factor, kind",
        ),
    ],
)
def test_a_wrong_process_is_refused_with_the_place_and_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^test.yaml: .*{message}"):
        model(gamma(**{"rate_per_s": 1, **change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate_per_s": 3}, r"unknown key 'streams.0.rate_per_s'; known keys: arrivals, .*service"),
        ({"arrivals": {"rate_per_s": 1}}, "key 'streams.0.arrivals.process' is missing"),
        ({"models": {"a": 1}}, "'streams.0': give either model or models"),
        ({"model": None}, "'streams.0': give either model or models"),
        ({"model": None, "models": {"a": 0}}, "'streams.0.models.a': input should be greater than 0, got 0"),
        ({"failed_fraction": 1}, "'streams.0.failed_fraction': input should be less than 1, got 1"),
        ({"sessions": {"turn": 3}}, "unknown key 'streams.0.sessions.turn'; known keys: answer_s_per_token, .*turns"),
        ({"start_s": 2000}, r"streams.0: start_s 2000, end_s 1000; want 0 <= start < end <= 1000"),
        ({"prompt_tokens": {"distribution": "zip"}}, "'zipf', 'lognormal', 'geometric', 'constant'"),
    ],
)
def test_a_wrong_stream_is_refused_with_the_place_and_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^test.yaml: .*{message}"):
        model({**gamma(rate_per_s=1), **change})


def test_a_model_that_draws_no_request_says_so() -> None:
    with pytest.raises(InputError, match="workload 'test': no request was drawn; raise the rate or the duration"):
        draw(model(gamma(rate_per_s=1e-9)))


def test_a_model_written_out_and_read_again_is_the_same() -> None:
    workload = read_workload_model(find_workload("burst_demo"))
    assert parse(WorkloadModel, workload.model_dump(mode="json", exclude_none=True), "again") == workload
