"""Traces from the command line: made, described, fitted, converted; what is no trace is refused."""

import json
from pathlib import Path

import pytest

from loadgen.trace import Service
from loadgen.trace_file import load_trace
from tests.testbed.command import DEMO, ROOT, assert_refused, burstscale


def test_a_trace_is_made_described_and_converted(tmp_path: Path) -> None:
    model = ROOT / "configs/workloads/burst_demo.yaml"
    made, copy = tmp_path / "made.parquet", tmp_path / "copy.parquet"
    assert burstscale("trace", "make", model, "-o", made, "--seed", "3").returncode == 0
    assert burstscale("trace", "convert", made, "-o", copy).returncode == 0
    described = [json.loads(burstscale("trace", "describe", path, "--json").stdout) for path in (made, copy)]
    assert described[0] == described[1]
    assert described[0]["requests"] > 100
    assert set(described[0]["services"]) == {"conversation", "api"}
    table = burstscale("trace", "describe", made)
    assert f"{described[0]['requests']:,}" in table.stdout


def test_a_rate_series_is_described_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "hours.csv"
    path.write_text("day,hour,conversation,api\n0,0,7000,0\n0,1,9,1\n")
    described = json.loads(burstscale("trace", "describe", path, "--json").stdout)
    assert (described["requests"], described["duration_s"], described["prompt_tokens"]) == (7010, 7200.0, None)
    table = burstscale("trace", "describe", path).stdout
    assert "7,010" in table
    assert "A workload model turns them into requests" in " ".join(table.split())
    assert_refused(burstscale("trace", "describe", path, "--limit-s", "5"), "holds rates, not requests")
    assert_refused(burstscale("trace", "convert", path, "-o", tmp_path / "t.parquet"), "holds rates, not requests")


def test_a_workload_model_is_made_from_its_name_and_fitted_to_what_it_gave(tmp_path: Path) -> None:
    listed = burstscale("trace", "models")
    assert "burst_demo" in listed.stdout
    assert "Ninety seconds with one burst" in listed.stdout
    made, fitted, again = tmp_path / "made.parquet", tmp_path / "fitted.yaml", tmp_path / "again.parquet"
    assert burstscale("trace", "make", "burst_demo", "-o", made).returncode == 0
    result = burstscale("trace", "fit", made, "--window-s", "30", "-o", fitted)
    assert result.returncode == 0, result.stderr
    assert fitted.read_text().startswith("# Fitted to made.parquet in windows of 30 s.\n")
    assert burstscale("trace", "make", fitted, "-o", again).returncode == 0
    assert len(load_trace(again)) == pytest.approx(len(load_trace(made)), rel=0.3)
    assert load_trace(again).duration_s == load_trace(made).duration_s


def test_a_workload_that_is_not_shipped_is_refused_with_those_that_are(tmp_path: Path) -> None:
    result = burstscale("trace", "make", "nope", "-o", tmp_path / "out.parquet")
    assert_refused(result, "unknown workload 'nope'", "known: burst_demo")


def test_a_part_of_a_trace_is_converted_and_scaled_with_a_seed(tmp_path: Path) -> None:
    made = tmp_path / "made.parquet"
    assert burstscale("trace", "make", DEMO, "-o", made).returncode == 0
    part = ("--start-s", "20", "--limit-s", "40", "--service", "api", "--speed", "2", "--max-output-tokens", "50")
    assert burstscale("trace", "convert", made, *part, "-o", tmp_path / "part.parquet").returncode == 0
    whole, chosen = load_trace(made), load_trace(tmp_path / "part.parquet")
    api_s = whole.arrival_s[(whole.service == Service.API) & (whole.arrival_s >= 20) & (whole.arrival_s < 60)]
    assert chosen.duration_s == 20.0
    assert chosen.arrival_s.tolist() == ((api_s - 20) / 2).tolist()
    assert chosen.output_tokens.max() == 50
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = tmp_path / f"{name}.parquet"
        assert burstscale("trace", "convert", made, "--rate-factor", "2.5", "--seed", seed, "-o", out).returncode == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() != (tmp_path / "c.parquet").read_bytes()
    assert len(load_trace(tmp_path / "a.parquet")) / len(whole) == pytest.approx(2.5, abs=0.25)


def test_a_part_of_a_trace_is_described(tmp_path: Path) -> None:
    made, part = tmp_path / "made.parquet", tmp_path / "part.parquet"
    assert burstscale("trace", "make", DEMO, "-o", made).returncode == 0
    chosen = ("--start-s", "20", "--limit-s", "40", "--service", "api")
    assert burstscale("trace", "convert", made, *chosen, "-o", part).returncode == 0
    described = burstscale("trace", "describe", made, *chosen, "--json")
    assert described.returncode == 0, described.stderr
    assert described.stdout == burstscale("trace", "describe", part, "--json").stdout
    assert described.stdout != burstscale("trace", "describe", made, "--json").stdout
    assert_refused(burstscale("trace", "describe", made, "--limit-s", "nan"), "--limit-s: input should be")


def test_a_trace_that_does_not_exist_or_has_no_known_form_is_refused(tmp_path: Path) -> None:
    assert_refused(burstscale("trace", "describe", tmp_path / "none.csv"), "none.csv")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    assert_refused(burstscale("trace", "describe", tmp_path / "odd.csv"), "odd.csv")


def test_an_existing_trace_file_is_not_overwritten(tmp_path: Path) -> None:
    made = tmp_path / "made.parquet"
    made.write_text("mine")
    result = burstscale("trace", "make", ROOT / "configs/workloads/burst_demo.yaml", "-o", made)
    assert_refused(result, "exists already")
    assert made.read_text() == "mine"


def test_a_selection_that_leaves_no_request_is_refused(tmp_path: Path) -> None:
    made, out = tmp_path / "made.parquet", tmp_path / "part.parquet"
    assert burstscale("trace", "make", DEMO, "-o", made).returncode == 0
    for options, said in (
        (("--start-s", "100000"), "no window from 100000 s"),
        (("--model", "GPT-9"), "has no model 'GPT-9'; it has"),
        (("--limit-s", "1e-9"), "no request is left between 0 s and 1e-09 s"),
        (("--service", "batch"), "--service: input should be 'conversation' or 'api', got batch"),
        (("--max-prompt-tokens", "0"), "--max-prompt-tokens: input should be greater than 0, got 0"),
    ):
        assert_refused(burstscale("trace", "convert", made, *options, "-o", out), said)
        assert not out.exists()
