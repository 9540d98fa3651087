"""The README tells the truth: each command in it is run here, or is named below with the reason why not."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from autoscaler.policies import POLICIES
from loadgen.strict_config import parse
from loadgen.workload import WorkloadModel, draw_trace
from testbed.config import Overrides, load_experiment
from testbed.results import read_results
from testbed.simulate import simulate_experiment
from tests.testbed.command import ROOT, burstscale

README = (ROOT / "README.md").read_text(encoding="utf-8")

NOT_RUN = {
    "make demo": "runs `burstscale run` on the quickstart, which test_the_live_commands runs",
    "make test": "runs this test",
    'pip install ".[vllm]"': "the GPU wheel",
    "serve run configs/serve/vllm_gpu.yaml": "needs GPUs; the file is loaded by test_configs",
    "burstscale trace fetch azure2023": "needs the internet; test_fetch runs it against a server of its own",
    "burstscale load burst_demo --url http://127.0.0.1:8000 --model llama-3.1-8b-instruct -o out/gpu": "needs GPUs",
}
SHORTENED = {
    # Two months take half a minute; `bench simulator` measures them, and a week has as many instants written down.
    "--trace model_of_burstgpt --policy ray-default": ("--limit-s", "604800"),
    # A fleet that meets a burst, live, is what test_live is about.
    "quickstart.yaml -o out/live": ("--limit-s", "20"),
}
TRAFFIC = (ROOT / "docs" / "traffic.md").read_text(encoding="utf-8")
LIVE = ("burstscale run", "burstscale load")


def readme_commands() -> list[str]:
    """Every line of the README's code blocks, without its comment."""
    blocks = re.findall(r"^```\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    lines = [re.split(r"\s{2,}#", line)[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def is_live(command: str) -> bool:
    return command.startswith(LIVE) and command not in NOT_RUN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a fresh clone, as far as the commands look."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def words(command: str) -> list[str]:
    """A command as the shell splits it, with the options that shorten it."""
    return shlex.split(command) + [
        option for part, options in SHORTENED.items() if part in command for option in options
    ]


def run(command: str, folder: Path, timeout_s: float = 400.0) -> str:
    """Run a command of the README as it stands, or shortened, with this Python's scripts first on the path."""
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        words(command),
        cwd=folder,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_first_two_commands_are_demo_and_test() -> None:
    assert readme_commands()[:2] == ["make demo", "make test"]


def test_each_command_that_is_not_run_is_still_in_the_readme() -> None:
    assert set(NOT_RUN) <= set(readme_commands())


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?<!trace )make ([a-z][a-z-]+)", README))
    assert named >= {"demo", "test", "test-vllm", "test-browser"}
    assert named <= targets


def test_the_files_that_the_readme_names_exist() -> None:
    links = re.findall(r"\]\(((?:docs|autoscaler|CHANGELOG)[^)#]*)\)", README)
    for path in links + re.findall(r"configs/[\w/.]+\.yaml", README):
        assert (ROOT / path).is_file(), path


def test_the_commands_run_in_their_order_and_leave_what_they_say(folder: Path) -> None:
    commands = [command for command in readme_commands() if command not in NOT_RUN and not is_live(command)]
    assert len(commands) >= 7
    assert run(commands[0], folder).strip()
    for command in commands[1:]:  # in this process: another one spends most of its time on imports
        program, *arguments = words(command)
        assert program == "burstscale"
        code, stdout, stderr = burstscale(*arguments, cwd=folder)
        assert code == 0, f"{command}\n{stdout}\n{stderr}"
        assert stdout.strip(), f"{command}: printed nothing"
    assert read_results(folder / "out/simulated").complete
    assert (folder / "models/tiny-llama/config.json").is_file()


def test_the_comparison_is_what_the_simulator_says(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([\w-]+)`.*?\| ([\d.]+) % \| (\d+) \| ([\d.]+) \| (\d+) \|$", README, flags=re.MULTILINE)
    assert {policy for policy, *_ in rows} == set(POLICIES)
    for policy, attainment_percent, failed, gpu_hours, most_replicas in rows:
        experiment = load_experiment(ROOT / "configs/experiments/quickstart.yaml", Overrides(policy=policy))
        summary = read_results(simulate_experiment(experiment, tmp_path / policy, lambda *_: None)).summary
        assert summary is not None
        total, fleet = summary["requests"]["total"], summary["fleet"]
        assert 100 * total["attainment_fraction"] == pytest.approx(float(attainment_percent), abs=0.051), policy
        assert total["offered"] - total["ok"] == int(failed), policy
        assert fleet["gpu_hours"] == pytest.approx(float(gpu_hours), abs=0.00051), policy
        assert fleet["peak_ready_replicas"] == int(most_replicas), policy


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_live_commands_run(folder: Path) -> None:
    quickstart, load, azure = [command for command in readme_commands() if is_live(command)]
    output = run(quickstart, folder)
    live = read_results(folder / "out/live")
    assert "report: out/live/report.html" in output
    assert live.complete
    assert len(live.records) == live.environment["trace"]["requests"]
    # The others are run at full length elsewhere or need a server: here, that their options are as the README says.
    for command, missing in ((load, "burst.parquet"), (azure, "AzureLLMInferenceTrace_conv.csv")):
        with pytest.raises(AssertionError, match=missing):
            run(command, folder)


def test_the_workload_model_in_the_docs_can_be_drawn() -> None:
    (model,) = re.findall(r"^```yaml\n(.*?)^```", TRAFFIC, flags=re.MULTILINE | re.DOTALL)
    trace = draw_trace(parse(WorkloadModel, yaml.safe_load(model), "docs/traffic.md"), np.random.default_rng(0))
    assert len(trace) > 100_000
