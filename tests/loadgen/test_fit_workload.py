"""A model fitted to a trace gives back what the trace was drawn from, and traffic like a real trace's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from loadgen.arrivals.gamma import GammaArrivals
from loadgen.arrivals.schedule import Schedule
from loadgen.errors import InputError
from loadgen.fit_workload import fit_workload, workload_yaml
from loadgen.formats.detect import read_trace
from loadgen.gamma_fit import fit_gamma, time_resolution_s
from loadgen.lengths import Geometric, LeftToEngine, Zipf
from loadgen.strict_config import parse
from loadgen.trace import Service, Trace, make_trace
from loadgen.workload import Stream, WorkloadModel, draw_trace, expected_requests

AZURE_CONV = Path(__file__).parents[2] / "../shared/data/traces/azure_2023/AzureLLMInferenceTrace_conv.csv"
MOONCAKE = Path(__file__).parents[2] / "../shared/data/traces/mooncake_fast25/conversation_trace.jsonl"

PROMPTS = {"distribution": "zipf", "theta": 1.1, "min": 10, "max": 2000}
ANSWERS = {"distribution": "geometric", "mean": 120, "max": 800}


def drawn(*streams: dict[str, Any], duration_s: float = 3600.0, seed: int = 0) -> Trace:
    plain = {"service": "api", "prompt_tokens": PROMPTS, "output_tokens": ANSWERS}
    plain_model = [
        {"model": "m", **plain, **stream} if "models" not in stream else {**plain, **stream} for stream in streams
    ]
    model = parse(WorkloadModel, {"name": "known", "duration_s": duration_s, "streams": plain_model}, "test.yaml")
    return draw_trace(model, np.random.default_rng(seed))


def gamma(rate_per_s: Any, alpha: Any = 1.0) -> dict[str, Any]:
    return {"process": "gamma", "rate_per_s": rate_per_s, "alpha": alpha}


def steps(*pairs: tuple[float, float]) -> dict[str, Any]:
    return {"interpolation": "steps", "points": [{"at_s": at_s, "value": value} for at_s, value in pairs]}


def values(schedule: object) -> list[float]:
    assert isinstance(schedule, Schedule)
    assert schedule.interpolation == "steps"
    return [point.value for point in schedule.points]


def gamma_of(stream: Stream) -> GammaArrivals:
    assert isinstance(stream.arrivals, GammaArrivals)
    return stream.arrivals


def test_rates_shapes_lengths_shares_and_failures_are_found_again() -> None:
    chat = {
        "service": "conversation",
        "models": {"small": 3, "large": 1},
        "arrivals": gamma(steps((0, 20), (1200, 5), (2400, 40)), steps((0, 0.25), (1200, 1), (2400, 3))),
        "failed_fraction": 0.02,
    }
    trace = drawn(chat, {"arrivals": gamma(2.0, 0.5)})
    fitted = fit_workload(trace)
    assert fitted.duration_s == 3600
    assert [stream.service for stream in fitted.streams] == ["conversation", "api"]
    conversation, api = fitted.streams
    counts = np.histogram(trace.of_service(Service.CONVERSATION).arrival_s, [0, 1200, 2400, 3600])[0]
    assert values(gamma_of(conversation).rate_per_s) == pytest.approx(counts / 1200, rel=1e-3)
    assert values(gamma_of(conversation).alpha) == pytest.approx([0.25, 1, 3], rel=0.05)
    assert values(gamma_of(api).alpha) == pytest.approx([0.5, 0.5, 0.5], rel=0.15)
    assert isinstance(conversation.prompt_tokens, Zipf)
    assert conversation.prompt_tokens.theta == pytest.approx(1.1, rel=0.03)
    assert isinstance(conversation.output_tokens, Geometric)
    assert conversation.output_tokens.mean == pytest.approx(120, rel=0.03)
    shares = conversation.model_shares
    assert shares["small"] / (shares["small"] + shares["large"]) == pytest.approx(0.75, rel=0.02)
    assert api.model == "m"
    assert conversation.failed_fraction == pytest.approx(0.02, rel=0.15)
    assert api.failed_fraction == 0
    assert conversation.sessions is None


def test_whole_seconds_do_not_spoil_the_fit() -> None:
    trace = drawn({"arrivals": gamma(1.0, 0.3)}, duration_s=12_000)
    whole = make_trace("whole", np.floor(trace.arrival_s), trace.prompt_tokens, trace.output_tokens, duration_s=12_000)
    assert np.median(values(gamma_of(fit_workload(whole).streams[0]).alpha)) == pytest.approx(0.3, rel=0.15)


def test_windows_with_few_requests_are_taken_together_and_silence_stays_silent() -> None:
    # Twenty busy minutes, an hour with 0.02/s, an hour of nothing, twenty busy minutes.
    rate = steps((0, 2), (1200, 0.02), (4800, 0), (8400, 2))
    fitted = fit_workload(drawn({"arrivals": gamma(rate, 0.5)}, duration_s=9600))
    course = gamma_of(fitted.streams[0]).rate_per_s
    assert isinstance(course, Schedule)
    assert len(course.points) <= 4
    told = {point.at_s: point.value for point in course.points}
    assert told[0] == pytest.approx(2, rel=0.2)
    assert told[8400] == pytest.approx(2, rel=0.2)
    assert told[1200] < 0.04
    assert expected_requests(fitted) == pytest.approx(4800 + 72, rel=0.1)


def test_where_alpha_cannot_be_told_it_is_that_of_the_nearest_window_or_of_a_poisson_process() -> None:
    few = drawn({"arrivals": gamma(0.005, 0.2)})
    assert gamma_of(fit_workload(few).streams[0]).alpha == 1
    # Ticks of 10 s hide the gaps of the second window, with 20 arrivals a tick.
    trace = drawn({"arrivals": gamma(steps((0, 0.2), (1200, 2), (2400, 0.2)), steps((0, 0.3), (2400, 5)))})
    coarse = make_trace(
        "coarse", np.floor(trace.arrival_s / 10) * 10, trace.prompt_tokens, trace.output_tokens, duration_s=3600
    )
    alpha = gamma_of(fit_workload(coarse).streams[0]).alpha
    assert isinstance(alpha, Schedule)
    assert [point.at_s for point in alpha.points] == [0, 2400], "the middle one follows the first"


@pytest.mark.parametrize(("with_history", "longest"), [(True, 10**6), (False, None)])
def test_conversations_are_found_again(with_history: bool, longest: int | None) -> None:
    sessions = {
        "turns": {"distribution": "geometric", "mean": 5, "max": 60},
        "think_s": {"distribution": "lognormal", "median": 30, "sigma": 0.8, "max": 3600},
        "with_history": with_history,
        **({"max_prompt_tokens": longest} if longest else {}),
    }
    fitted = fit_workload(drawn({"arrivals": gamma(0.5), "sessions": sessions}, duration_s=20_000)).streams[0]
    assert fitted.sessions is not None
    assert fitted.sessions.with_history is with_history
    assert isinstance(fitted.sessions.turns, Geometric)
    assert fitted.sessions.turns.mean == pytest.approx(5, rel=0.05)
    assert fitted.sessions.think_s.distribution == "lognormal"
    assert fitted.sessions.think_s.median == pytest.approx(30, rel=0.05)
    assert fitted.sessions.think_s.sigma == pytest.approx(0.8, rel=0.05)
    assert isinstance(fitted.prompt_tokens, Zipf)
    assert fitted.prompt_tokens.theta == pytest.approx(1.1, rel=0.03)
    course = gamma_of(fitted).rate_per_s
    assert np.mean(values(course)) == pytest.approx(0.5, rel=0.05)


def test_elapsed_times_part_the_answer_from_the_pause() -> None:
    trace = make_trace(
        "two turns",
        [0.0, 60.0, 100.0, 190.0],
        [100] * 4,
        [10, 20, 30, 40],
        duration_s=200.0,
        session=[1, 1, 2, 2],
        elapsed_s=[20.0, 40.0, 60.0, 80.0],
    )
    sessions = fit_workload(trace).streams[0].sessions
    assert sessions is not None
    assert sessions.answer_s_per_token == 2.0
    assert sessions.think_s.distribution == "lognormal"
    assert sessions.think_s.median == pytest.approx(np.sqrt((60 - 20) * (90 - 60)), rel=1e-3)


def test_answers_that_the_engine_ends_stay_so() -> None:
    free = {"arrivals": gamma(1.0), "output_tokens": {"distribution": "left_to_engine", "limit": 512}}
    fitted = fit_workload(drawn({**free, "failed_fraction": 0.1})).streams[0]
    assert fitted.output_tokens == LeftToEngine(distribution="left_to_engine", limit=512)
    assert fitted.failed_fraction == pytest.approx(0.1, rel=0.15)


def test_a_fitted_model_is_written_and_read_again_as_it_is() -> None:
    fitted = fit_workload(drawn({"arrivals": gamma(steps((0, 1), (1200, 3)), 0.5), "failed_fraction": 0.1}))
    text = workload_yaml(fitted, "Fitted to a test.")
    assert text.startswith("# Fitted to a test.\n")
    assert parse(WorkloadModel, yaml.safe_load(text), "again") == fitted


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(InputError, match="trace 'empty': holds no request"):
        fit_workload(make_trace("empty", [], [], [], duration_s=9))
    for window_s in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match=r"window_s is .*, want a positive number"):
            fit_workload(make_trace("one", [1.0], [5], [5], duration_s=9), window_s)


def test_one_request_that_failed_is_a_model_too() -> None:
    fitted = fit_workload(make_trace("one", [1.0], [5], [0], duration_s=9))
    assert expected_requests(fitted) == pytest.approx(1, rel=1e-3)


# Against real traffic.


@pytest.mark.skipif(not AZURE_CONV.is_file(), reason="the real traces are not here (../shared/data)")
@pytest.mark.parametrize("window_s", [600.0, 1200.0])
def test_a_model_fitted_to_azure_conversations_draws_traffic_like_theirs(window_s: float) -> None:
    real = read_trace(AZURE_CONV)
    model = fit_workload(real, window_s)
    fakes = [draw_trace(model, np.random.default_rng(seed)) for seed in range(20)]
    assert expected_requests(model) == pytest.approx(len(real), rel=1e-3)
    bins = np.arange(0, real.duration_s + window_s, window_s)
    fake_counts = np.mean([np.histogram(fake.arrival_s, bins)[0] for fake in fakes], axis=0)
    np.testing.assert_allclose(fake_counts, np.histogram(real.arrival_s, bins)[0], rtol=0.03)
    alphas = []
    for trace in (real, *fakes):
        fit = fit_gamma(np.diff(trace.arrival_s), time_resolution_s(trace.arrival_s))
        assert fit is not None
        alphas.append(fit.alpha)
    assert np.median(alphas[1:]) == pytest.approx(alphas[0], rel=0.05)
    levels = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    for column in ("prompt_tokens", "output_tokens"):
        drawn_lengths = np.concatenate([getattr(fake, column) for fake in fakes])
        np.testing.assert_allclose(
            np.quantile(drawn_lengths, levels), np.quantile(getattr(real, column), levels), rtol=0.05, err_msg=column
        )


@pytest.mark.skipif(not MOONCAKE.is_file(), reason="the real traces are not here (../shared/data)")
def test_a_trace_whose_times_are_too_coarse_for_a_shape_is_fitted_by_its_rates() -> None:
    real = read_trace(MOONCAKE)
    model = fit_workload(real)
    assert expected_requests(model) == pytest.approx(12_031, rel=1e-3)
    assert gamma_of(model.streams[0]).alpha == 1
