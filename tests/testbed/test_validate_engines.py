"""`burstscale validate --vllm` and `--emulated`, and `profile measure`: what they say, and what they refuse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from autoscaler.simulator.cost_model import load_hardware, read_hardware, step_duration_s
from loadgen.errors import InputError
from loadgen.trace import make_trace
from loadgen.trace_file import save_trace
from testbed.cli import app
from testbed.engine_load import OfferedLoad
from testbed.latency_errors import Repeat, VllmCheck
from testbed.validate_emulated import Quantile, check_emulated
from testbed.validate_vllm import held_out_load, stretched


def repeat(ttft: float, tpot: float, e2e: float) -> Repeat:
    """Predictions that are off by so many percent, in mean and p90 alike."""
    measured = {name: {"mean": 0.5, "p90": 2.0} for name in ("ttft", "tpot", "e2e")}
    errors = {"ttft": ttft, "tpot": tpot, "e2e": e2e}
    predicted = {
        name: {of: seconds * (1 + errors[name] / 100) for of, seconds in row.items()} for name, row in measured.items()
    }
    return Repeat(1.0, measured, predicted, measured, {"sum": 0.0, "mean_absolute": 1.0})


def check_of(*repeats: Repeat) -> VllmCheck:
    return VllmCheck("vLLM", read_hardware("tiny-cpu"), 10, 20.0, 0.002, repeats)


def test_the_error_is_the_median_over_the_repeats() -> None:
    check = check_of(repeat(-3, 1, 9), repeat(40, 2, -9), repeat(5, 3, 8))
    errors = {name: row["mean"] for name, row in check.errors_percent.items()}
    assert errors == pytest.approx({"ttft": 5.0, "tpot": 2.0, "e2e": 8.0})
    assert check.is_within_target


def test_a_mean_that_is_off_by_more_than_10_percent_misses_the_target_and_a_p90_by_15() -> None:
    assert not check_of(repeat(12, 0, 0)).is_within_target  # the mean
    inside = repeat(9, 0, 0)
    p90 = {**inside.predicted_s, "e2e": {"mean": 0.5, "p90": 2.0 * 0.84}}
    assert check_of(inside).is_within_target
    assert not check_of(replace(inside, predicted_s=p90)).is_within_target


def test_the_spread_of_repeats_says_what_no_prediction_can_be_closer_than() -> None:
    one, other = repeat(0, 0, 0), repeat(0, 0, 0)
    slower = {name: {"mean": 0.7, "p90": 2.0} for name in one.measured_s}
    spread = check_of(one, one, replace(other, measured_s=slower)).spread_percent
    assert spread["ttft"] == pytest.approx({"mean": 40.0, "p90": 0.0})


def test_the_check_as_json_says_what_was_fitted_on_what() -> None:
    found = json.loads(json.dumps(check_of(repeat(-3, 1, 9)).as_json()))
    assert "closed loop" in found["fitted_on"]
    assert "open loop" in found["held_out"]
    assert found["errors_percent"]["e2e"]["p90"] == pytest.approx(9.0)
    assert found["repeats"][0]["disturbance"] == 1.0


def test_everything_takes_longer_on_stretched_hardware() -> None:
    hardware = load_hardware("rtx4090-llama-3-8b")
    one, twice = (step_duration_s(each, ((256, 0),), (512,) * 8) for each in (hardware, stretched(hardware, 2.0)))
    assert twice == pytest.approx(2 * one)


@pytest.mark.parametrize("factor", [5.0, 15.0])  # steps of 10 ms and more, as of the model that it is made for
def test_the_held_out_load_keeps_a_slow_engine_as_busy_as_a_fast_one(factor: float) -> None:
    hardware = stretched(load_hardware("tiny-cpu"), factor)
    load = held_out_load(hardware, 35.0, np.random.default_rng(0))
    assert load.arrival_s[-1] == pytest.approx(35.0)
    ended_s = load.replayed(hardware).finished_s.max()
    at_once_s = OfferedLoad(0 * load.arrival_s, load.prompt_tokens, load.output_tokens).replayed(hardware).finished_s
    assert 0.2 < at_once_s.max() / ended_s < 0.7
    assert ended_s < 45.0, "it keeps up"


def test_a_quantile_is_close_enough_by_its_share_or_by_5_ms() -> None:
    assert Quantile(10.0, 10.25).is_within_target
    assert Quantile(0.02, 0.0245).is_within_target
    assert not Quantile(0.2, 0.21).is_within_target


def test_the_emulated_engine_answers_every_request_of_the_trace() -> None:
    check = check_emulated(minutes=0.05, seed=1)
    assert check.requests > 3
    assert check.duration_s == 3.0
    for row in check.quantiles.values():
        assert list(row) == ["0.1", "0.5", "0.9", "0.99"]
        assert all(np.isfinite(one.emulated_s) and one.emulated_s > 0 for one in row.values())


def test_the_emulated_engine_is_held_against_a_fleet_whose_router_holds_nothing_back(tmp_path: Path) -> None:
    """The predicted side is what the engine alone would do, however many requests come at once."""
    arrival_s = np.concatenate([np.zeros(150), np.linspace(0.1, 2.9, 20)])
    prompts, outputs = np.full(170, 40), np.arange(170) % 4 + 1
    save_trace(make_trace("crowd", arrival_s, prompts, outputs, duration_s=3.0), tmp_path / "crowd.parquet")
    check = check_emulated(minutes=0.05, traffic=tmp_path / "crowd.parquet")
    alone = OfferedLoad(arrival_s, prompts, outputs).replayed(load_hardware(check.hardware))
    for level in ("0.1", "0.5", "0.9", "0.99"):
        assert check.quantiles["ttft"][level].simulated_s == pytest.approx(np.quantile(alone.ttft_s, float(level)))
        assert check.quantiles["e2e"][level].simulated_s == pytest.approx(np.quantile(alone.e2e_s, float(level)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "--vllm", "--emulated"], "one at a time"),
        (["profile", "measure", "-o", "x.yaml"], "give --engine or --url"),
        (["profile", "measure", "-o", "x.yaml", "--engine", "m", "--url", "http://127.0.0.1:1"], "one of them"),
        (["profile", "measure", "-o", "x.yaml", "--url", "http://127.0.0.1:1", "a=b"], "KEY=VALUE goes with --engine"),
        (["profile", "measure", "-o", "x.yaml", "--engine", "m", "a"], "'a' is no KEY=VALUE"),
        (
            ["profile", "measure", "-o", "x.yaml", "--url", "http://127.0.0.1:1"],
            "--url: no answer .*; is the server up",
        ),
    ],
)
def test_what_does_not_go_together_is_said(arguments: list[str], message: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path / argument) if argument == "x.yaml" else argument for argument in arguments]
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
