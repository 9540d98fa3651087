"""The export for AIPerf's tools: its own models take it, where it is installed, and its figures are the run's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.cli_export import ExportFormat, export_run
from testbed.export.aiperf import REQUESTS_FILE, SUMMARY_FILE, write_aiperf_files
from testbed.results import Results, read_results


@pytest.fixture
def run(tmp_path: Path, story: Any, write_run: Any) -> Results:
    """A run with failures."""
    return read_results(write_run(tmp_path / "run", story))


def read(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines and the summary."""
    lines = [json.loads(line) for line in (folder / REQUESTS_FILE).read_text().splitlines()]
    return lines, json.loads((folder / SUMMARY_FILE).read_text())


def test_there_is_a_line_for_each_request_sent_with_its_latencies_or_its_error(run: Results, tmp_path: Path) -> None:
    write_aiperf_files(run, tmp_path / "aiperf")
    lines, summary = read(tmp_path / "aiperf")
    rows = run.records.set_index("request_id")
    assert len(lines) == len(rows)
    for line in lines:
        row = rows.loc[line["metadata"]["session_num"]]
        if row["status"] == "ok":
            assert line["error"] is None
            latency_ms = 1000 * (row["finished_s"] - row["sent_s"])
            assert line["metrics"]["request_latency"]["value"] == pytest.approx(latency_ms)
            spent_ns = line["metadata"]["request_end_ns"] - line["metadata"]["request_start_ns"]
            assert spent_ns == pytest.approx(latency_ms * 1e6, abs=2000)
        else:
            assert (line["metrics"], line["error"]["type"]) == ({}, row["cause"])
    ok = rows[rows["status"] == "ok"]
    assert summary["request_count"]["avg"] == len(ok)
    ttft_ms = 1000 * (ok["first_token_s"] - ok["sent_s"])
    assert summary["time_to_first_token"]["p99"] == pytest.approx(np.percentile(ttft_ms, 99))
    assert sum(entry["count"] for entry in summary["error_summary"]) == len(rows) - len(ok) > 0


def test_aiperfs_own_models_and_its_plot_loader_read_the_files(run: Results, tmp_path: Path) -> None:
    pytest.importorskip("aiperf", reason="AIPerf is not installed")
    from aiperf.common.models.export_models import JsonExportData
    from aiperf.common.models.record_models import MetricRecordInfo
    from aiperf.plot.core.data_loader import DataLoader

    write_aiperf_files(run, tmp_path / "aiperf")
    lines, summary = read(tmp_path / "aiperf")
    for line in lines:
        MetricRecordInfo.model_validate(line)
    assert JsonExportData.model_validate(summary).request_count is not None
    loaded = DataLoader().load_run(tmp_path / "aiperf")
    assert loaded.requests is not None
    assert len(loaded.requests) > 0


def test_the_command_writes_nothing_over(run: Results, tmp_path: Path) -> None:
    export_run(run.path, ExportFormat.VLLM_BENCH, tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["completed"] > 0
    with pytest.raises(Exception, match="exists already"):
        export_run(run.path, ExportFormat.AIPERF, tmp_path / "bench.json")
