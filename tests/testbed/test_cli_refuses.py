"""Bad input is one line on stderr and exit code 2; nothing is overwritten."""

from pathlib import Path

import pytest
import yaml

from tests.testbed.command import DEMO, QUICKSTART, ROOT, SHORT, assert_refused, burstscale


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
