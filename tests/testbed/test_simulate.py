"""What a simulated run leaves out when it is long, and what it never leaves out."""

from pathlib import Path

import pytest

from testbed import simulate
from testbed.config import Overrides, load_experiment
from testbed.results import Results, read_results
from testbed.simulate import simulate_experiment

QUICKSTART = Path(__file__).parents[2] / "configs/experiments/quickstart.yaml"


def run(folder: Path, policy: str) -> Results:
    experiment = load_experiment(QUICKSTART, Overrides(policy=policy))
    return read_results(simulate_experiment(experiment, folder, lambda *_: None))


def test_a_long_run_makes_no_forecasts_for_a_rule_that_sees_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", "ray-default")
    assert any(line["forecast"] for line in whole.decisions)
    monkeypatch.setattr(simulate, "RECORDED_INSTANTS", 9)  # of 90 s: one every ten seconds
    long = run(tmp_path / "long", "ray-default")
    assert not any(line["forecast"] for line in long.decisions)
    assert len(long.decisions) < len(whole.decisions) / 3
    assert long.records.equals(whole.records)
    assert long.replicas.equals(whole.replicas)


def test_a_policy_that_goes_by_forecasts_has_them_in_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "RECORDED_INSTANTS", 9)
    assert any(line["forecast"] for line in run(tmp_path / "run", "forecast-quantile").decisions)
