"""The benchmark of the load generator says what the server saw."""

import json
from dataclasses import replace

import numpy as np
import pytest

from loadgen.null_run import NullRun
from testbed.bench_loadgen import FLOOR, OURS, LoadgenBenchmark, RateFigures, bench_loadgen
from testbed.bench_peers import PeerRun, installed_peers, run_peer

FIGURES = RateFigures(
    client=OURS,
    rate_per_s=200,
    actors=1,
    requests=1000,
    planned_per_s=200.0,
    achieved_per_s=199.8,
    lag_p50_ms=0.5,
    lag_p99_ms=2.0,
    planned_cv=1.0,
    arrived_cv=1.01,
    cpu_ms_per_request=0.5,
    ok=1000,
)


def benchmark(**of_ours_at_500: float | None) -> LoadgenBenchmark:
    faster = replace(FIGURES, rate_per_s=500, requests=3000, cpu_ms_per_request=0.4, lag_p99_ms=10.0)
    floors = [replace(FIGURES, client=FLOOR, rate_per_s=rate, cpu_ms_per_request=0.2) for rate in (200, 500)]
    peer = replace(FIGURES, client="vllm", rate_per_s=500, cpu_ms_per_request=1.2, lag_p99_ms=70.0)
    return LoadgenBenchmark((FIGURES, replace(faster, **of_ours_at_500), *floors, peer))  # type: ignore[arg-type]


def test_processor_time_counts_by_request_and_the_peer_is_held_against_the_highest_rate() -> None:
    found = benchmark().as_json()
    assert found["cpu_ms_per_request"] == pytest.approx((0.5 * 1000 + 0.4 * 3000) / 4000)
    assert found["cpu_ratio_to_bare_socket"] == pytest.approx(0.425 / 0.2)
    assert found["ratios_to_peers"] == {"vllm": {"lag_p99": pytest.approx(7.0), "cpu_per_request": pytest.approx(3.0)}}
    assert found["cv_departure_at_500"] == pytest.approx(0.01)
    json.dumps(found, allow_nan=False)


def test_the_conclusion_names_what_was_missed() -> None:
    assert benchmark().conclusion().endswith("Every target is met.")
    assert "7.0 times our lag p99" in benchmark().conclusion()
    assert benchmark(lag_p99_ms=15.1).conclusion().endswith("Missed: lag p99 at 500/s, two actors.")


def test_a_request_that_never_arrived_misses_the_target() -> None:
    assert "lag p99 at 500/s" in benchmark(lag_p99_ms=None).conclusion()


@pytest.mark.ray
def test_all_requests_of_a_short_plan_arrive_and_each_costs_more_than_at_the_floor() -> None:
    stages: list[str] = []
    found = bench_loadgen([40.0, 20.0], 1.0, stages.append, with_peers=False)
    assert [(row.client, row.rate_per_s) for row in found.figures] == [
        (client, rate) for rate in (20.0, 40.0) for client in (FLOOR, OURS)
    ]
    for row in found.figures:
        assert row.ok == row.requests == row.rate_per_s
        assert row.lag_p50_ms is not None
        assert row.lag_p50_ms > 0
    assert not found.has_targets
    assert "The targets are for 200 and 500" in found.conclusion()
    assert len(stages) == 4


def test_what_a_peer_takes_to_start_is_not_counted_as_the_cost_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned_s = np.arange(1, 201) / 100
    runs = [PeerRun(planned_s + 0.002, 10.0), PeerRun(planned_s, 10.4)]
    monkeypatch.setattr("testbed.bench_loadgen.installed_peers", lambda: ["vllm"])
    for run in ("run_against_null_server", "replay_to_null_server"):
        monkeypatch.setattr(f"testbed.bench_loadgen.{run}", lambda plan, *_: answered(plan))
    monkeypatch.setattr("testbed.bench_loadgen.run_peer", lambda _peer, plan: replace_size(runs.pop(0), len(plan)))
    found = bench_loadgen([10.0, 20.0], 1.0, lambda _: None)
    slow, fast = found.of("vllm", 10.0), found.of("vllm", 20.0)
    assert slow.cpu_ms_per_request is None
    assert fast.cpu_ms_per_request == pytest.approx(1e3 * 0.4 / 10)  # what it took more, by requests more


def answered(planned_s: list[float]) -> NullRun:
    """Every request arrived, a millisecond late."""
    return NullRun(np.array(planned_s), np.array(planned_s) + 0.001, len(planned_s), 0.1)


def replace_size(run: PeerRun, size: int) -> PeerRun:
    return PeerRun(run.arrived_s[:size], run.cpu_s)


@pytest.mark.parametrize("peer", ["aiperf"])
def test_a_peer_that_is_installed_replays_the_whole_plan(peer: str) -> None:
    if peer not in installed_peers():
        pytest.skip(f"{peer} is not installed")
    planned_s = np.arange(40) * 0.05
    found = run_peer(peer, planned_s.tolist())
    assert not np.isnan(found.arrived_s).any()
    assert found.cpu_s > 0
    assert np.percentile(np.abs(found.arrived_s - planned_s), 50) < 1.0
