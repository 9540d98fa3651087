"""The fleet's numbers against sums that a person can do by hand, and against a naive count."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.interface import ClusterSnapshot, ScalingDecision
from autoscaler.policies import make_policy
from testbed.fleet_metrics import count_flaps, replica_counts, summarise_fleet, target_changes

COLUMNS = ["replica_id", "state", "start_s", "end_s"]
RUN = {"duration_s": 100.0, "initial_replicas": 1, "cold_start_s": 10.0}


def frame(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """Rows of replicas.parquet."""
    return pd.DataFrame(rows, columns=COLUMNS).astype({"start_s": float, "end_s": float})


def decided(*targets: tuple[float, int], reason: str = "static", error: str | None = None) -> list[dict[str, object]]:
    """Lines of decisions.jsonl."""
    return [{"time_s": at_s, "target_replicas": target, "reason": reason, "error": error} for at_s, target in targets]


FLEET = frame(
    ("a", "ready", 0, 100),
    ("b", "starting", 20, 30),
    ("b", "ready", 30, 60),
    ("b", "draining", 60, 65),
)


def test_replica_seconds_and_gpu_hours_count_starting_and_draining() -> None:
    summary = summarise_fleet(FLEET, decided((20, 2), (60, 1)), **RUN, gpus_per_replica=4.0)
    assert summary.replica_seconds == 145.0
    assert summary.gpu_hours == pytest.approx(145 * 4 / 3600)
    assert summary.starting_fraction == pytest.approx(10 / 145)
    assert summary.draining_fraction == pytest.approx(5 / 145)
    assert (summary.peak_ready_replicas, summary.mean_ready_replicas) == (2, 1.3)
    assert (summary.scale_ups, summary.scale_downs, summary.flaps) == (1, 1, 0)
    assert summary.without_ready_s == 0.0


def test_what_lies_outside_the_run_is_cut_off() -> None:
    fleet = frame(("a", "ready", -50, 30), ("b", "ready", 90, 500), ("c", "ready", 200, 300))
    summary = summarise_fleet(fleet, [], **RUN)
    assert summary.replica_seconds == 40.0
    assert summary.without_ready_s == 60.0
    assert summary.peak_ready_replicas == 1


def test_time_without_a_ready_replica_is_the_gaps_not_the_starts() -> None:
    fleet = frame(("a", "starting", 0, 10), ("a", "ready", 10, 40), ("b", "ready", 30, 50), ("c", "starting", 50, 60))
    assert summarise_fleet(fleet, [], **RUN).without_ready_s == 60.0


def test_a_replica_that_follows_another_at_once_is_no_gap_and_no_overlap() -> None:
    summary = summarise_fleet(frame(("a", "ready", 0, 50), ("b", "ready", 50, 100)), [], **RUN)
    assert (summary.peak_ready_replicas, summary.without_ready_s) == (1, 0.0)


def test_a_run_without_replicas_and_decisions_has_zeros_not_errors() -> None:
    summary = summarise_fleet(frame(), [], **RUN)
    assert summary.as_json() == dict.fromkeys(summary.as_json(), 0) | {"without_ready_s": 100.0}
    assert summarise_fleet(frame(), [], **(RUN | {"duration_s": 0.0})).without_ready_s == 0.0


def test_the_first_decision_is_compared_with_the_initial_target() -> None:
    assert target_changes(decided((1, 3), (2, 3), (3, 2)), initial_replicas=2) == [(1, 1), (3, -1)]
    assert target_changes(decided((1, 2)), initial_replicas=2) == []


def test_a_flap_is_a_change_taken_back_within_one_cold_start() -> None:
    up_down_up = target_changes(decided((10, 2), (15, 1), (20, 2), (40, 1)), initial_replicas=1)
    assert count_flaps(up_down_up, cold_start_s=10.0) == 2
    assert count_flaps(up_down_up, cold_start_s=4.0) == 0
    assert count_flaps([(10, 1), (12, 2), (14, 1)], cold_start_s=10.0) == 0, "a climb in steps turns nothing back"


def test_errors_and_fallbacks_are_counted_by_decision() -> None:
    calm = ClusterSnapshot(0.0, 1)
    wants_forecast = make_policy("forecast-quantile", replica_requests_per_s=2.0, horizon_s=10.0).decide(calm)
    wants_none: ScalingDecision = make_policy("reactive", replica_requests_per_s=2.0).decide(calm)
    lines = decided((1, 1), (2, 1), reason=wants_forecast.reason) + decided((3, 1), reason=wants_none.reason)
    lines += decided((4, 1), error="ValueError: no")
    summary = summarise_fleet(FLEET, lines, **RUN)
    assert (summary.decisions, summary.policy_errors, summary.forecast_fallbacks) == (4, 1, 2)


def test_counts_at_an_instant_of_change_are_those_after_it() -> None:
    counts = replica_counts(FLEET, [0.0, 19.9, 20.0, 30.0, 60.0, 65.0, 100.0])
    assert list(counts.columns) == ["time_s", "starting", "ready", "draining", "failed", "filling", "pooled"]
    assert counts["starting"].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert counts["ready"].tolist() == [1, 1, 1, 2, 1, 1, 0]
    assert counts["draining"].tolist() == [0, 0, 0, 0, 1, 0, 0]


intervals = st.lists(
    st.tuples(st.sampled_from(["starting", "ready", "draining"]), st.integers(0, 100), st.integers(0, 60)), max_size=12
)


@given(rows=intervals)
def test_the_summary_agrees_with_counting_every_second(rows: list[tuple[str, int, int]]) -> None:
    fleet = frame(*[(str(index), state, start, start + length) for index, (state, start, length) in enumerate(rows)])
    summary = summarise_fleet(fleet, [], **RUN)
    seconds = replica_counts(fleet, np.arange(100.0))
    naive = [
        sum(start <= second < start + length for state, start, length in rows if state == "ready")
        for second in range(100)
    ]
    assert seconds["ready"].tolist() == naive
    assert summary.peak_ready_replicas == max(naive)
    assert summary.without_ready_s == naive.count(0)
    assert summary.replica_seconds == seconds[["starting", "ready", "draining"]].to_numpy().sum()


def test_a_dead_replica_is_counted_and_held_until_its_death_is_noticed_and_a_pool_as_it_is_configured() -> None:
    rows = pd.DataFrame(
        [
            ("a", "ready", 0.0, 40.0),
            ("a", "failed", 40.0, 42.0),
            ("b", "failed", 50.0, 50.0),
            ("pool-0", "filling", 0.0, 10.0),
            ("pool-0", "pooled", 10.0, 100.0),
        ],
        columns=["replica_id", "state", "start_s", "end_s"],
    )
    asleep, loaded = (summarise_fleet(rows, [], **RUN, pool_holds_gpus=holds) for holds in (False, True))
    assert (asleep.failed_replicas, asleep.peak_ready_replicas) == (2, 1)
    assert (asleep.replica_seconds, loaded.replica_seconds) == (52.0, 142.0)
    assert (asleep.pool_fraction, loaded.pool_fraction) == (10 / 52, 100 / 142)
