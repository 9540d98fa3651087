"""Another hardware profile, a static fleet, and GPUs that count: nothing that depended on the old profile stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from autoscaler.capacity import replica_capacity
from autoscaler.interface import Slo
from autoscaler.simulator.cost_model import load_hardware
from loadgen.errors import InputError
from loadgen.trace import Trace
from serve_app.config import AppConfig, PolicySettings, gpus_per_replica, read_serve_file
from testbed.config import Experiment, Overrides, load_experiment, load_workload, with_traffic
from testbed.replica_hardware import with_derived_rate, with_hardware
from testbed.results import read_results
from testbed.simulate import simulate_experiment

CONFIGS = Path(__file__).parents[2] / "configs"
QUICKSTART = CONFIGS / "experiments/quickstart.yaml"
FOUR_CARDS = "a100-llama-3-70b-tp4"


def application(name: str, **fleet: Any) -> AppConfig:
    """A shipped application with another fleet."""
    app, _ = read_serve_file(CONFIGS / f"serve/{name}.yaml")
    return app.model_copy(update={"fleet": app.fleet.model_copy(update=fleet)})


def requests(*, prompts: list[int], outputs: list[int], service: int = 0) -> Trace:
    """A trace of these requests, one a second."""
    count = len(prompts)
    return Trace(
        name="made",
        duration_s=float(count),
        arrival_s=np.arange(count, dtype=np.float64),
        prompt_tokens=np.array(prompts, np.int32),
        output_tokens=np.array(outputs, np.int32),
        service=np.full(count, service, np.int8),
        model=np.zeros(count, np.int16),
        session=np.full(count, -1, np.int64),
        model_names=("m",),
    )


def resolved(overrides: Overrides, path: Path = QUICKSTART) -> Experiment:
    """The experiment as a run takes it."""
    experiment = load_experiment(path, overrides)
    return with_traffic(experiment, load_workload(experiment))


def test_a_replica_holds_the_gpus_that_ray_reserves_else_those_of_its_profile() -> None:
    assert gpus_per_replica(application("emulated")) == 1
    assert gpus_per_replica(with_hardware(application("emulated"), FOUR_CARDS).app) == 4
    assert gpus_per_replica(application("vllm_gpu")) == 1
    assert gpus_per_replica(application("vllm_gpu", gpus_per_replica=0.5)) == 0.5
    assert gpus_per_replica(with_hardware(application("vllm_gpu"), FOUR_CARDS).app) == 4


def test_a_simulated_replica_of_four_cards_costs_four_gpu_hours_an_hour(tmp_path: Path) -> None:
    overrides = Overrides(hardware=FOUR_CARDS, replicas=2, selection={"limit_s": 20.0})
    folder = simulate_experiment(load_experiment(QUICKSTART, overrides), tmp_path / "run", lambda *_: None)
    results = read_results(folder)
    assert results.summary is not None
    fleet = results.summary["fleet"]
    assert fleet["gpu_hours"] == pytest.approx(4 * fleet["replica_seconds"] / 3600)
    assert results.environment["gpus_per_replica"] == 4


def test_the_files_rate_gives_way_to_one_derived_for_the_other_profile() -> None:
    experiment = resolved(Overrides(hardware="h100-llama-2-13b"))
    trace = load_workload(experiment)
    derived = replica_capacity(
        load_hardware("h100-llama-2-13b"), trace.prompt_tokens, trace.output_tokens, Slo(2.0, 0.2, 30.0), 8
    )
    params = experiment.app.policy.params
    assert params["replica_requests_per_s"] == pytest.approx(derived.requests_per_s, rel=0.01)
    assert params["level"] == 0.9, "what has nothing to do with the hardware stays"
    assert len(experiment.notes) == 2
    assert "max_ongoing_requests 8, cold_start_s 10" in experiment.notes[0]
    assert f"replica_requests_per_s {params['replica_requests_per_s']:g}, derived" in experiment.notes[1]


def test_a_rate_that_is_given_is_kept_and_one_that_is_left_open_is_derived(tmp_path: Path) -> None:
    values = yaml.safe_load(QUICKSTART.read_text())
    values["workload"]["model"] = "burst_demo"
    values["serve"] = str(CONFIGS / "serve/emulated.yaml")
    rates = {}
    for written in (2.4, "auto", None):
        values["policy"] = {"name": "reactive", "params": {"replica_requests_per_s": written} if written else {}}
        path = tmp_path / f"{written}.yaml"
        path.write_text(yaml.safe_dump(values))
        experiment = resolved(Overrides(), path)
        rates[written] = experiment.app.policy.params["replica_requests_per_s"]
        assert bool(experiment.notes) == (written != 2.4)
    assert rates[2.4] == 2.4
    assert rates["auto"] == rates[None] > 2.4


def test_the_same_profile_changes_nothing() -> None:
    assert resolved(Overrides(hardware="a100-llama-2-13b")) == resolved(Overrides())


def test_a_policy_of_the_users_own_gets_the_rate_where_it_names_it() -> None:
    own = PolicySettings(name="mine:Mine", params={"replica_requests_per_s": 1.0, "other": 2})
    chosen = with_hardware(application("emulated").model_copy(update={"policy": own}), "h100-llama-2-13b").app
    params = with_derived_rate(chosen, requests(prompts=[1000], outputs=[200])).app.policy.params
    assert params["other"] == 2
    assert params["replica_requests_per_s"] not in ("auto", 1.0)


def test_requests_that_the_hardware_cannot_hold_do_not_count() -> None:
    app = with_hardware(application("emulated"), "h100-llama-2-13b").app
    short = with_derived_rate(app, requests(prompts=[1000], outputs=[200])).app
    assert with_derived_rate(app, requests(prompts=[1000, 90_000], outputs=[200, 1])).app == short
    with pytest.raises(InputError, match="can hold none of its requests"):
        with_derived_rate(app, requests(prompts=[90_000], outputs=[1]))


def test_the_promise_to_those_who_cannot_wait_is_what_counts() -> None:
    app = with_hardware(application("emulated", max_ongoing_requests=200), "h100-llama-2-13b").app
    rates = [
        with_derived_rate(app, requests(prompts=[1000], outputs=[200], service=service)).app.policy.params
        for service in (0, 1)
    ]
    assert rates[0]["replica_requests_per_s"] <= rates[1]["replica_requests_per_s"]


def test_a_promise_that_no_request_can_be_given_is_refused_with_what_to_do() -> None:
    app = with_hardware(application("emulated"), "h100-llama-2-13b").app
    services = {label: service.model_copy(update={"tpot_s": 1e-6}) for label, service in app.services.items()}
    with pytest.raises(InputError, match=r"cannot be derived: .*or give replica_requests_per_s"):
        with_derived_rate(app.model_copy(update={"services": services}), requests(prompts=[100], outputs=[20]))


def test_replicas_makes_a_static_fleet_of_so_many(tmp_path: Path) -> None:
    experiment = load_experiment(QUICKSTART, Overrides(replicas=3, selection={"limit_s": 20.0}))
    assert experiment.app.policy == PolicySettings(name="static", params={"replicas": 3})
    folder = simulate_experiment(experiment, tmp_path / "run", lambda *_: None)
    replicas = read_results(folder).replicas
    assert replicas["state"].tolist() == ["ready"] * 3
    assert replicas["start_s"].tolist() == [0.0] * 3


def test_replicas_goes_with_no_other_policy() -> None:
    assert load_experiment(QUICKSTART, Overrides(replicas=3, policy="static")).app.fleet.max_replicas == 3
    with pytest.raises(InputError, match="--replicas is a static fleet of so many: it does not go with --policy react"):
        load_experiment(QUICKSTART, Overrides(replicas=3, policy="reactive"))
