"""Faults and phases of a start from the experiment file to the report, and what a live run says to them."""

from pathlib import Path

import pytest
import yaml

from autoscaler.simulator.faults import (
    LostMetrics,
    NodeDeath,
    ProvisioningBlocked,
    RandomDeaths,
    ReplicaDeath,
    SlowStart,
    StaleForecast,
)
from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.config import HEALTH_CHECK_PERIOD_S, FleetSettings
from testbed.config import Overrides, load_experiment
from testbed.progress import TerminalProgress
from testbed.report.facts import gather_facts
from testbed.report.fault_table import fault_table
from testbed.report.verdict import write_verdict
from testbed.results import Results, read_results
from testbed.simulate import fleet_of, simulate_experiment

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = CONFIGS / "experiments/faults.yaml"
FLEET = {"min_replicas": 1, "max_replicas": 4, "initial_replicas": 1, "max_ongoing_requests": 8}


@pytest.fixture(scope="module")
def shipped_run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("faults") / "run"
    return read_results(simulate_experiment(load_experiment(SHIPPED, Overrides()), folder, lambda *_: None))


def experiment_file(folder: Path, faults: list[dict[str, object]]) -> Path:
    path = folder / "experiment.yaml"
    values = {
        "name": "faulty",
        "seed": 1,
        "workload": {"model": "burst_demo"},
        "serve": str(CONFIGS / "serve/emulated.yaml"),
        "faults": faults,
    }
    path.write_text(yaml.safe_dump(values))
    return path


def test_every_kind_of_fault_reaches_the_simulator_as_it_was_written() -> None:
    experiment = load_experiment(SHIPPED, Overrides())
    fleet = fleet_of(experiment)
    assert fleet.faults == (
        ReplicaDeath(300),
        NodeDeath(900),
        ProvisioningBlocked(1500, 2100),
        ReplicaDeath(1600, 4),
        SlowStart(2100, 2400, 2),
        LostMetrics(2500, 2600),
        StaleForecast(2700, 3000),
        RandomDeaths(3600, 3000, 3600),
    )
    assert (fleet.failure_notice_s, fleet.replicas_per_node) == (HEALTH_CHECK_PERIOD_S, 2)
    assert (fleet.cold_start_s, fleet.idle_s) == (294.0, 294.0)
    assert fleet.cold_start is not None
    assert [phase.name for phase in fleet.cold_start.phases] == ["image", "weights", "compile", "warm-up"]
    assert fleet.warm_pool is not None
    assert (fleet.warm_pool.replicas, fleet.warm_pool.start.median_s, fleet.warm_pool.holds_gpus) == (2, 0.6, False)


def test_the_shipped_run_shows_its_faults_in_the_table_the_figure_and_the_verdict(shipped_run: Results) -> None:
    facts = gather_facts(shipped_run)
    rows = fault_table(facts)
    deaths = shipped_run.replicas[shipped_run.replicas["state"] == "failed"]
    named = [row.died.split(", ") for row in rows if row.died not in ("", "none")]
    assert sorted(name for names in named for name in names) == sorted(deaths["replica_id"])
    assert [len(names) for names in named[:3]] == [1, len(deaths[deaths["start_s"] == 900]), 4]
    assert facts.fleet is not None
    assert facts.fleet["failed_replicas"] == len(deaths) >= 6
    assert f"{len(deaths)} replicas died" in write_verdict(facts)
    assert facts.total["by_cause"]["replica_lost"] > 0
    page = (shipped_run.path / "report.html").read_text()
    for shown in ("<h2>Faults</h2>", "provisioning is blocked", "died then", "replica lost", "Replicas that died"):
        assert shown in page, shown


def test_the_shipped_run_has_its_phases_its_pool_and_its_blocked_starts_in_the_table(shipped_run: Results) -> None:
    replicas = shipped_run.replicas
    starting = replicas[replicas["state"] == "starting"]
    assert set(starting["phase"]) == {"wake", "image", "weights", "compile", "warm-up", "blocked"}
    blocked = starting[starting["phase"] == "blocked"]
    assert (blocked["end_s"] == 2100).all()
    # four die at 1,600 s and are noticed 2 s later: two wake, two wait
    after = starting[starting["start_s"] == 1602]
    assert sorted(after["phase"]) == ["blocked", "blocked", "wake", "wake"]
    assert {"filling", "pooled"} <= set(replicas["state"])


def test_a_simulated_run_is_repeated_from_its_resolved_configuration(shipped_run: Results, tmp_path: Path) -> None:
    experiment = load_experiment(shipped_run.path / "config.yaml", Overrides())
    again = read_results(simulate_experiment(experiment, tmp_path / "again", lambda *_: None))
    assert again.records.equals(shipped_run.records)
    assert again.replicas.equals(shipped_run.replicas)


def test_a_live_run_with_faults_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    from rich.console import Console

    from testbed.live import run_experiment

    path = experiment_file(tmp_path, [{"kind": "replica_dies", "at_s": 10}])
    experiment = load_experiment(path, Overrides())
    with pytest.raises(InputError, match="experiment 'faulty': 'faults' happen in a simulated run alone; remove them"):
        run_experiment(experiment, tmp_path / "out", TerminalProgress(Console(), "starting"))
    assert not (tmp_path / "out").exists()


def test_a_warm_pool_is_refused_where_the_application_is_built() -> None:
    from serve_app.app import build_app

    args = load_experiment(SHIPPED, Overrides()).app.model_dump(mode="json")
    with pytest.raises(InputError, match=r"'fleet\.warm_pool' is simulated alone"):
        build_app(args)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "replica_dies"}, r"key 'faults\.0\.at_s' is missing"),
        ({"kind": "lost_metrics", "start_s": 5, "end_s": 5}, "want start_s < end_s, got 5 and 5"),
        ({"kind": "slow_start", "start_s": 0, "end_s": 5, "factor": 0}, r"'faults\.0\.factor'"),
        ({"kind": "meteor", "at_s": 5}, "replica_dies"),
        ({"kind": "stale_forecast", "at_s": 5}, r"unknown key 'faults\.0\.at_s'; known keys: end_s, kind, start_s"),
    ],
)
def test_a_fault_that_makes_no_sense_is_an_error_that_says_why(
    fault: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_experiment(experiment_file(tmp_path, [fault]), Overrides())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({}, "give either cold_start_s, a number, or cold_start, a preset or phases"),
        ({"cold_start_s": 3, "cold_start": "warm"}, "give either cold_start_s"),
        ({"cold_start": "tepid"}, "there is no preset 'tepid'; take one of sleeping, warm, cold, cold-with-node"),
        ({"cold_start": []}, "cold_start"),
        ({"cold_start": [{"name": "load", "median_s": -1}]}, r"'cold_start\.0\.median_s'"),
    ],
)
def test_a_start_that_makes_no_sense_is_an_error_that_says_why(start: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(FleetSettings, FLEET | start, "fleet")


def test_policies_and_live_engines_plan_with_the_medians_of_the_phases() -> None:
    phases = [{"name": "load", "median_s": 20, "sigma": 0.5}, {"name": "compile", "median_s": 10}]
    assert parse(FleetSettings, FLEET | {"cold_start": phases}, "fleet").planned_cold_start_s == 30.0
    assert parse(FleetSettings, FLEET | {"cold_start": "cold-with-node"}, "fleet").planned_cold_start_s == 414.0
    assert parse(FleetSettings, FLEET | {"cold_start_s": 0}, "fleet").planned_cold_start_s == 0.0
