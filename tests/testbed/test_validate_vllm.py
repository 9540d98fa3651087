"""Real vLLM on this machine: a profile that is measured here predicts another load; the log says what was run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testbed.latency_errors import TARGET_PERCENT, VllmCheck
from testbed.validate_vllm import check_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm installs it")


@pytest.fixture(scope="module")
def check() -> VllmCheck:
    """Three repeats, as the command runs it, but shorter."""
    return check_vllm(repeats=3, round_s=18.0, held_out_s=25.0)


def assert_within_target(check: VllmCheck, errors_percent: dict[str, dict[str, float]]) -> None:
    """Within the target of what was measured, which is known to half of what the same load differs by from run to run.

    The command holds the medians alone against the target (docs/fidelity.md).
    """
    for name, errors in errors_percent.items():
        for of in errors.keys() & TARGET_PERCENT.keys():
            target = TARGET_PERCENT[of]
            tolerance = target + check.spread_percent[name][of] / 2
            assert abs(errors[of]) <= tolerance, f"{name} {of}: want within {tolerance:.0f} %, got {errors_percent}"


def test_the_limits_are_those_that_the_engine_was_started_with(check: VllmCheck) -> None:
    profile = check.profile
    assert (profile.kv_cache_tokens, profile.block_tokens) == (256 * 128, 128)
    assert (profile.max_sequences, profile.max_batched_tokens, profile.max_model_tokens) == (32, 512, 2048)
    assert check.requests >= 10
    assert profile.host_s > 0
    assert profile.fit_error_percent is not None
    assert profile.fit_error_percent.mixed is not None


def skip_where_the_machine_is_busy(check: VllmCheck) -> None:
    """Where the repeats of one load lie more than twice the target apart, a median of three says nothing."""
    spread = max(row["mean"] for row in check.spread_percent.values())
    if spread > 2 * TARGET_PERCENT["mean"]:
        pytest.skip(f"this machine is busy with other things: the same load measured again differs by {spread:.0f} %")


def test_with_the_logged_step_times_latencies_are_those_that_were_measured(check: VllmCheck) -> None:
    """What is left then is the schedule, and what lies outside the engine."""
    skip_where_the_machine_is_busy(check)
    assert_within_target(check, check.logged_errors_percent)


def test_latencies_of_another_load_are_predicted_from_the_fitted_one(check: VllmCheck) -> None:
    """Mean and p90 of TTFT, TPOT and E2E, as the median over the repeats, without the p90 of TPOT.

    That rests on the six or seven requests of this short load with one or two gaps beside a long prompt, and was off by
    anything from -16 to +37 % (docs/fidelity.md). With logged step times it is held, above.
    """
    skip_where_the_machine_is_busy(check)
    errors_percent = {name: dict(errors) for name, errors in check.errors_percent.items()}
    del errors_percent["tpot"]["p90"]
    assert_within_target(check, errors_percent)


def test_profile_measure_starts_an_engine_and_writes_its_profile(tmp_path: Path) -> None:
    from autoscaler.simulator.cost_model import read_hardware
    from testbed.validate_vllm import CPU_ENVIRONMENT, ENGINE_KWARGS

    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "testbed.cli"]
    environment = {**os.environ, **CPU_ENVIRONMENT, "PYTHONPATH": str(root)}
    arguments = [f"{key}={json.dumps(value)}" for key, value in ENGINE_KWARGS.items()]
    for step in (
        ["tiny-model", "model"],
        ["profile", "measure", "--engine", "model", *arguments, "max_num_seqs=8", "--seconds", "10", "-o", "mine.yaml"],
    ):
        done = subprocess.run(
            [*command, *step], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
    hardware = read_hardware(tmp_path / "mine.yaml")
    assert (hardware.name, hardware.model, hardware.max_sequences) == ("mine", "model", 8)
    assert hardware.kv_cache_tokens == 256 * 128
    assert np.isfinite(hardware.host_s_range).all()
    assert "by the log of its own steps" in hardware.source
    assert "mixed" in done.stdout
