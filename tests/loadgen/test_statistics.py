"""A description of a trace counts everything once and measures its burstiness."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadgen.arrivals.gamma import GammaArrivals
from loadgen.arrivals.schedule import Point, Schedule
from loadgen.formats.azure import read_azure
from loadgen.formats.burstgpt import read_burstgpt
from loadgen.lengths import Constant
from loadgen.statistics.describe import describe
from loadgen.trace import Service, make_trace
from loadgen.workload import Stream, WorkloadModel, draw_trace

LENGTH = Constant(distribution="constant", value=100)


def test_totals_rates_and_quantiles_are_those_of_the_requests() -> None:
    trace = make_trace(
        "four",
        [0.0, 1.0, 1.5, 95.0],
        [100, 200, 300, 400],
        [10, 0, 30, 20],
        duration_s=100.0,
        service=[0, 1, 0, 0],
        model=[0, 0, 1, 1],
        model_names=("a", "b", "never asked"),
    )
    description = describe(trace)
    everything = description.all
    assert (everything.requests, everything.failures, everything.failed_fraction) == (4, 1, 0.25)
    assert (everything.prompt_tokens, everything.output_tokens) == (1000, 60)
    assert everything.mean_rate_per_s == 0.04
    assert everything.peak_rate_per_s == 0.3
    assert everything.prompt_quantiles["p50"] == 250
    assert everything.output_quantiles["p50"] == 20, "the failed request has no length"
    assert {name: part.requests for name, part in description.services.items()} == {"conversation": 3, "api": 1}
    assert {name: part.requests for name, part in description.models.items()} == {"a": 2, "b": 2}
    assert description.services["api"].gaps is None


def test_alpha_and_beta_are_found_again_overall_and_per_window() -> None:
    alpha = Schedule(
        interpolation="steps", points=(Point(at_s=0, value=0.25), Point(at_s=1200, value=1), Point(at_s=2400, value=4))
    )
    arrivals = GammaArrivals(process="gamma", rate_per_s=20.0, alpha=alpha)
    stream = Stream(service="api", model="m", arrivals=arrivals, prompt_tokens=LENGTH, output_tokens=LENGTH)
    model = WorkloadModel(name="three windows", duration_s=3600, streams=(stream,))
    gaps = describe(draw_trace(model, np.random.default_rng(0))).all.gaps
    assert gaps is not None
    assert gaps.by_window is not None
    assert (gaps.by_window.windows, gaps.by_window.hidden_windows) == (3, 0)
    assert gaps.by_window.alpha.low == pytest.approx(0.25, rel=0.05)
    assert gaps.by_window.alpha.median == pytest.approx(1.0, rel=0.05)
    assert gaps.by_window.alpha.high == pytest.approx(4.0, rel=0.05)
    assert gaps.by_window.cv.high == pytest.approx(2.0, rel=0.05)
    assert gaps.by_window.beta_s.median == pytest.approx(1 / 20, rel=0.1)
    assert gaps.mean_s == pytest.approx(1 / 20, rel=0.05)
    assert gaps.alpha is not None
    assert 0.25 < gaps.alpha < 4


def test_a_description_is_plain_json_also_of_a_tiny_or_empty_trace() -> None:
    for rows in (0, 1, 2, 3):
        times = np.zeros(rows)
        trace = make_trace("tiny", times, np.zeros(rows, int), np.zeros(rows, int), duration_s=1.0)
        text = json.dumps(describe(trace).as_json(), allow_nan=False)
        assert json.loads(text)["all"]["requests"] == rows


def test_the_first_rows_of_burstgpt_are_described(data_folder: Path) -> None:
    description = describe(read_burstgpt(data_folder / "traces/burstgpt/burstgpt1_first_rows.csv"))
    assert description.all.requests == 30
    assert description.all.failures == 1
    assert description.models["ChatGPT"].requests + description.models["GPT-4"].requests == 30
    assert description.all.gaps is not None
    assert description.all.gaps.resolution_s == 1.0


def test_azures_conversations_are_a_little_burstier_than_poisson(data_folder: Path) -> None:
    description = describe(read_azure(data_folder / "traces/azure_2023/AzureLLMInferenceTrace_conv.csv"))
    assert description.all.requests == 19_366
    assert description.all.prompt_tokens / 19_366 == pytest.approx(1154.7, abs=0.1)
    assert list(description.services) == [Service.CONVERSATION.label]
    gaps = description.all.gaps
    assert gaps is not None
    assert gaps.alpha is not None
    assert 0.8 < gaps.alpha < 1
    assert gaps.by_window is not None
    assert gaps.by_window.windows == 3
