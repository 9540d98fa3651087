"""A live run from end to end: real traffic, real HTTP, real Ray Serve, the emulated fleet that grows and shrinks."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

from testbed.results import read_results
from tests.testbed.command import ROOT, burstscale

AZURE = ROOT.parent / "shared/data/traces/azure_2023/AzureLLMInferenceTrace_conv.csv"
LIMIT_S, SPEED = 90.0, 2.0

# In the environment of every process that a run starts.
MARK = f"BURSTSCALE_TEST_RUN={uuid.uuid4()}"

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def write_experiment(folder: Path) -> Path:
    """The shipped experiment with a fleet that shrinks sooner, so that it need not be watched for a minute."""
    experiment = yaml.safe_load((ROOT / "configs/experiments/azure_conv.yaml").read_text())
    document = yaml.safe_load((ROOT / "configs/serve/emulated.yaml").read_text())
    serve = document["applications"][0]["args"]
    serve["control"]["down_delay_s"] = 5
    serve["policy"]["params"] |= {"hold_s": 10, "patience_s": {"api": 20}}
    serve["forecaster"] |= {"bin_s": 2, "horizon_s": 12}
    path = folder / "azure_conv.yaml"
    path.write_text(yaml.safe_dump(experiment | {"serve": serve, "settle_s": 40}))
    return path


@pytest.fixture(scope="module")
def azure_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The Azure conversation trace against the emulated fleet, once for all tests here."""
    if not AZURE.exists():
        pytest.skip(f"the Azure trace is not here ({AZURE.name}; see README)")
    folder = tmp_path_factory.mktemp("azure")
    out = folder / "out"
    command = ("run", write_experiment(folder), "--trace", AZURE, "--limit-s", LIMIT_S, "--speed", SPEED, "-o", out)
    done = subprocess.run(
        [sys.executable, "-m", "testbed.cli", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", "BURSTSCALE_TEST_RUN": MARK.partition("=")[2]},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def azure_rows_in_window() -> int:
    """Counted from the file itself, with none of our readers."""
    first_s, rows = None, 0
    for line in AZURE.read_text().splitlines()[1:]:
        clock = line.split(",")[0].split(" ")[1]
        hours, minutes, seconds = clock.split(":")
        at_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        first_s = at_s if first_s is None else first_s
        rows += at_s - first_s < LIMIT_S
    return rows


def test_there_is_exactly_one_record_for_each_request_of_the_window(azure_run: tuple[Path, str]) -> None:
    records = read_results(azure_run[0]).records
    assert len(records) == azure_rows_in_window() > 250
    assert records["request_id"].tolist() == list(range(len(records)))


def test_nearly_all_requests_end_ok_and_carry_the_tokens_that_were_asked_for(azure_run: tuple[Path, str]) -> None:
    results = read_results(azure_run[0])
    ok = results.records[results.records["status"] == "ok"]
    assert len(ok) / len(results.records) > 0.9, results.records.groupby(["status", "cause"], dropna=False).size()
    assert (ok["first_token_s"] >= ok["scheduled_s"]).all()
    assert (ok["finished_s"] >= ok["first_token_s"]).all()
    assert ok["replica_id"].notna().all()


def test_the_fleet_grew_and_shrank(azure_run: tuple[Path, str]) -> None:
    summary = read_results(azure_run[0]).summary
    assert summary is not None
    fleet = summary["fleet"]
    assert fleet["scale_ups"] >= 1
    assert fleet["scale_downs"] >= 1
    assert fleet["peak_ready_replicas"] >= 3
    assert fleet["policy_errors"] == 0
    assert summary["problems"] == []


def test_a_new_replica_takes_its_cold_start(azure_run: tuple[Path, str]) -> None:
    results = read_results(azure_run[0])
    cold_start_s = results.config["serve"]["fleet"]["cold_start_s"]
    ready = set(results.replicas.loc[results.replicas["state"] == "ready", "replica_id"])
    starts = results.replicas[(results.replicas["state"] == "starting") & results.replicas["replica_id"].isin(ready)]
    assert len(starts) >= 2
    # States are looked at twice a second.
    assert ((starts["end_s"] - starts["start_s"]) > cold_start_s - 1.5).all()


def test_the_decisions_were_made_with_forecasts(azure_run: tuple[Path, str]) -> None:
    decisions = read_results(azure_run[0]).decisions
    with_forecast = [line for line in decisions if line["forecast"] is not None]
    assert len(with_forecast) > 30
    assert any("q0.9" in line["reason"] for line in decisions)


def test_the_terminal_shows_the_verdict_and_where_the_report_is(azure_run: tuple[Path, str]) -> None:
    out, stdout = azure_run
    assert "met their SLO" in stdout
    assert f"report: {out / 'report.html'}" in stdout.replace("\n", "")


def test_the_simulator_writes_the_same_layout_for_the_same_file(azure_run: tuple[Path, str], tmp_path: Path) -> None:
    live, simulated = azure_run[0], tmp_path / "simulated"
    done = burstscale("simulate", live / "config.yaml", "-o", simulated)
    assert done.returncode == 0, done.stderr
    # Only a live run has a plan of its own, with bodies.
    assert {path.name for path in simulated.iterdir()} == {path.name for path in live.iterdir()} - {"plan.parquet"}
    ours, theirs = read_results(simulated), read_results(live)
    for name in ("records", "replicas", "engine"):
        assert list(getattr(ours, name).columns) == list(getattr(theirs, name).columns)
    assert ours.decisions[0].keys() == theirs.decisions[0].keys()
    assert ours.summary is not None
    assert theirs.summary is not None
    assert ours.summary.keys() == theirs.summary.keys()
    assert (ours.records["scheduled_s"] == theirs.records["scheduled_s"]).all()
    for folder in (live, simulated):
        (folder / "report.html").unlink()
        assert burstscale("report", folder).returncode == 0
        assert (folder / "report.html").stat().st_size > 100_000


def test_no_process_of_the_run_is_left(azure_run: tuple[Path, str]) -> None:  # noqa: ARG001 - it must have run
    deadline_s = time.monotonic() + 20
    while (left := marked_processes()) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert left == []


def marked_processes() -> list[str]:
    """Processes that descend from a run of this module, whoever their parent is now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (process / "environ").read_bytes() and int(process.name) != os.getpid():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended, or is not ours to read
    return found
