"""A live run beyond what its fleet carries, in which a replica is killed: each failure says where the request was."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import pytest
import yaml

from loadgen.trace import make_trace
from loadgen.trace_file import save_trace
from testbed.results import Results, read_results
from tests.testbed.even_hardware import write_even_hardware

ROOT = Path(__file__).parents[2]
# In the environment of every process that the run starts.
MARK = f"{uuid.uuid4()}"

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def write_experiment(folder: Path) -> Path:
    """Two replicas, and in 16 s five times the requests that they finish within the deadline of 5 s."""
    rng = np.random.default_rng(1)
    requests = 96
    prompts = np.where(rng.random(requests) < 0.3, 1900, 500)
    arrival_s = np.sort(rng.uniform(0, 16, requests))
    outputs, service = rng.integers(40, 160, requests), np.arange(requests) % 2
    trace = make_trace("overload", arrival_s, prompts, outputs, duration_s=16.0, service=service)
    save_trace(trace, folder / "trace.parquet")
    # Steps of 50 ms with 128 tokens: a prompt of 1900 takes 15 of them. The cache holds two of the long requests.
    hardware = write_even_hardware(folder, kv_cache_tokens=4096, max_sequences=6, max_batched_tokens=128)
    promise = {"deadline_s": 5, "ttft_s": 2.0, "tpot_s": 0.2}
    args = {
        "model_id": "tiny",
        "engine": {"kind": "emulated", "hardware": str(hardware), "stream_interval_s": 0.1},
        "fleet": {"min_replicas": 2, "max_replicas": 2, "initial_replicas": 2, "cold_start_s": 2,
                  "max_ongoing_requests": 8},
        "services": {
            "conversation": {"priority": "interactive", **promise},
            "api": {"priority": "batch", **promise},  # waits at the router while there are conversations
        },
        "control": {"period_s": 0.25, "metrics_interval_s": 0.5, "arrivals_bin_s": 0.5},
        "policy": {"name": "static", "params": {"replicas": 2}},
    }  # fmt: skip
    application = {"name": "burstscale", "import_path": "serve_app.app:build_app", "args": args}
    (folder / "serve.yaml").write_text(yaml.safe_dump({"applications": [application]}))
    experiment = {"name": "phases", "seed": 1, "workload": {"trace": "trace.parquet"}, "serve": "serve.yaml"}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment | {"settle_s": 1}))
    return folder / "experiment.yaml"


def engine_processes() -> list[int]:
    """The replicas of this run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = MARK.encode() in (process / "environ").read_bytes()
            if is_ours and b"ServeReplica:burstscale:engine" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is not ours to read
    return sorted(found)


@pytest.fixture(scope="module")
def overload(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The run, in which one of two replicas is killed some seconds after its begin."""
    folder = tmp_path_factory.mktemp("phases")
    with (folder / "said.txt").open("w") as said:
        run = start_run(folder, said)
        time.sleep(7)
        os.kill(engine_processes()[0], signal.SIGKILL)
        assert run.wait(timeout=200) == 0, (folder / "said.txt").read_text()
    return read_results(folder / "out")


def start_run(folder: Path, said: TextIO) -> subprocess.Popen[bytes]:
    """Start the run in a process of its own, and return once it sends."""
    out = folder / "out"
    command = [sys.executable, "-m", "testbed.cli", "run", str(write_experiment(folder)), "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BURSTSCALE_TEST_RUN": MARK}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
    while run.poll() is None and not (out / "decisions.jsonl").exists():
        time.sleep(0.2)
    return run


def test_every_failure_of_a_fleet_that_tells_has_a_phase(overload: Results) -> None:
    assert overload.summary is not None
    failed = overload.records[overload.records["status"] != "ok"]
    total = overload.summary["requests"]["total"]
    assert len(failed) > 40, "the fleet was beyond what it carries"
    assert failed["phase"].notna().all(), failed[failed["phase"].isna()].to_dict("records")
    assert total["by_phase"] == failed["phase"].value_counts().to_dict()
    assert overload.records[overload.records["status"] == "ok"]["phase"].isna().all()


def test_what_engines_tell_fits_what_the_client_saw(overload: Results) -> None:
    """Where an answer had begun the engine was decoding, or beginning anew; where none had, it was not yet."""
    seen = pd.crosstab(overload.records["phase"], overload.records["first_token_s"].notna())
    assert {"engine_queue", "prefill", "decode", "router_queue", "replica_lost"} <= set(seen.index)
    assert seen.loc["decode", True] > 0
    assert seen.loc["decode", False] <= 2, "its first token may be on the way to the client"
    assert seen.loc[["engine_queue", "router_queue"], True].sum() == 0


def test_what_a_dead_replica_lost_is_told_apart_from_what_a_draining_one_did(overload: Results) -> None:
    lost = overload.records[overload.records["cause"] == "replica_lost"]
    assert len(lost) > 0
    assert set(lost["phase"]) == {"replica_lost"}
    assert lost["replica_id"].nunique() == 1


def test_after_an_interrupt_the_engines_last_word_is_still_heard(tmp_path: Path) -> None:
    """Those on their way then fail there and then: each of them was at the router or in an engine, which reports it."""
    with (tmp_path / "said.txt").open("w") as said:
        run = start_run(tmp_path, said)
        time.sleep(8)
        run.send_signal(signal.SIGINT)
        run.wait(timeout=120)
    results = read_results(tmp_path / "out")
    assert results.summary is not None, (tmp_path / "said.txt").read_text()
    assert results.summary["cut_short"].startswith("it was interrupted at ")
    ended = results.records[(results.records["cause"] == "run_ended") & results.records["sent_s"].notna()]
    begun = ended[ended["first_token_s"].notna()]
    assert len(begun) > 0
    assert set(begun["phase"]) <= {"decode", "preemption"}
    assert ended.loc[ended["first_token_s"].isna(), "phase"].isin(["engine_queue", "prefill"]).any(), ended.to_dict(
        "records"
    )
