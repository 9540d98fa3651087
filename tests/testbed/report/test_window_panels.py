"""The rows of R, L and P over time draw the numbers of the windows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects
import pytest

from loadgen.records import Status
from testbed.conclude import conclude_run
from testbed.report.axes import START_MS
from testbed.report.facts import gather_facts
from testbed.report.page import build_timeline
from testbed.report.panels import steps_with_gaps
from testbed.results import Results
from tests.testbed.report.reported_runs import traces

BURST_S = (50.0, 90.0)
ROWS = {"y domain", *(f"y{row} domain" for row in range(2, 11))}


def shaded_s(results: Results) -> set[tuple[str, float, float]]:
    """(row, from, to) of all that is shaded, in seconds."""
    figure = build_timeline(gather_facts(results))[0].figure
    plotly.graph_objects.Figure(figure)
    return {
        (shape["yref"], (shape["x0"] - START_MS) / 1000, (shape["x1"] - START_MS) / 1000)
        for shape in figure["layout"]["shapes"]
        if shape["xref"] == "x"
    }


def drawn_windows(trace: dict[str, Any]) -> dict[float, float]:
    """The values of steps by the second at which each begins; the last point only draws the last step out."""
    instants_s = [(instant - START_MS) / 1000 for instant in trace["x"]]
    return dict(zip(instants_s[:-1], trace["y"][:-1], strict=True))


def test_shares_of_failed_and_late_requests_are_drawn_by_the_window_in_which_they_arrived(results: Results) -> None:
    records = results.records
    drawn = traces(results)
    window = (records["scheduled_s"] // 5 * 5).astype(float)
    failed = (records["status"] != Status.OK).groupby(window).mean()
    promise_s = records["service"].map({"conversation": 2.0, "api": 60.0})
    is_late = (records["status"] == Status.OK) & (records["first_token_s"] - records["scheduled_s"] > promise_s)
    late = is_late.groupby(window).mean()
    for label, expected in (("failed (R)", failed), ("first token late", late)):
        shares = drawn_windows(drawn[label])
        assert expected.max() > 0
        for start_s, share in expected.items():
            assert shares[start_s] == pytest.approx(share, rel=1e-3)


def test_token_latency_is_the_mean_of_the_window_and_throughput_adds_up_to_all_tokens(results: Results) -> None:
    records = results.records[results.records["status"] == Status.OK]
    drawn = traces(results)
    tpot_s = (records["finished_s"] - records["first_token_s"]) / (records["output_tokens"] - 1)
    expected = tpot_s.groupby(records["scheduled_s"] // 5 * 5).mean()
    means_s = drawn_windows(drawn["mean TPOT"])
    for start_s, mean_s in expected.items():
        assert means_s[start_s] == pytest.approx(mean_s, rel=1e-3)
    tokens = sum(drawn_windows(drawn["output tokens"]).values()) * 5
    assert tokens == pytest.approx(records["output_tokens"].sum(), rel=2e-3)


def test_the_burst_is_shaded_in_every_row(results: Results) -> None:
    assert shaded_s(results) == {(row, *BURST_S) for row in ROWS}
    assert [label for label, _ in build_timeline(gather_facts(results))[0].key] == ["burst"]


def test_the_warm_up_is_shaded_in_every_row_and_no_window_counts_it(tmp_path: Path, story: Any, write_run: Any) -> None:
    folder = write_run(tmp_path / "run", story)
    environment = folder / "environment.json"
    environment.write_text(environment.read_text().replace('"kind"', '"warm_up_until_s": 20.0, "kind"', 1))
    results = conclude_run(folder)
    bands = shaded_s(results)
    assert {(row, 0.0, 20.0) for row in ROWS} <= bands
    assert ("warm-up, not counted") in [label for label, _ in build_timeline(gather_facts(results))[0].key]
    assert min(drawn_windows(traces(results)["mean TPOT"])) == 20.0
    assert "warm-up, not counted" in (folder / "report.html").read_text()


def test_faults_are_shaded_and_carry_the_numbers_of_their_table(results: Results) -> None:
    faults = [
        {"kind": "replica_dies", "at_s": 30.0},
        {"kind": "provisioning_blocked", "start_s": 60.0, "end_s": 400.0},
    ]
    faulty = dataclasses.replace(results, config=results.config | {"faults": faults})
    assert {("y domain", 30.0, 30.0), ("y2 domain", 60.0, 200.0)} <= shaded_s(faulty), "the run ends at 200 s"
    annotations = build_timeline(gather_facts(faulty))[0].figure["layout"]["annotations"]
    assert [note["text"] for note in annotations if note["xref"] == "x"] == ["1", "2"]


def test_a_run_that_meets_every_promise_says_that_nobody_missed_it(tmp_path: Path, story: Any, write_run: Any) -> None:
    early = [record for record in story.records if record["scheduled_s"] < 40]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, records=early)))
    _, missing = build_timeline(gather_facts(results))
    assert "missed SLO (no request missed it)" in missing


def test_nothing_is_answered_after_the_last_answer(results: Results) -> None:
    drawn = drawn_windows(traces(results)["output tokens"])
    last_s = results.records["finished_s"].max()
    later = [rate for start_s, rate in drawn.items() if start_s > last_s]
    assert later
    assert max(later) == pytest.approx(0, abs=1e-6)


def test_windows_are_as_long_as_the_experiment_says(tmp_path: Path, story: Any, write_run: Any) -> None:
    folder = write_run(tmp_path / "run", story)
    with (folder / "config.yaml").open("a") as config:
        config.write("window_s: 20\n")
    results = conclude_run(folder)
    assert results.summary is not None
    assert results.summary["windows"]["window_s"] == 20
    assert set(drawn_windows(traces(results)["output tokens"])) >= {0.0, 20.0, 40.0}
    assert 10.0 not in drawn_windows(traces(results)["output tokens"])


def test_a_step_ends_where_a_gap_begins() -> None:
    times_s, values = steps_with_gaps(np.array([0.0, 5.0, 10.0]), np.array([1.0, np.nan, 2.0]), 15.0)
    np.testing.assert_array_equal(times_s, [0, 5, 5, 10, 15])
    np.testing.assert_array_equal(values, [1, 1, np.nan, 2, 2])
