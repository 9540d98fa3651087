"""`burstscale load` against a fleet that somebody else serves: the results tell what the fleet did, as after `run`."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from loadgen.trace import make_trace
from loadgen.trace_file import save_trace
from serve_app.fleet_api import FLEET_PATH
from testbed.results import Results, read_results
from tests.testbed.even_hardware import write_even_hardware

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
KEY_VARIABLE, KEY = "BURSTSCALE_TEST_KEY", "open-sesame"
BURST_S, TRACE_S, DEADLINE_S = (25.0, 37.0), 45.0, 5.0


@dataclass(frozen=True)
class Served:
    """The fleet under test and the traffic for it."""

    url: str
    folder: Path

    def load(self, out: Path, *options: str) -> subprocess.Popen[str]:
        """Start `burstscale load` of the trace, in a process with a Ray of its own."""
        promise = ("--deadline-s", f"{DEADLINE_S}", "--ttft-s", "2", "--tpot-s", "0.2", "--no-self-test")
        command = (sys.executable, "-m", "testbed.cli", "load", self.folder / "trace.parquet")
        return subprocess.Popen(
            [*map(str, command), "--url", self.url, "--model", "tiny", *promise, *options, "-o", str(out)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", KEY_VARIABLE: KEY}


def write_files(folder: Path, port: int) -> None:
    """One slow replica at first, four at the most; a burst of five times what one finishes within the deadline."""
    rng = np.random.default_rng(1)
    # The burst is even and as long as this, so that it shows in its first five seconds, before the fleet can answer it.
    burst_s = np.linspace(*BURST_S, 60, endpoint=False)
    arrival_s = np.concatenate([np.arange(0, TRACE_S, 1.5), burst_s])
    prompts = np.where(rng.random(len(arrival_s)) < 0.3, 1900, 500)
    outputs, service = rng.integers(30, 120, len(arrival_s)), np.arange(len(arrival_s)) % 2
    order = np.argsort(arrival_s)
    trace = make_trace("burst", arrival_s[order], prompts, outputs, duration_s=TRACE_S, service=service)
    save_trace(trace, folder / "trace.parquet")
    hardware = write_even_hardware(folder, kv_cache_tokens=4096, max_sequences=6, max_batched_tokens=128)
    promise = {"deadline_s": DEADLINE_S, "ttft_s": 2.0, "tpot_s": 0.2}
    args = {
        "model_id": "tiny",
        "api_key_env": KEY_VARIABLE,
        "engine": {"kind": "emulated", "hardware": str(hardware), "stream_interval_s": 0.1},
        "fleet": {"min_replicas": 1, "max_replicas": 4, "initial_replicas": 1, "cold_start_s": 2,
                  "max_ongoing_requests": 10, "drain_timeout_s": 20},
        "services": {
            "conversation": {"priority": "interactive", **promise}, "api": {"priority": "interactive", **promise},
        },
        "control": {"period_s": 0.5, "metrics_interval_s": 0.5, "arrivals_bin_s": 0.5},
        "policy": {"name": "ray-default", "params": {"target_ongoing_requests": 8, "upscale_delay_s": 1,
                                                     "downscale_delay_s": 60, "look_back_period_s": 2}},
    }  # fmt: skip
    application = {"name": "somebodys", "route_prefix": "/", "import_path": "serve_app.app:build_app", "args": args}
    document = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}
    (folder / "serve.yaml").write_text(yaml.safe_dump(document))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The fleet, served by `serve run`."""
    sys.path.insert(0, str(ROOT / "tests/serve_app/importable"))
    from live_serve import descendants, free_port, wait_for_end

    folder, port = tmp_path_factory.mktemp("served"), free_port()
    write_files(folder, port)
    serve = Path(sys.executable).with_name("serve")
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [serve, "run", str(folder / "serve.yaml")],
            cwd=ROOT, env=environment(), stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    started: set[int] = set()
    try:
        wait_until_served(f"http://127.0.0.1:{port}", folder / "said.txt")
        started = descendants(process.pid)
        yield Served(f"http://127.0.0.1:{port}", folder)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
        assert wait_for_end(started, within_s=20) == set()


def wait_until_served(url: str, said: Path) -> None:
    """Return once the fleet describes itself and its first replica is ready."""
    end_s = time.monotonic() + 90
    while time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if json.loads(answer.read())["ready_replicas"]:
                    return
        except (OSError, KeyError, ValueError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"the fleet did not come up: {said.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def burst(served: Served) -> Results:
    """The results of the whole trace."""
    process = served.load(served.folder / "out", "--api-key-env", KEY_VARIABLE, "--settle-s", "4")
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return read_results(served.folder / "out")


def test_without_the_key_nothing_is_told(served: Served, tmp_path: Path) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{served.url}{FLEET_PATH}", timeout=5)
    process = served.load(tmp_path / "out")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "check the API key" in said


def test_the_fleet_is_watched_on_after_the_traffic(burst: Results) -> None:
    watched_s = burst.environment["trace"]["duration_s"] + 4
    assert burst.replicas["end_s"].max() >= watched_s - 1.5  # it is asked twice a second
    assert burst.engine["time_s"].max() >= watched_s - 2.5


def test_every_failure_has_a_phase_and_engines_name_theirs(burst: Results) -> None:
    failed = burst.records[burst.records["status"] != "ok"]
    assert len(failed) > 10, "the burst was beyond what one replica carries"
    assert failed["phase"].notna().all(), failed[failed["phase"].isna()].to_dict("records")
    seen = pd.crosstab(burst.records["phase"], burst.records["first_token_s"].notna())
    assert {"engine_queue", "prefill"} & set(seen.index), "only the engines know of these"
    for phase in {"engine_queue", "router_queue"} & set(seen.index):
        assert seen.loc[phase].get(True, 0) == 0, f"who was in {phase} had got no token"


def test_the_fleet_is_seen_to_decide_and_to_grow(burst: Results) -> None:
    targets = [line["target_replicas"] for line in burst.decisions]
    assert len(targets) > 40
    assert burst.environment["target_replicas_at_start"] == targets[0] == 1
    assert max(targets) > 1
    assert [line["time_s"] for line in burst.decisions] == sorted(line["time_s"] for line in burst.decisions)
    new = burst.replicas[burst.replicas["start_s"] > BURST_S[0]]
    came = new.groupby("replica_id", sort=False)["state"].agg(list)
    assert any(states[:2] == ["starting", "ready"] for states in came), burst.replicas
    assert set(burst.engine["replica_id"]) == set(burst.replicas.loc[burst.replicas["state"] == "ready", "replica_id"])
    assert burst.engine["output_tokens"].sum() > 0


def test_the_summary_has_the_fleet_and_what_it_made_of_the_burst(burst: Results) -> None:
    assert burst.summary is not None
    assert burst.summary["problems"] == []
    fleet, bursts = burst.summary["fleet"], burst.summary["bursts"]
    assert fleet["scale_ups"] >= 1
    assert fleet["peak_ready_replicas"] >= 2
    assert fleet["gpu_hours"] == pytest.approx(fleet["replica_seconds"] / 3600)
    assert bursts["bursts"] >= 1
    (first, *_) = bursts["worst"]
    assert 0 < first["decided_after_s"] < first["ready_after_s"]


def test_after_an_interrupt_the_engines_last_word_is_still_heard(served: Served, burst: Results) -> None:
    """Those on their way when the run is ended fail then and there: where, the engines say in their next reports."""
    del burst  # the fleet has been used before
    out = served.folder / "interrupted"
    # From the burst on: what comes before it is for who counts bursts.
    process = served.load(out, "--api-key-env", KEY_VARIABLE, "--start-s", f"{BURST_S[0]}")
    end_s = time.monotonic() + 90
    while not (out / "decisions.jsonl").exists() and time.monotonic() < end_s:
        time.sleep(0.2)
    time.sleep(7)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    results = read_results(out)
    assert results.summary is not None, said
    assert results.summary["cut_short"].startswith("it was interrupted at ")
    assert len(results.records) == results.summary["planned_requests"]
    ended = results.records[(results.records["cause"] == "run_ended") & results.records["sent_s"].notna()]
    assert len(ended) > 0
    assert ended["phase"].notna().any(), ended.to_dict("records")
    last_told_s = results.engine["time_s"].max()
    assert last_told_s > ended["finished_s"].max()
