"""The figures of docs/fidelity.md are those that `burstscale validate` finds; and both commands from the outside."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoscaler.profile_fit.profile_file import MixedRatios, mixed_ratios
from autoscaler.simulator.cost_model import known_hardware
from loadgen.errors import InputError
from testbed.cli import app
from testbed.validate_requests import check_requests, read_run
from testbed.validate_silicon import check_silicon, errors_otherwise

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "../shared/data/gpu_profiles"
FIDELITY = (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")

needs_tables = pytest.mark.skipif(not TABLES.is_dir(), reason="the measured GPU tables are not here")


def stated(pattern: str) -> list[float]:
    """The numbers that docs/fidelity.md states where `pattern` matches."""
    found = re.search(pattern, FIDELITY)
    assert found is not None, f"docs/fidelity.md does not say {pattern}"
    return [float(number) for number in found.groups()]


@pytest.fixture(scope="module")
def ratios() -> MixedRatios:
    """What the cards with measured mixed steps say for the others."""
    return mixed_ratios(TABLES)


@needs_tables
def test_the_measured_requests_are_predicted_as_closely_as_the_docs_say(ratios: MixedRatios) -> None:
    check = next(iter(check_requests(TABLES, ratios)))
    assert check.requests == 300
    errors = check.errors_percent
    ttft, tpot, e2e = stated(r"\| 1 ms \(the rule\) \| ([+-][\d.]+) \| ([+-][\d.]+) \| ([+-][\d.]+) \|")
    assert [errors["ttft"], errors["tpot"], errors["e2e"]] == pytest.approx([ttft, tpot, e2e], abs=0.05)
    without = stated(r"Without the prefix cache: ([+-][\d.]+), ([+-][\d.]+), ([+-][\d.]+)")
    assert list(check.without_prefix_cache.values()) == pytest.approx(without, abs=0.05)
    assert check.is_within_target == all(abs(error) <= 5 for error in errors.values())
    # vLLM's own means, as they were published with the run
    assert check.measured.ttft_s == pytest.approx(65.4566, abs=0.0005)
    assert check.measured.tpot_s == pytest.approx(0.0324, abs=0.00005)
    assert json.loads(json.dumps(check.as_json()))["by_host_s"]["0.001"] == pytest.approx(errors)


@needs_tables
def test_the_measured_tpots_are_predicted_as_closely_as_the_docs_say(ratios: MixedRatios) -> None:
    found = check_silicon(TABLES, ratios)
    check = json.loads(json.dumps(found.as_json()))
    assert (check["runs"], check["left_out"]["runs"]) == (105, 21)
    (all_cards,) = stated(r"\| all 105 \| ([\d.]+) \|")
    assert check["mean_tpot_error_percent"] == pytest.approx(all_cards, abs=0.005)
    errors = [abs(row["predicted_tpot_s"] / row["measured_tpot_s"] - 1) for row in check["rows"]]
    assert 100 * sum(errors) / len(errors) == pytest.approx(check["mean_tpot_error_percent"])
    assert check["is_within_target"] == (check["mean_tpot_error_percent"] <= 6)
    for name, error in check["by_cards"].items():
        (said,) = stated(rf"\| {name} \| ([\d.]+) \|")
        assert error == pytest.approx(said, abs=0.05), name
    (left_out,) = stated(r"\| the 21 left out \| ([\d.]+) \|")
    assert check["left_out"]["mean_tpot_error_percent"] == pytest.approx(left_out, abs=0.5)


@needs_tables
def test_another_host_time_gives_the_error_that_the_docs_say(ratios: MixedRatios) -> None:
    name, error = next(errors_otherwise(TABLES, ratios))  # the others take as long each
    (said,) = stated(rf"\| {name} \| ([\d.]+) \|")
    assert error == pytest.approx(said, abs=0.05)


def test_the_docs_state_the_fit_errors_of_every_profile() -> None:
    ran = CliRunner().invoke(app, ["hardware", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(ran.stdout)}
    assert sorted(rows) == known_hardware()
    for name, row in rows.items():
        errors = row["fit_error_percent"]
        if errors is not None:
            assert stated(rf"\| {name} \| ([\d.]+) \| ([\d.]+) \|") == pytest.approx(
                [errors["prefill"], errors["decode"]], abs=0.051
            )


def test_the_list_of_hardware_tells_a_planner_how_fast_each_is() -> None:
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["hardware", "--json"]).stdout)}
    row = rows["a100-llama-2-13b"]
    # 26 GB of weights at 2 TB/s are 13 ms; 2,048 tokens of 26 GFLOP at 312 TFLOPS are 12,000 tokens/s
    assert 0.013 < row["decode_step_1_sequence_s"] < 0.026
    assert 0.5 * 12_000 < row["prefill_tokens_per_s"] < 12_000
    assert rows["h100-llama-3-70b-tp4"]["gpus"] == 4
    assert rows["l40s-llama-2-13b"]["decode_step_64_sequences_s"] is None, "64 sequences of 512 tokens do not fit"
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["hardware"]).stdout
    assert all(name in text for name in known_hardware())


def test_validate_without_its_data_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folders aiconfigurator and llmservingsim in .*; give --data"):
        CliRunner().invoke(app, ["validate", "--data", str(tmp_path)], catch_exceptions=False)


def test_profile_fit_wants_one_profile_or_all(tmp_path: Path) -> None:
    for options in ([], ["--gpu", "a100"], ["--all", "--gpu", "a100", "--model", "llama-2-7b"]):
        with pytest.raises(InputError, match="give --gpu and --model, or --all"):
            CliRunner().invoke(
                app, ["profile", "fit", "--tables", str(tmp_path), "-o", "x.yaml", *options], catch_exceptions=False
            )


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"arrival_time": 1}\n')
    with pytest.raises(InputError, match="no run of LLMServingSim's bench"):
        read_run(tmp_path)
