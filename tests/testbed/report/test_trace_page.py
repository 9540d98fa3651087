"""The page of a trace says why a chart is missing, escapes names, loads nothing, and stays small."""

import json
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadgen.errors import InputError
from loadgen.statistics.describe import describe
from loadgen.statistics.description import TraceDescription
from loadgen.trace import make_trace
from loadgen.trace_file import save_trace
from testbed.cli import app
from testbed.report.chart_figures import draw_chart, legend
from testbed.report.trace_page import build_trace_timeline, render_trace_page, write_trace_page
from testbed.report.trace_tables import key_figures
from tests.testbed.report.described_traces import (
    DAY_S,
    charts_of,
    conversations,
    reasons_of,
    renewal,
)


def test_a_missing_chart_says_why(description: TraceDescription) -> None:
    reasons = reasons_of(description)
    assert "does not say which requests belong together" in reasons["Turns, pauses and growth of the prompt"]
    assert "does not say how long answers took" in reasons["Elapsed time per response token"]
    hour = describe(renewal(1.0))
    assert "it takes a day or more" in reasons_of(hour)["An average week of conversation"]
    page = render_trace_page(hour, "file.csv")
    for title in reasons_of(hour):
        assert f"{title}: not drawn, since " in page


EMPTY: list[int] = []


@pytest.mark.parametrize(
    ("arrivals_s", "prompts", "outputs", "duration_s", "said"),
    [
        (EMPTY, EMPTY, EMPTY, 10.0, "no requests"),
        ([1.0], [5], [7], 10.0, "only 1 request:"),
        ([1.0], [0], [0], 0.5e7, "only 1 request:"),
        ([0.0] * 50, [7] * 50, [7] * 50, 1.0, "requests/s on average"),
        ([5.0 * place for place in range(100)], [5] * 100, [0] * 100, 10_000.0, "Every request failed"),
        ([0.0, 0.05, 0.07], [0, 0, 0], [1, 2, 3], 0.1, "only 3 requests:"),
        ([800.0 * place for place in range(1000)], [5] * 1000, [2_000_000_000] * 1000, 800_000.0, "more evenly than"),
    ],
)
def test_odd_traces_have_a_page(
    arrivals_s: list[float], prompts: list[int], outputs: list[int], duration_s: float, said: str
) -> None:
    arrivals = np.minimum(np.array(arrivals_s, dtype=np.float64), np.nextafter(duration_s, 0))
    prompt_tokens, output_tokens = np.array(prompts, dtype=int), np.array(outputs, dtype=int)
    description = describe(make_trace("odd", arrivals, prompt_tokens, output_tokens, duration_s=duration_s))
    page = render_trace_page(description, "odd.csv")
    assert said in page or said == "more evenly than"
    for word in ("nan", "None", "inf"):
        outside = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
        assert not re.search(rf"\b{word}\b", outside), f"'{word}' is shown"


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_trace_has_a_page_of_figures_that_can_be_written(data: st.DataObject) -> None:
    requests = data.draw(st.integers(0, 60))
    duration_s = data.draw(st.sampled_from([0.5, 30.0, 4000.0, 3 * DAY_S, 40 * DAY_S]))
    places = data.draw(st.lists(st.integers(0, 999), min_size=requests, max_size=requests))
    tokens = st.lists(st.sampled_from([0, 1, 2, 50, 4000, 2**31 - 1]), min_size=requests, max_size=requests)
    trace = make_trace(
        "drawn",
        np.sort(np.array(places, dtype=np.float64) / 1000 * duration_s),
        np.array(data.draw(tokens), dtype=np.int64),
        np.array(data.draw(tokens), dtype=np.int64),
        duration_s=duration_s,
        service=np.arange(requests) % data.draw(st.integers(1, 2)),
        session=np.arange(requests) % data.draw(st.integers(1, 60)),
        elapsed_s=np.arange(requests) * data.draw(st.sampled_from([0.0, 0.5])),
    )
    description = describe(trace)
    timeline, _ = build_trace_timeline(description)
    json.dumps(timeline.figure, allow_nan=False)
    for chart in charts_of(description).values():
        figure = draw_chart(chart)
        json.dumps(figure, allow_nan=False)
        plotly.graph_objects.Figure(figure)
        for axis in ("xaxis", "yaxis"):
            low, high = figure["layout"][axis]["range"]
            assert low < high
    for tile in key_figures(description):
        assert "nan" not in tile.value
        assert "inf" not in tile.value


def test_every_figure_is_one_that_plotly_accepts(description: TraceDescription) -> None:
    timeline, missing = build_trace_timeline(description)
    plotly.graph_objects.Figure(timeline.figure)
    assert missing == []
    for each in (description, describe(conversations()), describe(renewal(0.3))):
        for chart in charts_of(each).values():
            plotly.graph_objects.Figure(draw_chart(chart))
            assert all(entry.trace < len(chart.layers) for entry in legend(chart))


def test_every_chart_has_a_caption_and_a_text_alternative(description: TraceDescription) -> None:
    page = render_trace_page(description, "file.csv")
    charts = charts_of(description)
    assert page.count('role="img" aria-label="') == len(charts)
    assert page.count("<figcaption>") == len(charts)
    assert all(chart.caption.endswith(".") for chart in charts.values())


def test_names_do_not_become_markup_and_nothing_is_loaded(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x>"
    trace = make_trace(evil, [1.0, 2.0], [5, 5], [6, 6], duration_s=10.0, model=[0, 1], model_names=(evil, "other"))
    path = write_trace_page(describe(trace), tmp_path / "page.html", evil)
    page = path.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img" not in page
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!data:)", outside_scripts)
    assert "default-src 'none'" in outside_scripts


def test_the_command_writes_the_page_once(tmp_path: Path) -> None:
    save_trace(conversations(), tmp_path / "talks.parquet")
    page = tmp_path / "talks.html"
    command = ["trace", "describe", str(tmp_path / "talks.parquet"), "--html", str(page)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert str(page) in result.stdout.replace("\n", "")
    assert "talks.parquet" in page.read_text(encoding="utf-8")
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, InputError)
    assert "exists already; give --html a new file" in str(again.exception)


def test_four_months_give_a_small_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    requests, duration_s = 400_000, 121 * DAY_S
    arrival_s = np.sort(rng.uniform(0, duration_s, requests))
    trace = make_trace(
        "months",
        arrival_s,
        rng.integers(1, 8000, requests),
        rng.integers(0, 2000, requests),
        duration_s=duration_s,
        service=rng.integers(0, 2, requests),
    )
    page = write_trace_page(describe(trace), tmp_path / "page.html", "months.csv")
    assert page.stat().st_size < 6e6
