"""The benchmark of traces measures what it says, on files like BurstGPT's."""

import json
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from loadgen.formats.detect import read_trace
from loadgen.shipped_workloads import find_workload
from loadgen.trace import Service
from loadgen.workload import expected_requests, read_workload_model
from testbed.bench_target import verdicts
from testbed.bench_traces import (
    BURSTGPT_1_ROWS,
    TARGETS,
    TraceBenchmark,
    bench_traces,
    write_burstgpt_file,
)
from testbed.cli_bench import bench_app

KEYS = {
    "rows",
    "read_seconds",
    "pyarrow_seconds",
    "read_ratio_to_pyarrow",
    "read_peak_bytes",
    "large_rows",
    "read_seconds_5_3m",
    "made_requests",
    "make_seconds",
}


def figures(**changes: float) -> TraceBenchmark:
    whole = TraceBenchmark(BURSTGPT_1_ROWS, 0.2, 0.1, 2.0, 10**9, 5_300_000, 8.0, BURSTGPT_1_ROWS, 3.0)
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_every_figure_is_measured_and_the_stages_are_told() -> None:
    stages: list[str] = []
    benchmark = bench_traces(2000, stages.append, "burst_demo")
    assert set(benchmark.as_json()) == KEYS
    assert all(value > 0 for value in benchmark.as_json().values())
    assert benchmark.read_ratio_to_pyarrow == benchmark.read_seconds / benchmark.pyarrow_seconds
    assert benchmark.large_rows == 7413  # 2000 * 5.3 / 1.43
    assert benchmark.made_requests > 100
    assert stages[0] == "writing a file of 2,000 rows"
    assert len(stages) == 5


@pytest.mark.parametrize("has_sessions", [False, True])
def test_the_file_that_is_read_is_like_burstgpt(tmp_path: Path, has_sessions: bool) -> None:
    path = tmp_path / "file.csv"
    write_burstgpt_file(path, 5000, np.random.default_rng(1), has_sessions=has_sessions)
    trace = read_trace(path)
    assert len(trace) == 5000
    assert trace.duration_s < 61 * 86_400
    assert trace.model_names == ("ChatGPT", "GPT-4")
    conversation = trace.of_service(Service.CONVERSATION)
    assert 0.03 < len(conversation) / 5000 < 0.13
    assert 0.01 < np.mean(trace.output_tokens == 0) < 0.03
    sessions = len(np.unique(conversation.session))
    if has_sessions:
        assert sessions < 0.5 * len(conversation)
        assert trace.elapsed_s is not None
        assert np.array_equal(np.isnan(trace.elapsed_s), trace.service == Service.API)
    else:
        assert sessions == len(conversation)
        assert trace.elapsed_s is None


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_burstgpt_file(tmp_path / name, 1000, np.random.default_rng(7), has_sessions=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_drawn_by_default_is_61_days_with_as_many_requests_as_burstgpt() -> None:
    model = read_workload_model(find_workload(signature(bench_traces).parameters["model_name"].default))
    assert model.duration_s == 61 * 86_400
    assert expected_requests(model) == pytest.approx(BURSTGPT_1_ROWS, rel=0.05)


def test_a_target_is_met_up_to_its_bound_and_missed_above_it() -> None:
    assert all(verdict.is_met for verdict in verdicts(TARGETS, figures()))
    assert (
        figures().conclusion().startswith("Every target is met: two months of traffic are read in 0.20 s, 2.00 times")
    )
    for key in TARGETS:
        slow = figures(**{key: getattr(figures(), key) * 1.01})
        assert [verdict.is_met for verdict in verdicts(TARGETS, slow)].count(False) == 1
        assert slow.conclusion() == f"3 of 4 targets are met; missed: {TARGETS[key].what}."


def test_with_other_rows_no_target_is_claimed() -> None:
    assert figures(rows=1000).conclusion() == "The targets are for 1,430,000 rows: with 1,000 they say nothing."


def test_the_command_prints_json_or_a_table_with_a_conclusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.bench_traces.bench_traces", lambda rows, _: figures(rows=rows))
    printed = CliRunner().invoke(bench_app, ["traces", "--rows", "300", "--json"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout) == figures(rows=300).as_json()
    table = CliRunner().invoke(bench_app, ["traces"])
    assert "reading, against a bare pyarrow.csv.read_csv" in table.stdout
    assert table.stdout.count(" met ") == 4
    assert "Every target is met" in table.stdout
