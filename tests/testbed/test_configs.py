"""Every YAML in configs/ is loaded by the code that reads it; a new folder or kind must be named here."""

from pathlib import Path

import pytest

from autoscaler.simulator.cost_model import load_hardware
from loadgen.strict_config import read_yaml
from loadgen.workload import read_workload_model
from serve_app.config import read_serve_file
from testbed.config import Overrides, has_models, load_experiment
from testbed.models_config import load_models_experiment

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_configuration_is_valid(path: Path) -> None:
    match path.parent.name:
        case "experiments" if has_models(read_yaml(path)):
            assert load_models_experiment(path, Overrides()).parts
        case "experiments":
            experiment = load_experiment(path, Overrides(traffic=Path("trace.csv")))
            assert experiment.config.name
        case "serve":
            app, address = read_serve_file(path)
            assert address.host == "127.0.0.1", "the shipped files listen on loopback alone"
            load_hardware(app.engine.hardware)
        case "hardware":
            assert load_hardware(path.stem).source
        case "workloads":
            assert read_workload_model(path).streams
        case folder:
            pytest.fail(f"configs/{folder} holds {path.name}, and no test loads it")


def test_there_are_configurations_to_load() -> None:
    assert {path.parent.name for path in FILES} == {"experiments", "serve", "hardware", "workloads"}
