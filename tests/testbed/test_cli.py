"""The command as a person meets it: what it leaves, what it says, and that a run can be repeated."""

import hashlib
import json
from pathlib import Path

import pytest

from testbed.results import read_results
from tests.testbed.command import QUICKSTART, ROOT, SHORT, assert_refused, burstscale, burstscale_process

TWO_MODELS = ROOT / "configs/experiments/two_models.yaml"


def test_simulate_ends_with_a_summary_and_the_path_of_the_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = burstscale("simulate", QUICKSTART, *SHORT, "-o", out)
    assert result.returncode == 0, result.stderr
    assert f"report: {out / 'report.html'}" in result.stdout
    results = read_results(out)
    assert results.complete
    assert len(results.records) == results.environment["trace"]["requests"] > 10
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "decisions.jsonl",
        "engine.parquet",
        "environment.json",
        "records.parquet",
        "replicas.parquet",
        "report.html",
        "summary.json",
    ]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed, command in (("a", "7", burstscale), ("b", "7", burstscale_process), ("c", "8", burstscale)):
        done = command("simulate", QUICKSTART, *SHORT, "--seed", seed, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr

    def digest(name: str, file: str) -> str:
        return hashlib.sha256((tmp_path / name / file).read_bytes()).hexdigest()

    for file in ("records.parquet", "decisions.jsonl"):
        assert digest("a", file) == digest("b", file)
        assert digest("a", file) != digest("c", file)


def test_the_config_of_a_results_folder_repeats_the_run_from_anywhere(tmp_path: Path) -> None:
    assert burstscale("simulate", QUICKSTART, *SHORT, "--speed", "2", "-o", tmp_path / "first").returncode == 0
    again = burstscale_process("simulate", tmp_path / "first/config.yaml", "-o", tmp_path / "second", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for file in ("records.parquet", "decisions.jsonl", "config.yaml"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("policy", ["static", "ray-default", "reactive", "forecast-quantile"])
def test_every_policy_can_be_put_into_the_same_experiment_by_its_name(tmp_path: Path, policy: str) -> None:
    result = burstscale("simulate", QUICKSTART, *SHORT, "--policy", policy, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert read_results(tmp_path / "out").config["serve"]["policy"]["name"] == policy


def test_another_profile_is_simulated_with_what_follows_from_it_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = burstscale("simulate", QUICKSTART, *SHORT, "--hardware", "h100-llama-2-13b", "-o", out)
    assert result.returncode == 0, result.stderr
    assert "note: hardware h100-llama-2-13b in place of a100-llama-2-13b" in result.stdout
    assert "derived from h100-llama-2-13b" in result.stdout
    assert "derived from h100-llama-2-13b" in (out / "report.html").read_text()
    again = burstscale("simulate", out / "config.yaml", "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again/decisions.jsonl").read_bytes() == (out / "decisions.jsonl").read_bytes()


def test_several_models_are_simulated_from_one_file_and_not_run_live(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = burstscale("simulate", TWO_MODELS, "--limit-s", "120", "--rate-factor", "1", "-o", out)
    assert result.returncode == 0, result.stderr
    for words in ("gpt-4 conversation", "Of 16 GPUs", f"report: {out / 'report.html'}"):
        assert words in result.stdout
    assert set(read_results(out).records["model"]) == {"chatgpt", "gpt-4"}
    again = burstscale("report", out)
    assert again.returncode == 0, again.stderr
    assert_refused(burstscale("run", TWO_MODELS, "-o", tmp_path / "live"), "only `burstscale simulate` takes")
    assert_refused(burstscale("simulate", TWO_MODELS, "--replicas", "2", "-o", tmp_path / "x"), "does not say which")


def test_report_takes_other_windows_and_leaves_the_summary_as_it_is(tmp_path: Path) -> None:
    out, page = tmp_path / "run", tmp_path / "page.html"
    assert burstscale("simulate", QUICKSTART, *SHORT, "-o", out).returncode == 0
    before = (out / "summary.json").read_bytes()
    result = burstscale("report", out, "--window-s", "10", "-o", page)
    assert result.returncode == 0, result.stderr
    assert "windows of 10 s" in result.stdout
    assert "<span>windows of 10 s</span>" in page.read_text()
    assert (out / "summary.json").read_bytes() == before
    assert burstscale("report", out, "--window-s", "0.5").returncode == 2


def test_report_writes_the_page_again_also_for_a_run_that_was_cut_short(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert burstscale("simulate", QUICKSTART, *SHORT, "-o", out).returncode == 0
    for name in ("summary.json", "report.html"):
        (out / name).unlink()
    result = burstscale("report", out)
    assert result.returncode == 0, result.stderr
    assert "cut short" in result.stdout
    assert "cut short" in (out / "report.html").read_text()


def test_policies_lists_each_policy_with_its_parameters() -> None:
    result = burstscale("policies")
    assert result.returncode == 0
    for words in ("static", "ray-default", "forecast-quantile", "replica_requests_per_s", "upscale_delay_s"):
        assert words in result.stdout


def test_a_rate_factor_scales_an_experiment(tmp_path: Path) -> None:
    requests = []
    for name, factor in (("one", "1"), ("three", "3")):
        done = burstscale("simulate", QUICKSTART, *SHORT, "--rate-factor", factor, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        results = read_results(tmp_path / name)
        requests.append(results.environment["trace"]["requests"])
        assert results.config["workload"]["rate_factor"] == float(factor)
    assert requests[1] == 3 * requests[0]


def test_a_forecaster_is_backtested_on_a_trace(tmp_path: Path) -> None:
    made = tmp_path / "made.parquet"
    assert burstscale("trace", "make", ROOT / "configs/workloads/burst_demo.yaml", "-o", made).returncode == 0
    options = ("--trace", made, "--forecaster", "last-value", "--bin-s", "2", "--horizon-s", "6")
    result = burstscale("forecast", "backtest", *options, "--json")
    assert result.returncode == 0, result.stderr
    assert {row["lead_s"] for row in json.loads(result.stdout)[0]["rows"]} == {2.0, 4.0, 6.0}
    assert "coverage" in burstscale("forecast", "backtest", *options).stdout
