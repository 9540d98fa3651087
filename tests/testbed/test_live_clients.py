"""Live runs whose requests wait for others: clients who come again, turns of a conversation, users of a closed loop."""

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from ray import serve

from loadgen.trace import Trace, make_trace
from loadgen.trace_file import save_trace
from testbed.results import Results, read_results
from tests.testbed.command import burstscale_process
from tests.testbed.even_hardware import BLOCK_TOKENS, write_even_hardware

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

Address = dict[str, str | int]


@pytest.fixture(scope="module")
def address(ray_address: str) -> Address:
    """Of a Serve on which each run deploys its application, and takes it down in the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(address=ray_address, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    ray.shutdown()
    return {"host": "127.0.0.1", "port": port}


def write_experiment(folder: Path, trace: Trace, address: Address, router: dict[str, Any], **sections: Any) -> Path:
    """One replica that takes four requests at a time."""
    hardware = write_even_hardware(folder, kv_cache_tokens=8192, max_sequences=8, max_batched_tokens=1024)
    save_trace(trace, folder / "trace.parquet")
    promise = {"deadline_s": 12, "ttft_s": 2.0, "tpot_s": 0.2}
    application = {
        "model_id": "tiny",
        "engine": {"kind": "emulated", "hardware": str(hardware), "stream_interval_s": 0.1,
                   "prefix_caching": True},
        "fleet": {"min_replicas": 1, "max_replicas": 1, "initial_replicas": 1, "cold_start_s": 1,
                  "max_ongoing_requests": 4},
        "router": router,
        "services": {"conversation": {"priority": "interactive", **promise}, "api": {"priority": "batch", **promise}},
        "control": {"period_s": 0.5, "metrics_interval_s": 0.5, "arrivals_bin_s": 0.5},
        "policy": {"name": "static", "params": {"replicas": 1}},
    }  # fmt: skip
    experiment = {"name": "clients", "seed": 1, "workload": {"trace": "trace.parquet"}, "serve": application,
                  "address": address, "settle_s": 1}  # fmt: skip
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment | sections))
    return path


def results_of(command: str, experiment: Path) -> Results:
    """Run the experiment in a process of its own."""
    out = experiment.parent / command
    done = burstscale_process(command, experiment, "-o", out)
    assert done.returncode == 0, done.stderr
    return read_results(out)


def most_at_once(records: pd.DataFrame) -> int:
    """The most requests that were on their way at one instant."""
    changes = [(sent_s, 1) for sent_s in records["sent_s"]] + [(end_s, -1) for end_s in records["finished_s"]]
    return int(np.cumsum([change for _, change in sorted(changes)]).max())


def test_clients_who_give_up_and_come_again_do_alike_simulated_and_live(address: Address, tmp_path: Path) -> None:
    # 40 requests of 2 s in 8 s for four places and a queue of two: those refused come again, and so do those that are
    # given up after 2.5 s.
    rng = np.random.default_rng(2)
    crowd = make_trace(
        "crowd", np.sort(rng.uniform(0, 8, 40)), [200] * 40, [40] * 40, duration_s=8.0, service=np.arange(40) % 2
    )
    router, client = {"max_queued_requests": 2, "retry_after_s": 1}, {"timeout_s": 2.5, "max_attempts": 4}
    experiment = write_experiment(tmp_path, crowd, address, router, client=client)
    simulated, live = results_of("simulate", experiment), results_of("run", experiment)
    causes = {}
    for run in (simulated, live):
        records = run.records
        assert len(records) == 40
        causes[run.path] = set(records["cause"].fillna("ok"))
        assert records["attempts"].between(1, 4).all()
        assert (records["attempts"] > 1).sum() > 20
        is_given_up = records["cause"] == "given_up"
        assert ((records["status"] == "cancelled") == is_given_up).all()
        assert (records["finished_s"] <= records["scheduled_s"] + 12 + 1e-6).all()
        assert set(records.loc[records["cause"] == "queue_full", "phase"]) == {"router_queue"}
        assert records.loc[is_given_up, "phase"].notna().all(), "also of those that no engine ever had"
        assert (records.loc[records["cause"] == "queue_full", "attempts"] == 4).all()
    assert causes[simulated.path] == causes[live.path] == {"ok", "queue_full", "given_up"}
    sent = [run.records["attempts"].sum() for run in (simulated, live)]
    assert sent[1] == pytest.approx(sent[0], rel=0.2)

    attempts = pq.read_table(live.path / "attempts.parquet").to_pandas()
    assert attempts.groupby("request_id").size().tolist() == live.records.sort_values("request_id")["attempts"].tolist()
    given_up = attempts[attempts["cause"] == "given_up"]
    assert (given_up["status"] == "cancelled").all()
    assert (given_up["finished_s"] - given_up["sent_s"]).between(2.5, 2.7).mean() > 0.9
    pause_s = attempts["sent_s"] - attempts.groupby("request_id")["finished_s"].shift()
    after_refusal = attempts.groupby("request_id")["status"].shift() == "rejected"
    assert (pause_s[after_refusal] >= 1 - 1e-6).all()  # as Retry-After says


def test_a_turn_waits_for_the_one_before_and_begins_with_what_was_said(address: Address, tmp_path: Path) -> None:
    # Six conversations of three turns, which are planned closer together than the answers take.
    prompts, outputs, think_s = [50, 120, 190], [30, 20, 20], 0.25
    elapsed_s = 0.75
    start_s = np.repeat(np.arange(6) * 0.3, 3)
    arrival_s = start_s + np.tile(np.arange(3) * (elapsed_s + think_s), 6)
    order = np.argsort(arrival_s, kind="stable")
    session = np.repeat(np.arange(6), 3)[order]
    turns = make_trace(
        "turns",
        arrival_s[order],
        np.tile(prompts, 6)[order],
        np.tile(outputs, 6)[order],
        duration_s=4.0,
        session=session,
        elapsed_s=np.full(18, elapsed_s),
    )
    run = results_of("run", write_experiment(tmp_path, turns, address, {}, replay={"sessions": True, "actors": 2}))
    records = run.records.sort_values("request_id").assign(session=session)
    assert records["status"].tolist() == ["ok"] * 18
    for _, conversation in records.groupby("session"):
        ended_s = conversation["finished_s"].to_numpy()
        due_s = conversation["scheduled_s"].to_numpy()
        np.testing.assert_allclose(due_s[1:], ended_s[:-1] + think_s, atol=1e-6)
        assert (conversation["sent_s"].to_numpy() >= due_s - 1e-6).all()
    assert records["planned_s"].notna().sum() == 12
    assert records["output_tokens"].tolist() == turns.output_tokens.tolist()

    # The engine counts all prompts, and finds in its cache what a prompt has in common with its last turn's prompt.
    engine = run.engine
    assert engine["looked_up_tokens"].sum() == 6 * sum(prompts)
    assert engine["found_tokens"].sum() == 6 * sum(tokens // BLOCK_TOKENS * BLOCK_TOKENS for tokens in prompts[:2])


def test_users_of_a_closed_loop_send_one_request_at_a_time_until_the_time_is_over(
    address: Address, tmp_path: Path
) -> None:
    requests = make_trace("any", np.linspace(0, 9, 40), [100] * 40, [10] * 40, duration_s=10.0)
    replay = {"users": 3, "think_s": 0.2, "duration_s": 5, "actors": 2}
    run = results_of("run", write_experiment(tmp_path, requests, address, {}, replay=replay))
    records = run.records
    assert (records["status"] == "ok").all()
    assert len(records) == run.summary["planned_requests"]  # type: ignore[index]
    assert most_at_once(records) == 3
    assert records["scheduled_s"].max() < 5
    # An answer of ten steps takes half a second, so a user has a turn every 0.7 s or later.
    assert 9 <= len(records) <= 3 * 8
    assert records["request_id"].is_unique
