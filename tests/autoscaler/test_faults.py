"""Faults of the simulated fleet: each as a story with instants by hand, and any mix of them."""

from dataclasses import replace

import numpy as np
from fault_mixes import fault_mixes
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engines import TOKENS_AND_SEQUENCES

from autoscaler.interface import ClusterSnapshot, Priority, ScalingDecision, ScalingLimits, ServiceClass, Slo
from autoscaler.simulator.faults import (
    Fault,
    LostMetrics,
    NodeDeath,
    ProvisioningBlocked,
    RandomDeaths,
    ReplicaDeath,
    SlowStart,
    StaleForecast,
)
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import SimulationResult
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.run import simulate
from autoscaler.simulator.snapshots import ForecastSettings
from loadgen.trace import Trace, make_trace

# Each step takes a second, whatever is in it: a request of n tokens alone takes n seconds.
SECONDS = replace(TOKENS_AND_SEQUENCES, fixed_s=1.0, token_s=0.0, sequence_s=0.0)
FLEET = FleetConfig(
    hardware=SECONDS,
    limits=ScalingLimits(0, 8),
    initial_replicas=1,
    cold_start_s=5.0,
    max_ongoing_requests=8,
    services={"conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 200.0))},
    failure_notice_s=2.0,
    settle_s=5.0,
)


class Told:
    """Asks for what the script says, and keeps what it saw."""

    def __init__(self, *changes: tuple[float, int]) -> None:
        self._changes = changes or ((0.0, 1),)
        self.seen: dict[float, ClusterSnapshot] = {}

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        self.seen[cluster.now_s] = cluster
        return ScalingDecision([to for at_s, to in self._changes if at_s <= cluster.now_s][-1], "told")


def requests(arrival_s: list[float], output_tokens: list[int], duration_s: float = 40.0) -> Trace:
    return make_trace("story", arrival_s, np.full(len(arrival_s), 10), output_tokens, duration_s=duration_s)


def run(
    trace: Trace,
    *faults: Fault,
    policy: Told | None = None,
    seed: int = 0,
    forecasting: ForecastSettings | None = None,
    **changes: object,
) -> SimulationResult:
    fleet = replace(FLEET, faults=faults, **changes)  # type: ignore[arg-type]
    return simulate(trace, policy or Told(), fleet, rng=np.random.default_rng(seed), forecasting=forecasting)


def life(result: SimulationResult, replica_id: str) -> list[tuple[str, float, float]]:
    rows = [row for row in result.replicas.to_pylist() if row["replica_id"] == replica_id]
    return [(row["state"], row["start_s"], row["end_s"]) for row in rows]


def failed(result: SimulationResult) -> set[str]:
    return {row["replica_id"] for row in result.replicas.to_pylist() if row["state"] == "failed"}


def test_a_replica_that_dies_loses_its_requests_and_another_is_started_without_a_decision() -> None:
    result = run(requests([0.0, 5.0], [20, 3]), ReplicaDeath(4.5))
    lost, waited = result.records.to_pylist()
    assert (lost["status"], lost["cause"], lost["finished_s"]) == ("failed", "replica_lost", 4.5)
    assert (lost["output_tokens"], lost["first_token_s"], lost["replica_id"]) == (4, 1.0, "replica-0")
    # dead at 4.5 s, noticed at 6.5 s, the next one ready at 11.5 s
    assert (waited["status"], waited["first_token_s"], waited["replica_id"]) == ("ok", 12.5, "replica-1")
    assert life(result, "replica-0") == [("ready", 0.0, 4.5), ("failed", 4.5, 6.5)]
    assert life(result, "replica-1") == [("starting", 6.5, 11.5), ("ready", 11.5, result.end_s)]
    assert {record.target_replicas for record in result.decisions} == {1}


def test_a_death_that_is_noticed_at_once_has_a_row_too() -> None:
    result = run(requests([0.0], [3]), ReplicaDeath(4.5), failure_notice_s=0.0)
    assert life(result, "replica-0") == [("ready", 0.0, 4.5), ("failed", 4.5, 4.5)]
    assert life(result, "replica-1")[0] == ("starting", 4.5, 9.5)


def test_the_policy_takes_a_dead_replica_for_a_ready_one_with_its_last_report_until_that_is_noticed() -> None:
    policy = Told()
    run(requests([0.0], [20]), ReplicaDeath(4.5), policy=policy)
    seen = {
        at_s: [(each.replica_id, each.state.value, each.running) for each in policy.seen[at_s].replicas]
        for at_s in (6.0, 7.0)
    }
    assert seen == {6.0: [("replica-0", "ready", 1)], 7.0: [("replica-1", "starting", 0)]}


def test_a_dead_replica_is_the_first_to_be_taken_away_and_is_then_not_replaced() -> None:
    result = run(requests([0.0], [30]), ReplicaDeath(4.5), policy=Told((0.0, 2), (5.0, 1)), initial_replicas=2)
    (dead,) = failed(result)
    assert life(result, dead) == [("ready", 0.0, 4.5), ("failed", 4.5, 5.0)]
    assert set(result.replicas["replica_id"].to_pylist()) == {"replica-0", "replica-1"}


def test_a_replica_that_dies_while_it_drains_is_not_replaced() -> None:
    result = run(requests([0.0], [30]), ReplicaDeath(8.0), policy=Told((0.0, 1), (5.0, 0)))
    assert life(result, "replica-0") == [("ready", 0.0, 5.0), ("draining", 5.0, 8.0), ("failed", 8.0, 8.0)]
    assert result.records["cause"].to_pylist() == ["replica_lost"]
    assert result.replicas.num_rows == 3


def test_what_a_dead_replica_had_made_is_counted_up_to_its_death() -> None:
    result = run(requests([0.0], [20]), ReplicaDeath(4.5))
    samples = [row for row in result.engine.to_pylist() if row["replica_id"] == "replica-0"]
    assert sum(row["output_tokens"] for row in samples) == 4
    assert (samples[-1]["time_s"], samples[-1]["interval_s"]) == (4.5, 0.5)


def test_a_node_takes_all_of_its_replicas_with_it_starting_ones_too() -> None:
    # two to a node: 0 and 1, 2 and 3 (which starts at 1 s and is not ready at 3 s)
    policy = [(0.0, 3), (1.0, 4)]
    deaths = set()
    for seed in range(12):
        result = run(
            requests([0.0], [3]),
            NodeDeath(3.0),
            policy=Told(*policy),
            initial_replicas=3,
            replicas_per_node=2,
            seed=seed,
        )
        deaths.add(frozenset(failed(result)))
        if "replica-3" in failed(result):
            assert life(result, "replica-3") == [("starting", 1.0, 3.0), ("failed", 3.0, 3.0)]
            # a start that dies is replaced at once, a ready replica once its death is noticed
            assert life(result, "replica-4")[0] == ("starting", 3.0, 8.0)
            assert life(result, "replica-5")[0] == ("starting", 5.0, 10.0)
    assert deaths == {frozenset({"replica-0", "replica-1"}), frozenset({"replica-2", "replica-3"})}


def test_a_start_that_is_asked_for_while_provisioning_is_blocked_waits_until_the_end() -> None:
    faults = (ProvisioningBlocked(10.0, 20.0), ProvisioningBlocked(18.0, 25.0))
    result = run(requests([0.0], [3]), *faults, policy=Told((0.0, 1), (9.0, 2), (12.0, 3), (25.0, 4)))
    assert life(result, "replica-1")[0] == ("starting", 9.0, 14.0), "what is under way goes on"
    assert life(result, "replica-2")[:2] == [("starting", 12.0, 25.0), ("starting", 25.0, 30.0)]
    assert life(result, "replica-3")[0] == ("starting", 25.0, 30.0)


def test_a_replacement_waits_for_blocked_provisioning_too() -> None:
    result = run(requests([0.0], [3]), ReplicaDeath(4.0), ProvisioningBlocked(5.0, 20.0))
    assert life(result, "replica-1") == [
        ("starting", 6.0, 20.0),
        ("starting", 20.0, 25.0),
        ("ready", 25.0, result.end_s),
    ]


def test_starts_are_slow_in_their_window_alone() -> None:
    slow = SlowStart(10.0, 20.0, factor=3.0)
    result = run(requests([0.0], [3]), slow, policy=Told((0.0, 1), (9.0, 2), (12.0, 3), (20.0, 4)))
    starts = {name: life(result, name)[0][1:] for name in ("replica-1", "replica-2", "replica-3")}
    assert starts == {"replica-1": (9.0, 14.0), "replica-2": (12.0, 27.0), "replica-3": (20.0, 25.0)}


def test_without_metrics_the_policy_sees_the_last_report_and_after_three_intervals_none() -> None:
    policy = Told()
    run(requests([0.5], [60]), LostMetrics(10.0, 30.0), policy=policy, metrics_interval_s=2.0)
    running = {at_s: policy.seen[at_s].replicas[0].running for at_s in (9.0, 13.0, 14.0, 15.0, 30.0, 31.0)}
    # the last report that got through is that of 8 s; the one of 30 s does, after the policy was asked
    assert running == {9.0: 1, 13.0: 1, 14.0: 1, 15.0: 0, 30.0: 0, 31.0: 1}


def test_a_stale_forecast_stays_as_it_was_and_then_makes_up_for_what_it_missed() -> None:
    policy = Told()
    settings_ = ForecastSettings(name="last-value", bin_s=5.0, horizon_s=5.0, levels=(0.5,))
    trace = requests([1.0, 7.0, 8.0, 16.0], [1, 1, 1, 1])
    run(trace, StaleForecast(10.0, 20.0), policy=policy, forecasting=settings_)
    forecasts = {at_s: policy.seen[at_s].forecast for at_s in (6.0, 10.0, 19.0, 20.0)}
    issued = {at_s: each["conversation"].issued_at_s for at_s, each in forecasts.items() if each is not None}
    assert issued == {6.0: 5.0, 10.0: 5.0, 19.0: 5.0, 20.0: 20.0}
    assert forecasts[19.0] == forecasts[6.0]
    undisturbed = Told()
    run(trace, policy=undisturbed, forecasting=settings_)
    at_the_end, expected = policy.seen[20.0].forecast, undisturbed.seen[20.0].forecast
    assert at_the_end is not None
    assert expected is not None
    assert at_the_end["conversation"].values.tolist() == expected["conversation"].values.tolist()


def test_replicas_die_at_random_at_the_rate_that_is_asked_for_and_only_in_the_window() -> None:
    fleet = replace(
        FLEET,
        faults=(RandomDeaths(100.0, 50.0, 150.0),),
        initial_replicas=200,
        limits=ScalingLimits(0, 200),
        cold_start_s=0.0,
        failure_notice_s=0.0,
    )
    result = simulate(requests([0.0], [3], 200.0), Told((0.0, 200)), fleet, rng=np.random.default_rng(1))
    deaths_s = np.array([row["start_s"] for row in result.replicas.to_pylist() if row["state"] == "failed"])
    # 200 replicas x 100 s / 100 s = 200 deaths, give or take 14 (Poisson)
    assert 150 < len(deaths_s) < 250
    assert deaths_s.min() >= 50.0
    assert deaths_s.max() < 150.0


def test_faults_of_the_same_seed_are_the_same_and_what_they_do_not_touch_stays_as_it_was() -> None:
    def tables(seed: int, *faults: Fault) -> list[object]:
        trace, policy = requests([0.0, 9.0], [20, 5]), Told((0.0, 3), (10.0, 5))
        result = run(trace, *faults, policy=policy, initial_replicas=3, cold_start_sigma=0.4, seed=seed)
        return [result.records.to_pylist(), result.replicas.to_pylist(), result.engine.to_pylist()]

    assert tables(1, ReplicaDeath(8.0)) == tables(1, ReplicaDeath(8.0))
    assert len({str(tables(seed, ReplicaDeath(8.0))) for seed in range(4)}) > 1
    # no fault is drawn from the cold starts' own numbers
    assert tables(1, ReplicaDeath(44.9))[0] == tables(1)[0]
    assert tables(1, LostMetrics(3.0, 9.0)) == tables(1)


ARRIVALS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 2.0]), st.integers(1, 60), st.integers(1, 12)), min_size=1, max_size=25
)
TARGETS = st.lists(st.tuples(st.sampled_from([0.5, 3.0]), st.integers(0, 5)), min_size=1, max_size=8)


def run_script(
    arrivals: list[tuple[float, int, int]],
    script: list[tuple[float, int]],
    config: FleetConfig,
    seed: int,
    event_skipping: bool = True,
) -> Fleet:
    """Follow a script of (wait, target) until every request has ended."""
    waits_s, prompts, outputs = zip(*arrivals, strict=True)
    trace = make_trace("mix", np.cumsum(waits_s), prompts, outputs, duration_s=float(sum(waits_s)) + 1.0)
    fleet = Fleet(trace, config, np.random.default_rng(seed), event_skipping=event_skipping)
    for wait_s, target_replicas in script:
        fleet.advance(fleet.now_s + wait_s)
        fleet.scale_to(target_replicas)
        fleet.report()
        list(fleet.replicas())
        fleet.sample()
        fleet.check()
    fleet.advance(1000.0)
    fleet.check()
    fleet.close()
    return fleet


@settings(max_examples=60, deadline=None)
@given(
    arrivals=ARRIVALS,
    script=TARGETS,
    faults=fault_mixes(30.0),
    notice_s=st.sampled_from([0.0, 1.5]),
    per_node=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_under_any_mix_of_faults_no_request_is_lost_and_jumping_gives_the_same_bytes(
    arrivals: list[tuple[float, int, int]],
    script: list[tuple[float, int]],
    faults: tuple[Fault, ...],
    notice_s: float,
    per_node: int,
    seed: int,
) -> None:
    fast = replace(
        SECONDS, fixed_s=0.3, kv_cache_tokens=16 * 9, max_sequences=3, max_batched_tokens=48, max_model_tokens=96
    )
    config = replace(
        FLEET, hardware=fast, faults=faults, failure_notice_s=notice_s, replicas_per_node=per_node, drain_timeout_s=2.0
    )
    jumped = run_script(arrivals, script, config, seed)
    stepped = run_script(arrivals, script, config, seed, event_skipping=False)
    ended = jumped.requests
    assert jumped.all_ended
    assert (ended.fate >= Fate.OK).all()
    assert not np.isnan(ended.finished_s).any()
    assert sum(sample.output_tokens for sample in jumped.samples) == ended.received_tokens.sum()
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(jumped.requests, name).tobytes() == getattr(stepped.requests, name).tobytes(), name
    assert jumped.samples == stepped.samples
    assert jumped.lives == stepped.lives
