"""The figure over time: what is drawn is what the folder holds."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.records import Status
from testbed.conclude import conclude_run
from testbed.report.axes import START_MS
from testbed.report.facts import gather_facts
from testbed.report.fleet_panels import mean_replicas
from testbed.report.page import build_timeline
from testbed.report.tables import failure_table
from testbed.report.verdict import write_verdict
from testbed.results import Results
from tests.testbed.report.reported_runs import traces


def test_the_figure_is_one_that_plotly_accepts_and_every_row_is_in_it(results: Results) -> None:
    timeline, missing = build_timeline(gather_facts(results))
    plotly.graph_objects.Figure(timeline.figure)
    assert missing == []
    titles = [header.title for header in timeline.headers]
    assert titles == [
        "Load",
        "Missed SLO",
        "Replicas",
        "Forecast",
        "Time to first token",
        "Token latency (L)",
        "Throughput (P)",
        "Failures by cause",
        "Requests in the system",
        "KV cache in use",
    ]
    assert len(timeline.readouts) == len(timeline.figure["data"])


def test_the_areas_of_the_figure_are_the_numbers_of_the_tables(results: Results) -> None:
    drawn = traces(results)
    failed = results.records[results.records["status"] != Status.OK]
    for cause, count in failed["cause"].value_counts().items():
        assert sum(drawn[str(cause).replace("_", " ")]["y"]) == count
    bin_s = (drawn["offered"]["x"][1] - drawn["offered"]["x"][0]) / 1000
    # The last point only draws the last bin out to the end.
    assert sum(drawn["offered"]["y"][:-1]) * bin_s == pytest.approx(len(results.records))
    ok = (results.records["status"] == Status.OK).sum()
    assert sum(drawn["served"]["y"][:-1]) * bin_s == pytest.approx(ok)
    summary = gather_facts(results).fleet
    assert summary is not None
    held_s = sum(
        float(np.dot(drawn[state]["y"][:-1], np.diff(drawn[state]["x"])) / 1000)
        for state in ("ready", "starting", "draining")
    )
    assert held_s == pytest.approx(summary["replica_seconds"], rel=1e-3)


def test_a_forecast_is_drawn_at_the_time_that_it_speaks_of(results: Results) -> None:
    median = traces(results)["median"]
    first = next(decision["forecast"] for decision in results.decisions if decision["forecast"])
    assert median["x"][0] == START_MS + first["at_s"] * 1000
    assert median["y"][0] == pytest.approx(first["requests_per_s"][first["levels"].index(0.5)], rel=1e-3)


def test_a_failure_that_names_no_cause_is_drawn_and_listed_as_unknown(
    tmp_path: Path, story: Any, write_run: Any
) -> None:
    nameless = [record | {"cause": None} if record.get("cause") else record for record in story.records]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, records=nameless)))
    failed = (results.records["status"] != Status.OK).sum()
    assert sum(traces(results)["unknown"]["y"]) == failed
    assert [row.cause for row in failure_table(gather_facts(results))] == ["unknown"]
    assert f"{failed} failed" in write_verdict(gather_facts(results))


def test_a_run_without_forecasts_says_so(tmp_path: Path, story: Any, write_run: Any) -> None:
    decisions = [dataclasses.replace(decision, forecast=None) for decision in story.decisions]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, decisions=decisions)))
    _, missing = build_timeline(gather_facts(results))
    assert missing == ["forecast (no forecast was made)"]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=12),
    st.lists(st.floats(0.5, 149.5), max_size=8, unique=True),
)
def test_mean_replicas_times_time_is_the_time_held(intervals: list[tuple[float, float]], cuts: list[float]) -> None:
    frame = pd.DataFrame(
        {
            "start_s": [start_s for start_s, _ in intervals],
            "end_s": [start_s + held_s for start_s, held_s in intervals],
        },
        dtype=np.float64,
    )
    edges_s = np.array(sorted({0.0, 150.0, *cuts}))
    times_s, means = mean_replicas(frame, edges_s)
    assert times_s.tolist() == edges_s.tolist()
    held_s = float(np.dot(means[:-1], np.diff(edges_s)))
    assert held_s == pytest.approx(sum(length_s for _, length_s in intervals), abs=1e-6)
