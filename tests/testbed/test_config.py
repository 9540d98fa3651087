"""An experiment's traffic and prompts are resolved with the file that names them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from loadgen.errors import InputError
from testbed.config import Overrides, as_yaml_values, load_experiment, load_workload
from testbed.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[2]


def experiment(folder: Path, prompts: dict[str, str] | None, serve: Any = "emulated") -> Path:
    """An experiment file in `folder` with these prompts, on a shipped fleet."""
    values = yaml.safe_load((ROOT / "configs/experiments/quickstart.yaml").read_text())
    values["workload"]["model"] = str(ROOT / "configs/workloads/burst_demo.yaml")
    values["serve"] = str(ROOT / f"configs/serve/{serve}.yaml") if isinstance(serve, str) else serve
    if prompts is not None:
        values["workload"]["prompts"] = prompts
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def resolved(path: Path) -> dict[str, Any]:
    """What config.yaml says of the prompts."""
    values: dict[str, Any] = as_yaml_values(load_experiment(path, Overrides()))["workload"]["prompts"]
    return values


def test_paths_are_relative_to_the_experiment_file(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    path = experiment(tmp_path, {"source": "texts.json", "tokenizer": "model"})
    assert resolved(path) == {"source": str(tmp_path / "texts.json"), "tokenizer": str(tmp_path / "model")}


def test_counts_beside_an_experiment_are_kept_in_what_it_is_resolved_to(tmp_path: Path) -> None:
    (tmp_path / "hours.csv").write_text("day,hour,all\n0,0,7\n0,1,9\n")
    path = experiment(tmp_path, None)
    values = yaml.safe_load(path.read_text())
    lengths = {"distribution": "constant", "value": 5}
    stream = {"service": "api", "model": "m", "prompt_tokens": lengths, "output_tokens": lengths}
    arrivals = {"process": "counts", "file": "hours.csv"}
    values["workload"]["model"] = {
        "name": "two hours",
        "duration_s": 7200,
        "streams": [{**stream, "arrivals": arrivals}],
    }
    path.write_text(yaml.safe_dump(values))
    kept = as_yaml_values(load_experiment(path, Overrides()))
    (tmp_path / "hours.csv").unlink()
    path.write_text(yaml.safe_dump(kept))
    assert len(load_workload(load_experiment(path, Overrides()))) == 16


def test_an_emulated_engine_counts_words(tmp_path: Path) -> None:
    assert resolved(experiment(tmp_path, None)) == {"source": "synthetic", "tokenizer": "words"}


def test_vllm_counts_with_the_tokenizer_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = experiment(tmp_path, None, serve="vllm_cpu")
    assert resolved(path)["tokenizer"] == "./models/tiny-llama"  # not made yet
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "models/tiny-llama")
    assert resolved(path)["tokenizer"] == str(tmp_path / "models/tiny-llama")
    application = yaml.safe_load((ROOT / "configs/serve/vllm_cpu.yaml").read_text())["applications"][0]["args"]
    application["engine"]["engine_kwargs"]["tokenizer"] = "org/other"
    assert resolved(experiment(tmp_path, None, serve=application))["tokenizer"] == "org/other"
    assert resolved(experiment(tmp_path, {"tokenizer": "words"}, serve=application))["tokenizer"] == "words"


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key 'workload\.prompts\.file'; known keys: source, tokenizer"):
        load_experiment(experiment(tmp_path, {"file": "x"}), Overrides())


def test_a_shipped_workload_is_named_in_the_file_or_in_place_of_its_trace(tmp_path: Path) -> None:
    path = experiment(tmp_path, None)
    values = yaml.safe_load(path.read_text())
    traces = []
    for workload, traffic in (({"model": "burst_demo"}, None), ({"trace": "no.csv"}, Path("burst_demo"))):
        values["workload"] = workload
        path.write_text(yaml.safe_dump(values))
        traces.append(load_workload(load_experiment(path, Overrides(traffic=traffic))))
    assert len(traces[0]) > 100
    assert traces[0].arrival_s.tolist() == traces[1].arrival_s.tolist()
    with pytest.raises(InputError, match=r"no\.csv"):
        load_workload(load_experiment(path, Overrides()))


def test_windows_of_less_than_a_second_are_refused(tmp_path: Path) -> None:
    path = experiment(tmp_path, None)
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | {"window_s": 0.5}))
    with pytest.raises(InputError, match="window_s"):
        load_experiment(path, Overrides())
