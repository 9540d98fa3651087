"""The command as a person meets it: bad input is one line on stderr and exit code 2; nothing is overwritten."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from loadgen.trace import Service
from loadgen.trace_file import load_trace
from testbed import cli
from testbed.results import read_results

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "configs/experiments/quickstart.yaml"
TWO_MODELS = ROOT / "configs/experiments/two_models.yaml"
DEMO = ROOT / "configs/workloads/burst_demo.yaml"
SHORT = ("--limit-s", "20")


@dataclass
class Finished:
    """What a command left: exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def burstscale(*arguments: str | Path) -> Finished:
    """Run the command in this process, from the project's root, as a shell would see it."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", ["burstscale", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        patch.chdir(ROOT)
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return Finished(code, stdout.getvalue(), stderr.getvalue())


def burstscale_process(*arguments: str | Path, cwd: Path = ROOT) -> Finished:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "testbed.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def assert_refused(result: Finished, *said: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, f"want one line, got:\n{result.stderr}"
    assert result.stderr.startswith("burstscale: ")
    for words in said:
        assert words in result.stderr


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A copy of the quickstart that a test may spoil, with absolute paths to the files that it names."""
    values = yaml.safe_load(QUICKSTART.read_text())
    values["workload"]["model"] = str(ROOT / "configs/workloads/burst_demo.yaml")
    values["serve"] = str(ROOT / "configs/serve/emulated.yaml")
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def spoil(experiment: Path, **changes: object) -> Path:
    values = yaml.safe_load(experiment.read_text()) | changes
    experiment.write_text(yaml.safe_dump(values))
    return experiment


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
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        done = burstscale_process("simulate", QUICKSTART, *SHORT, "--seed", seed, "-o", tmp_path / name)
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


# What it must refuse.


def test_an_unknown_key_is_refused_with_the_known_ones(experiment: Path, tmp_path: Path) -> None:
    result = burstscale("simulate", spoil(experiment, sede=3), "-o", tmp_path / "out")
    assert_refused(result, str(experiment), "unknown key 'sede'", "known keys:", "seed")
    assert not (tmp_path / "out").exists()


def test_a_policy_that_does_not_exist_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for command in ("simulate", "run"):
        result = burstscale(command, QUICKSTART, "--policy", "nope", "-o", tmp_path / "out")
        assert_refused(result, "unknown policy 'nope'", "known: static, ray-default")
        assert not (tmp_path / "out").exists()


def test_a_parameter_that_the_policy_does_not_have_is_refused(experiment: Path, tmp_path: Path) -> None:
    for command in ("simulate", "run"):
        spoil(experiment, policy={"name": "static", "params": {"replica": 3}})
        result = burstscale(command, experiment, "-o", tmp_path / "out")
        assert_refused(result, "'static' has no parameter 'replica'", "it takes: replicas")
        assert not (tmp_path / "out").exists()


def test_a_forecaster_that_does_not_exist_is_refused(experiment: Path, tmp_path: Path) -> None:
    for command in ("simulate", "run"):
        result = burstscale(command, spoil(experiment, forecaster={"name": "oracle"}), "-o", tmp_path / "out")
        assert_refused(result, "unknown forecaster 'oracle'", "last-value")


def test_a_bad_row_of_a_trace_is_refused_with_its_line_and_column(tmp_path: Path) -> None:
    trace = tmp_path / "bad.csv"
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    trace.write_text(f"{header}\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,abc,230,1317,Conversation log\n")
    result = burstscale("simulate", QUICKSTART, "--trace", trace, "-o", tmp_path / "out")
    assert_refused(result, "bad.csv line 3", "'Request tokens' is 'abc'")
    assert_refused(burstscale("trace", "describe", trace), "bad.csv line 3")


def test_a_trace_that_does_not_exist_or_has_no_known_form_is_refused(tmp_path: Path) -> None:
    assert_refused(burstscale("trace", "describe", tmp_path / "none.csv"), "none.csv")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    assert_refused(burstscale("trace", "describe", tmp_path / "odd.csv"), "odd.csv")


def test_an_experiment_without_traffic_is_refused(tmp_path: Path) -> None:
    result = burstscale("simulate", ROOT / "configs/experiments/azure_conv.yaml", "-o", tmp_path / "out")
    assert_refused(result, "names no traffic; give --trace PATH")


def test_a_url_where_nobody_answers_is_refused(tmp_path: Path) -> None:
    model = ROOT / "configs/workloads/burst_demo.yaml"
    url = "http://127.0.0.1:9"
    result = burstscale("load", model, "--url", url, "--model", "m", "-o", tmp_path / "out")
    assert_refused(result, "127.0.0.1:9", "is the server running?")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_a_run_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert burstscale("simulate", QUICKSTART, *SHORT, "-o", out).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for command in ("simulate", "run"):
        assert_refused(burstscale(command, QUICKSTART, *SHORT, "-o", out), str(out), "already holds a run")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_existing_trace_file_is_not_overwritten(tmp_path: Path) -> None:
    made = tmp_path / "made.parquet"
    made.write_text("mine")
    result = burstscale("trace", "make", ROOT / "configs/workloads/burst_demo.yaml", "-o", made)
    assert_refused(result, "exists already")
    assert made.read_text() == "mine"


SELECTING = (
    ("simulate", QUICKSTART),
    ("run", QUICKSTART),
    ("load", DEMO, "--url", "http://127.0.0.1:9", "--model", "m"),
    ("trace", "convert", DEMO),
)


@pytest.mark.parametrize("command", SELECTING, ids=lambda command: command[-1 if command[0] == "trace" else 0])
@pytest.mark.parametrize("option", ["--speed", "--limit-s", "--rate-factor"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_selection_out_of_range_is_refused_alike_by_every_command(
    tmp_path: Path, command: tuple[str, ...], option: str, value: str
) -> None:
    result = burstscale(*command, option, value, "-o", tmp_path / "out")
    assert_refused(result, f"{option}: input should be", "got ")
    assert not (tmp_path / "out").exists()


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
