"""An experiment of several models: whose traffic is whose, what repeats it, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from loadgen.errors import InputError
from loadgen.trace_file import save_trace
from testbed.config import Overrides, load_experiment, read_source, resolve_workload
from testbed.models_config import ModelsExperiment, as_yaml_values, load_models_experiment, load_models_traffic

CONFIGS = Path(__file__).parents[2] / "configs"
SERVE = str(CONFIGS / "serve/emulated.yaml")
LENGTHS = {"distribution": "constant", "value": 50}
STREAM = {
    "service": "conversation",
    "models": {"small": 0.7, "large": 0.3},
    "arrivals": {"process": "gamma", "rate_per_s": 2.0, "alpha": 1.0},
    "prompt_tokens": LENGTHS,
    "output_tokens": LENGTHS,
}
TRAFFIC = {"model": {"name": "two", "duration_s": 60, "streams": [STREAM]}}


def values(**changes: Any) -> dict[str, Any]:
    """Two models that share their traffic."""
    models = [{"name": name, "trace_model": name, "serve": SERVE} for name in ("small", "large")]
    return {"name": "two", "seed": 7, "gpu_budget": 4, "workload": TRAFFIC, "models": models} | changes


def load(folder: Path, document: dict[str, Any], overrides: Overrides | None = None) -> ModelsExperiment:
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_models_experiment(path, overrides or Overrides())


def test_each_model_gets_its_part_of_the_traffic(tmp_path: Path) -> None:
    experiment = load(tmp_path, values())
    assert experiment.config.workload is not None
    source = read_source(experiment.config.workload, 7)
    _, traces = load_models_traffic(experiment)
    assert list(traces) == ["small", "large"]
    for name, trace in traces.items():
        assert trace.arrival_s.tolist() == source.of_model(name).arrival_s.tolist()
        assert trace.duration_s == 60
    assert len(traces["small"]) > len(traces["large"]) > 10


def test_models_with_equal_traffic_of_their_own_draw_it_each_for_itself(tmp_path: Path) -> None:
    models = [{"name": name, "workload": TRAFFIC, "serve": SERVE} for name in ("a", "b")]
    _, traces = load_models_traffic(load(tmp_path, values(models=models, workload=None)))
    assert traces["a"].arrival_s.tolist() != traces["b"].arrival_s.tolist()


def test_the_resolved_file_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "traffic.yaml").write_text(yaml.safe_dump(TRAFFIC["model"]))
    own = {"name": "own", "workload": {"model": "traffic.yaml"}, "serve": SERVE, "policy": {"name": "reactive"}}
    experiment, _ = load_models_traffic(load(tmp_path, values(models=[*values()["models"], own])))
    (tmp_path / "traffic.yaml").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = load(elsewhere, as_yaml_values(experiment))
    assert as_yaml_values(again) == as_yaml_values(experiment)
    assert again.parts["own"].app.policy.params["replica_requests_per_s"] > 0


def test_the_command_line_chooses_traffic_policy_and_seed_for_all(tmp_path: Path) -> None:
    whole = read_source(resolve_workload(load(tmp_path, values()).config.workload, tmp_path, Overrides()), 3)  # type: ignore[arg-type]
    save_trace(whole, tmp_path / "t.parquet")
    overrides = Overrides(traffic=tmp_path / "t.parquet", selection={"limit_s": 30.0}, policy="static", seed=9)
    experiment = load(tmp_path, values(), overrides)
    assert {part.app.policy.name for part in experiment.parts.values()} == {"static"}
    assert {part.config.seed for part in experiment.parts.values()} == {9}
    _, traces = load_models_traffic(experiment)
    expected = whole.of_model("large").arrival_s
    assert traces["large"].arrival_s.tolist() == expected[expected < 30].tolist()


def test_notes_say_which_model_they_are_about(tmp_path: Path) -> None:
    models = values()["models"]
    models[1]["policy"] = {"name": "reactive"}
    experiment, _ = load_models_traffic(load(tmp_path, values(models=models)))
    assert [note.split(" ")[:2] for note in experiment.notes] == [["large:", "replica_requests_per_s"]]


def test_faults_and_clients_are_each_models_own(tmp_path: Path) -> None:
    models = values()["models"]
    models[0]["faults"] = [{"kind": "replica_dies", "at_s": 5}]
    experiment = load(tmp_path, values(models=models))
    assert [len(part.config.faults) for part in experiment.parts.values()] == [1, 0]
    assert as_yaml_values(load(tmp_path, as_yaml_values(experiment))) == as_yaml_values(experiment)


SMALL, LARGE = values()["models"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": [SMALL, SMALL]}, "models must have different names, got small, small"),
        ({"models": []}, "'models': "),
        ({"models": [SMALL | {"workload": TRAFFIC}]}, r"models\.0.*either trace_model"),
        ({"models": [{"name": "small", "serve": SERVE}]}, "either trace_model"),
        ({"models": [SMALL | {"name": "a/b"}]}, r"models\.0\.name"),
        ({"workload": None}, "model 'small' names a trace_model; add the workload"),
        ({"gpu_budget": 1}, r"gpu_budget is 1, and the initial replicas hold 2 \(small 1, large 1\)"),
        ({"gpu_budget": 0}, "gpu_budget"),
        ({"models": [SMALL | {"trace_model": "none"}]}, "has no model 'none'"),
        ({"models": [SMALL | {"policy": {"name": "none"}}]}, "model 'small': unknown policy 'none'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        load_models_traffic(load(tmp_path, values(**changes)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(hardware="h100-llama-2-13b"), "--hardware does not say which"),
        (Overrides(replicas=2), "--replicas does not say which"),
        (Overrides(serve=Path(SERVE)), "--serve does not say which"),
    ],
)
def test_a_choice_for_one_model_is_refused_for_several(tmp_path: Path, overrides: Overrides, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, values(), overrides)


def test_traffic_of_their_own_is_not_replaced_by_one_trace(tmp_path: Path) -> None:
    models = [SMALL, {"name": "own", "workload": TRAFFIC, "serve": SERVE}]
    with pytest.raises(InputError, match="--trace replaces traffic that all models share"):
        load(tmp_path, values(models=models), Overrides(traffic=Path("burst_demo")))


def test_only_simulate_takes_it(tmp_path: Path) -> None:
    load(tmp_path, values())
    with pytest.raises(InputError, match="several models with one GPU budget, which only `burstscale simulate` takes"):
        load_experiment(tmp_path / "models.yaml", Overrides())
