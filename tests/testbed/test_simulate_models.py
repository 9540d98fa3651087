"""The shipped example of two models that share GPUs: its folder, its figures, its page."""

import json
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from autoscaler.interface import Slo
from loadgen.metrics import summarise_records
from testbed.config import Overrides
from testbed.models_config import load_models_experiment, load_models_traffic
from testbed.models_results import of_model
from testbed.models_summary import NO_SUMMARY, with_windows
from testbed.report.burst_table import burst_rows, burst_sentences
from testbed.report.facts import gather_facts
from testbed.report.fault_table import fault_table
from testbed.report.model_panels import describe_budget, model_table
from testbed.report.tables import service_table, target_changes
from testbed.results import ATTEMPTS, SUMMARY, Results, read_results
from testbed.simulate_models import simulate_models

TWO_MODELS = Path(__file__).parents[2] / "configs/experiments/two_models.yaml"
NAMES = ("chatgpt", "gpt-4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = load_models_experiment(TWO_MODELS, Overrides())
    return simulate_models(experiment, tmp_path_factory.mktemp("models") / "run", lambda *_: None)


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder)


def held_gpus(replicas: pd.DataFrame, at_s: float) -> int:
    """By hand: one GPU for each replica of the small model, four for each of the large one."""
    there = replicas[(replicas["start_s"] <= at_s) & (at_s < replicas["end_s"])]["replica_id"]
    return sum(4 if replica.startswith("gpt-4/") else 1 for replica in there)


def test_each_request_has_one_record_that_names_its_model_and_its_models_replica(results: Results) -> None:
    _, traces = load_models_traffic(load_models_experiment(TWO_MODELS, Overrides()))
    records = results.records
    assert records["model"].value_counts().to_dict() == {name: len(traces[name]) for name in NAMES}
    assert records["request_id"].tolist() == list(range(len(records)))
    assert records["scheduled_s"].is_monotonic_increasing
    for name in NAMES:
        mine = records[records["model"] == name]
        assert mine["scheduled_s"].tolist() == traces[name].arrival_s.tolist()
        assert mine["prompt_tokens"].tolist() == traces[name].prompt_tokens.tolist()
        assert mine["replica_id"].dropna().str.match(rf"^{name}/replica-\d+$").all()
    served = set(records["replica_id"].dropna())
    assert served <= set(results.replicas["replica_id"])
    assert served <= set(results.engine["replica_id"])


def test_decisions_say_whose_they_are_in_order_of_time(results: Results) -> None:
    assert {decision["model"] for decision in results.decisions} == set(NAMES)
    times_s = [decision["time_s"] for decision in results.decisions]
    assert times_s == sorted(times_s)
    assert any(decision["granted_replicas"] < decision["target_replicas"] for decision in results.decisions)


def test_the_budget_is_reached_and_kept_and_summed_up(results: Results) -> None:
    assert results.summary is not None
    gpus, replicas = results.summary["gpus"], results.replicas
    edges = sorted({0.0, *replicas["start_s"], *replicas["end_s"]})
    held = [held_gpus(replicas, at_s) for at_s in edges[:-1]]
    lengths_s = [end_s - start_s for start_s, end_s in pairwise(edges)]
    assert max(held) == gpus["peak_held_gpus"] == gpus["gpu_budget"] == 16
    gpu_hours = sum(count * length_s for count, length_s in zip(held, lengths_s, strict=True)) / 3600
    assert results.summary["fleet"]["gpu_hours"] == pytest.approx(gpu_hours)
    assert gpus["mean_held_gpus"] == pytest.approx(gpu_hours * 3600 / edges[-1])
    full_s = sum(length_s for count, length_s in zip(held, lengths_s, strict=True) if count == 16)
    assert gpus["full_fraction"] == pytest.approx(full_s / edges[-1])
    assert gpus["waited_gpu_hours"] > 0


def test_the_summary_of_each_model_is_of_its_own_and_all_together_adds_up(results: Results) -> None:
    assert results.summary is not None
    total, models = results.summary["requests"]["total"], results.summary["models"]
    for key in ("offered", "ok"):
        assert total[key] == sum(models[name]["requests"]["total"][key] for name in NAMES)
    records = results.records[results.records["model"] == "gpt-4"]
    promises = {"conversation": Slo(2.0, 0.2, 30.0), "api": Slo(60.0, 0.5, 300.0)}
    own = summarise_records(records, promises, 1800.0).as_json()
    assert models["gpt-4"]["requests"] == json.loads(json.dumps(own))
    met = sum(
        models[name]["requests"]["total"]["attainment_fraction"] * models[name]["requests"]["total"]["offered"]
        for name in NAMES
    )
    assert total["attainment_fraction"] == pytest.approx(met / total["offered"])
    assert set(results.summary["requests"]["services"]) == {
        f"{name} {label}" for name in NAMES for label in ("conversation", "api")
    }
    assert results.summary["fleet"]["scale_ups"] == sum(models[name]["fleet"]["scale_ups"] for name in NAMES)


def test_a_part_of_the_results_is_a_run_of_one_model(results: Results) -> None:
    part = of_model(results, "gpt-4")
    facts = gather_facts(part)
    assert facts.summary == results.summary["models"]["gpt-4"] if results.summary else False
    assert facts.fleet is not None
    assert facts.fleet["gpu_hours"] == pytest.approx(4 * facts.fleet["replica_seconds"] / 3600)


def test_the_config_of_the_folder_repeats_the_run(folder: Path, tmp_path: Path) -> None:
    again = simulate_models(
        load_models_experiment(folder / "config.yaml", Overrides()), tmp_path / "a", lambda *_: None
    )
    for file in ("records.parquet", "decisions.jsonl", "replicas.parquet", "engine.parquet", "config.yaml"):
        assert (again / file).read_bytes() == (folder / file).read_bytes()


def test_faults_and_impatient_clients_of_one_model_leave_the_other_alone(tmp_path: Path) -> None:
    settings = yaml.safe_load(TWO_MODELS.read_text(encoding="utf-8"))
    workload = str((TWO_MODELS.parent / settings["workload"]["model"]).resolve())
    settings["workload"] |= {"model": workload, "limit_s": 200}
    settings["models"][0] |= {
        "faults": [{"kind": "replica_dies", "at_s": 50.5}],
        "client": {"timeout_s": 3.0, "max_attempts": 2},
    }
    file = tmp_path / "struck.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    found = read_results(simulate_models(load_models_experiment(file, Overrides()), tmp_path / "run", lambda *_: None))
    summary = found.summary
    assert summary is not None
    struck, other = (summary["models"][name] for name in NAMES)
    assert (struck["fleet"]["failed_replicas"], other["fleet"]["failed_replicas"]) == (1, 0)
    assert struck["requests"]["total"]["retried"] > 0
    assert other["requests"]["total"]["retried"] == 0
    assert summary["requests"]["total"]["attempts"] == sum(
        each["requests"]["total"]["attempts"] for each in (struck, other)
    )
    told = pq.read_table(found.path / ATTEMPTS).to_pandas()
    impatient = found.records[found.records["model"] == NAMES[0]].set_index("request_id")
    assert told.groupby("request_id").size().equals(impatient["attempts"].astype("int64"))
    assert told[told["attempt"] == 1]["sent_s"].tolist() == impatient["scheduled_s"].tolist()
    assert told.drop_duplicates("request_id", keep="last")["status"].tolist() == impatient["status"].tolist()
    facts = gather_facts(found)
    attempts = {row.label: row.cells for row in model_table(facts)[1]}["Attempts"]
    assert attempts == tuple(f"{part['requests']['total']['attempts']:,}" for part in (struck, other, summary))
    [fault] = fault_table(facts)
    assert (fault.what, fault.when) == ("chatgpt: replicas die", "0:50")
    assert fault.died.startswith("chatgpt/replica-")


def test_the_page_shows_each_model_and_the_budget(folder: Path, results: Results) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("By model", "budget 16", "chatgpt: replicas", "gpt-4: time to first token", "gpt-4 conversation"):
        assert words in page
    facts = gather_facts(results)
    assert describe_budget(facts.summary["gpus"]) in page
    columns, rows = model_table(facts)
    assert columns == (*NAMES, "all")
    cells = {row.label: row.cells for row in rows}
    assert cells["GPUs of a replica"] == ("1", "4", "")
    assert cells["Offered"][2] == f"{len(results.records):,}"
    services = sorted(f"{name} {label}" for name in NAMES for label in ("api", "conversation"))
    assert service_table(facts)[0] == (*services, "all")


def test_the_page_tells_each_models_changes_apart(results: Results) -> None:
    changes = target_changes(gather_facts(results))
    last = {"chatgpt": "2", "gpt-4": "1"}
    for change in changes:
        assert change.before == last[change.model], change
        last[change.model] = change.after
    assert {change.model for change in changes} == set(NAMES)


def test_a_run_that_was_cut_short_is_summed_up_from_what_there_is(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cut"
    copy.mkdir()
    for file in folder.iterdir():
        if file.name != SUMMARY:
            (copy / file.name).write_bytes(file.read_bytes())
    cut = gather_facts(read_results(copy)).summary
    whole = json.loads((folder / SUMMARY).read_text())
    assert json.loads(json.dumps(cut)) == whole | {"cut_short": NO_SUMMARY}


def test_other_windows_are_those_of_each_model_too(folder: Path) -> None:
    summary = with_windows(read_results(folder), 600.0).summary
    assert summary is not None
    assert {part["windows"]["window_s"] for part in (summary, *summary["models"].values())} == {600.0}


def test_windows_are_told_of_each_model_and_of_all(results: Results) -> None:
    assert results.summary is not None
    requests, windows = results.summary["requests"]["total"], results.summary["windows"]
    parts = [results.summary["models"][name]["windows"] for name in NAMES]
    assert {part["window_s"] for part in (windows, *parts)} == {5.0}
    for kind in ("late_first_tokens", "slow_tokens"):
        assert sum(part[kind] for part in parts) == windows[kind]
    too_slow = windows["late_first_tokens"] + windows["slow_tokens"]
    assert requests["ok"] - too_slow == pytest.approx(requests["attainment_fraction"] * requests["offered"])
    assert 0 < windows["slo_lost"] < windows["windows"]


def test_the_bursts_of_each_model_are_told_apart(results: Results) -> None:
    facts = gather_facts(results)
    assert [sentence.split(":")[0] for sentence in burst_sentences(facts)] == list(NAMES)
    assert {row.model for row in burst_rows(facts)} <= set(NAMES)
    assert len(burst_rows(facts)) == len(facts.bursts) > 0
