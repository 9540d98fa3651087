"""A simulated run from trace to tables: stories with scripted policies, and what the policy gets to see."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from small_engines import TOKENS_AND_SEQUENCES

from autoscaler.interface import (
    ClusterSnapshot,
    Priority,
    ReplicaState,
    ScalingDecision,
    ScalingLimits,
    ServiceClass,
    Slo,
)
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import FleetRun, SimulationResult
from autoscaler.simulator.run import run_fleet, simulate
from autoscaler.simulator.snapshots import ArrivalCounts, ForecastFeed, ForecastSettings
from forecasting.interface import Forecast
from loadgen.records import ENCODED_RECORD_SCHEMA, Cause, Status
from loadgen.trace import Trace, make_trace

HARDWARE = TOKENS_AND_SEQUENCES
SERVICES = {
    "conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 30.0)),
    "api": ServiceClass(Priority.BATCH, Slo(60.0, 0.5, 300.0)),
}
FLEET = FleetConfig(
    hardware=HARDWARE,
    limits=ScalingLimits(0, 4),
    initial_replicas=1,
    cold_start_s=7.5,
    max_ongoing_requests=8,
    services=SERVICES,
    settle_s=5.0,
)


class Scripted:
    """Asks for what `choose` answers, and keeps every snapshot."""

    def __init__(self, choose: Callable[[ClusterSnapshot], int]) -> None:
        self._choose = choose
        self.seen: list[ClusterSnapshot] = []

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        self.seen.append(cluster)
        return ScalingDecision(self._choose(cluster), f"scripted at {cluster.now_s}")


def steps(*changes: tuple[float, int]) -> Callable[[ClusterSnapshot], int]:
    """The target of the last change at or before now."""
    return lambda cluster: [target for at_s, target in changes if at_s <= cluster.now_s][-1]


def poisson_trace(seconds: float = 40.0, requests_per_s: float = 10.0, seed: int = 0) -> Trace:
    """Both services, drawn with a seed."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(seconds * requests_per_s)
    return make_trace(
        "poisson",
        np.sort(rng.uniform(0.0, seconds, count)),
        rng.integers(1, 400, count),
        rng.integers(0, 60, count),
        duration_s=seconds,
        service=rng.integers(0, 2, count),
        model=rng.integers(0, 2, count),
        model_names=("small", "large"),
    )


def run(
    trace: Trace,
    policy: Scripted,
    fleet: FleetConfig = FLEET,
    forecasting: ForecastSettings | None = None,
    seed: int = 0,
) -> SimulationResult:
    return simulate(trace, policy, fleet, forecasting=forecasting, rng=np.random.default_rng(seed))


def file_bytes(table: pa.Table) -> bytes:
    """A digest of a table's bytes as they are written."""
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).digest()


def life(result: SimulationResult, replica_id: str) -> list[tuple[str, float, float]]:
    """The states of one replica with start and end."""
    rows = [row for row in result.replicas.to_pylist() if row["replica_id"] == replica_id]
    return [(row["state"], row["start_s"], row["end_s"]) for row in rows]


def test_every_request_has_one_record_in_the_order_of_the_trace() -> None:
    trace = poisson_trace()
    result = run(trace, Scripted(steps((0, 1), (10, 3), (25, 1))))
    assert result.records.schema.equals(ENCODED_RECORD_SCHEMA)
    assert result.records["request_id"].to_pylist() == list(range(len(trace)))
    assert result.records["scheduled_s"].to_numpy().tolist() == trace.arrival_s.tolist()
    assert result.records["model"].to_pylist() == [trace.model_names[model] for model in trace.model]
    ok = result.records.filter(pa.compute.equal(result.records["status"], "ok"))
    assert ok.num_rows > 300
    asked = np.maximum(trace.output_tokens, 1)[ok["request_id"].to_numpy()]
    assert ok["output_tokens"].to_numpy().tolist() == asked.tolist()
    assert ok["cause"].null_count == ok["error"].null_count == ok.num_rows
    engine_tokens = pa.compute.sum(result.engine["output_tokens"]).as_py()
    assert engine_tokens == pa.compute.sum(result.records["output_tokens"]).as_py()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    fleet = replace(FLEET, cold_start_sigma=0.3)

    def digest(seed: int) -> list[object]:
        policy = Scripted(lambda cluster: 1 + cluster.queued_requests // 4)
        result = run(poisson_trace(), policy, fleet, seed=seed)
        tables = [file_bytes(table) for table in (result.records, result.replicas, result.engine)]
        return [*tables, [record.as_json() for record in result.decisions]]

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_a_replica_that_is_asked_for_starts_serves_drains_and_ends() -> None:
    result = run(poisson_trace(), Scripted(steps((0, 1), (10, 2), (30, 1))))
    (starting, ready, draining) = life(result, "replica-1")
    assert starting == ("starting", 10.0, 17.5)
    assert ready == ("ready", 17.5, 30.0)
    assert draining[:2] == ("draining", 30.0)
    assert 30.0 < draining[2] < 35.0
    assert life(result, "replica-0") == [("ready", 0.0, result.end_s)]
    served = [row for row in result.records.to_pylist() if row["replica_id"] == "replica-1"]
    assert min(row["first_token_s"] for row in served) > 17.5
    assert max(row["scheduled_s"] for row in served) < 30.0
    assert {row["status"] for row in served} == {"ok"}, "draining loses nothing"


def test_a_start_that_is_cancelled_was_never_ready() -> None:
    result = run(poisson_trace(), Scripted(steps((0, 1), (10, 2), (12, 1))))
    assert life(result, "replica-1") == [("starting", 10.0, 12.0)]


def test_a_fleet_of_none_times_out_every_request_for_want_of_a_replica() -> None:
    trace = poisson_trace(5.0)
    result = run(trace, Scripted(lambda _: 0), replace(FLEET, initial_replicas=0))
    assert set(result.records["status"].to_pylist()) == {Status.TIMED_OUT}
    assert set(result.records["cause"].to_pylist()) == {Cause.NO_READY_REPLICA}
    assert result.records["first_token_s"].null_count == result.records["replica_id"].null_count == len(trace)
    assert result.engine.num_rows == result.replicas.num_rows == 0
    # the last request is an API one that waits for 300 s, or a conversation that waits for 30
    deadlines_s = np.where(trace.service == 0, 30.0, 300.0)
    assert result.records["finished_s"].to_numpy() == pytest.approx(trace.arrival_s + deadlines_s)


def test_decisions_are_kept_within_the_limits_and_recorded_with_what_was_asked() -> None:
    result = run(poisson_trace(20.0), Scripted(steps((0, -3), (10, 99))), replace(FLEET, limits=ScalingLimits(1, 3)))
    targets = {record.time_s: (record.proposed_replicas, record.target_replicas) for record in result.decisions}
    assert (targets[5.0], targets[15.0]) == ((-3, 1), (99, 3))


def test_the_run_goes_on_for_the_quiet_tail_of_the_trace_and_then_settles() -> None:
    trace = make_trace("tail", [1.0], [10], [5], duration_s=60.0)
    result = run(trace, Scripted(lambda _: 1))
    assert result.end_s == 65.0
    assert [record.time_s for record in result.decisions] == [float(second) for second in range(66)]


def test_what_the_policy_sees_of_replicas_is_one_metrics_interval_old_and_the_queue_is_exact() -> None:
    # Eight requests of 100 tokens come at once at 2.5 s, one too many for the replica: it reports every 2 s.
    trace = make_trace("burst", np.full(9, 2.5), np.full(9, 10), np.full(9, 100), duration_s=10.0)
    policy = Scripted(lambda _: 1)
    run(trace, policy, replace(FLEET, metrics_interval_s=2.0))
    seen = {cluster.now_s: cluster for cluster in policy.seen}
    assert [seen[now_s].replicas[0].running for now_s in (2.0, 3.0, 4.0, 5.0)] == [0, 0, 0, 8]
    assert seen[3.0].queued["conversation"].requests == 1
    assert seen[3.0].queued["conversation"].prompt_tokens == 10
    assert seen[3.0].queued["conversation"].earliest_deadline_s == 32.5
    assert seen[2.0].queued["conversation"].earliest_deadline_s is None
    # a step takes 0.02 + 8 * 0.0011 s: between 2.5 and 4.0 there are some 50 of 8 tokens, over 2 s
    assert seen[5.0].replicas[0].tokens_per_s == pytest.approx(8 * 1.5 / 0.0288 / 2.0, rel=0.05)
    assert 0 < seen[5.0].replicas[0].kv_cache_fraction < 0.2


def test_the_policy_sees_only_complete_bins_and_only_the_last_of_them() -> None:
    trace = make_trace("bins", [0.1, 0.2, 1.9, 2.0, 2.5], np.full(5, 10), np.full(5, 5), duration_s=4.0, service=0)
    policy = Scripted(lambda _: 1)
    run(trace, policy, replace(FLEET, period_s=0.5, arrivals_bin_s=1.0, history_bins=2))
    histories = {cluster.now_s: cluster.arrivals["conversation"] for cluster in policy.seen}
    assert histories[0.5].requests.tolist() == []
    assert (histories[2.5].start_s, histories[2.5].requests.tolist()) == (0.0, [2.0, 1.0])
    assert (histories[3.0].start_s, histories[3.0].requests.tolist()) == (1.0, [1.0, 2.0])
    assert histories[7.0].requests.tolist() == [0.0, 0.0]


def test_an_idle_fleet_has_seen_that_nothing_came() -> None:
    trace = make_trace("bins", [0.1, 0.2], np.full(2, 10), np.full(2, 5), duration_s=2.0, service=0)
    policy = Scripted(lambda _: 1)
    settings = ForecastSettings(name="last-value", bin_s=2.0, horizon_s=4.0, levels=(0.5,))
    run(trace, policy, replace(FLEET, period_s=1.0, arrivals_bin_s=1.0, idle_s=3.5), forecasting=settings)
    at_start, after_one = policy.seen[0], policy.seen[1]
    history = at_start.arrivals["conversation"]
    assert (history.start_s, history.requests.tolist()) == (-3.0, [0.0, 0.0, 0.0])
    assert after_one.arrivals["conversation"].requests.tolist() == [0.0, 0.0, 0.0, 2.0]
    assert at_start.forecast is not None
    assert at_start.forecast["conversation"].issued_at_s == 0.0


class Memory:
    """A forecaster that answers with all that it was told."""

    levels: tuple[float, ...] = (0.5,)

    def __init__(self, bin_s: float) -> None:
        self.bin_s = bin_s
        self.told: list[float] = []

    def observe(self, counts: np.ndarray) -> None:
        self.told.extend(counts.tolist())

    def forecast(self, bins: int) -> Forecast:
        values = np.full((1, bins), self.told[-1])
        return Forecast(len(self.told) * self.bin_s, self.bin_s, np.array(self.levels), values)


def test_forecasts_are_made_anew_when_a_bin_is_complete_and_know_nothing_of_the_future() -> None:
    trace = poisson_trace(30.0, requests_per_s=4.0)
    policy, memories = Scripted(lambda _: 2), {label: Memory(5.0) for label in SERVICES}
    feed = ForecastFeed(memories, ArrivalCounts(trace, SERVICES, 5.0), horizon_s=12.0)
    run_fleet(FleetRun(trace, policy, Fleet(trace, FLEET, np.random.default_rng(0)), FLEET, feed))
    conversations_s = trace.arrival_s[trace.service == 0]
    for cluster in policy.seen:
        if cluster.now_s < 5.0:
            assert cluster.forecast is None
            continue
        assert cluster.forecast is not None
        latest = cluster.forecast["conversation"]
        assert latest.issued_at_s == cluster.now_s // 5.0 * 5.0
        last_bin = (latest.issued_at_s - 5.0 <= conversations_s) & (conversations_s < latest.issued_at_s)
        assert latest.values.tolist() == [[float(last_bin.sum())] * 3]
    assert sum(memories["conversation"].told) == len(conversations_s)


def test_a_registered_forecaster_feeds_the_policy_and_the_records() -> None:
    settings = ForecastSettings(name="last-value", bin_s=5.0, horizon_s=20.0, levels=(0.5, 0.9))
    result = run(poisson_trace(), Scripted(lambda _: 2), forecasting=settings)
    point = result.decisions[20].forecast
    assert result.decisions[3].forecast is None
    assert point is not None
    assert (point.issued_at_s, point.at_s, point.levels) == (20.0, 27.5, (0.5, 0.9))


@pytest.mark.parametrize("answer", [float("nan"), None, "2"], ids=str)
def test_a_policy_that_answers_nonsense_leaves_the_fleet_as_it_is(answer: object) -> None:
    result = run(poisson_trace(5.0), Scripted(lambda cluster: 2 if cluster.now_s < 2 else answer))  # type: ignore[arg-type,return-value]
    last = result.decisions[-1]
    assert (last.target_replicas, last.error) == (2, f"TypeError: want a whole number of replicas, got {answer!r}")


def test_a_policy_that_raises_leaves_the_fleet_as_it_is_and_is_asked_again() -> None:
    def choose(cluster: ClusterSnapshot) -> int:
        if cluster.now_s == 3.0:
            raise RuntimeError("out of luck")
        return 2 if cluster.now_s < 3.0 else 3

    result = run(poisson_trace(10.0), Scripted(choose))
    targets = [record.target_replicas for record in result.decisions]
    assert targets[2:5] == [2, 2, 3]
    assert result.decisions[3].error == "RuntimeError: out of luck"


def test_progress_rises_to_the_end() -> None:
    shown: list[float] = []
    simulate(poisson_trace(), Scripted(lambda _: 2), FLEET, rng=np.random.default_rng(0), progress=shown.append)
    assert shown == sorted(shown)
    assert shown[-1] == 1.0
    assert len(shown) <= 100


def test_a_policy_sees_starting_ready_and_draining_replicas_by_name() -> None:
    policy = Scripted(steps((0, 1), (10, 3), (30, 1)))
    # six requests of about 25 s each come when three replicas are ready
    trace = make_trace("long", np.full(6, 18.0), np.full(6, 10), np.full(6, 1000), duration_s=40.0)
    run(trace, policy)
    at_ten, at_twenty = policy.seen[11], policy.seen[20]
    assert [(r.replica_id, r.state.value, r.requested_at_s) for r in at_ten.replicas] == [
        ("replica-0", "ready", 0.0),
        ("replica-1", "starting", 10.0),
        ("replica-2", "starting", 10.0),
    ]
    assert at_ten.target_replicas == 3
    assert at_twenty.count(ReplicaState.READY) == 3
    assert policy.seen[31].count(ReplicaState.DRAINING) == 2
