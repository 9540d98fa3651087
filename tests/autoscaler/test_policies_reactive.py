"""The reactive rule as stories: one replica carries 2 requests/s, unless said otherwise."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.interface import ClusterSnapshot, QueueSnapshot, ScalingLimits
from autoscaler.policies import make_policy
from autoscaler.policies.reactive import whole_replicas

Build = Callable[..., ClusterSnapshot]
Counts = list[float]


def replicas_for(cluster: ClusterSnapshot, **params: object) -> int:
    """The reactive rule's answer."""
    return make_policy("reactive", **({"replica_requests_per_s": 2.0} | params)).decide(cluster).target_replicas


@pytest.mark.parametrize(
    ("story", "counts", "expected"),
    [
        ("steady 4 requests/s", [4] * 120, 2),
        ("idle: counted, and nothing came", [0] * 120, 0),
        ("a sudden burst fills half of the window", [0] * 110 + [20] * 10, 5),
        ("a ramp: the last window's mean, not the last second", list(range(120)), 55),
        ("a burst that ended 50 s ago is still held", [0] * 50 + [20] * 20 + [0] * 50, 10),
        ("a burst that ended 90 s ago is let go", [0] * 10 + [20] * 20 + [0] * 90, 0),
        ("one second of 10 requests is no burst", [0] * 60 + [10] + [0] * 59, 1),
        ("two replicas' worth, with jitter of one request a second", [3, 5] * 60, 2),
        ("the first second of all", [6], 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_replicas_for_the_recent_peak(story: str, counts: Counts, expected: int, cluster_at: Build) -> None:
    assert replicas_for(cluster_at(arrivals={"conversation": counts})) == expected, story


def test_services_are_added_up_moment_by_moment(cluster_at: Build) -> None:
    early, late = [10] * 20 + [0] * 20, [0] * 20 + [10] * 20
    assert replicas_for(cluster_at(arrivals={"conversation": early, "api": early})) == 10
    assert replicas_for(cluster_at(arrivals={"conversation": early, "api": late})) == 5
    assert replicas_for(cluster_at(arrivals={"conversation": early, "api": late[20:]})) == 5, "a shorter history"


def test_the_bins_may_be_longer_than_a_second(cluster_at: Build) -> None:
    assert replicas_for(cluster_at(arrivals={"conversation": [0, 0, 50, 50, 0]}, bin_s=10.0)) == 3
    assert replicas_for(cluster_at(arrivals={"conversation": [0, 240]}, bin_s=60.0)) == 2


def test_the_backlog_comes_on_top_and_is_cleared_in_time(cluster_at: Build) -> None:
    calm = {"conversation": [1] * 120}
    assert replicas_for(cluster_at(arrivals=calm)) == 1
    assert replicas_for(cluster_at(arrivals=calm, queued=50)) == 3, "1/2 + 50/(2 x 10)"
    assert replicas_for(cluster_at(arrivals=calm, queued=30, waiting=20)) == 3, "queued in a replica or at the router"
    assert replicas_for(cluster_at(arrivals=calm, queued=50), drain_s=25.0) == 2


def test_a_queue_wakes_a_fleet_of_none(cluster_at: Build) -> None:
    assert replicas_for(cluster_at(target=0, ready=0, queued=1, arrivals={"conversation": [0]})) == 1


def test_running_requests_alone_ask_for_nothing(cluster_at: Build) -> None:
    assert replicas_for(cluster_at(running=30, arrivals={"conversation": [0] * 120})) == 0


@pytest.mark.parametrize("arrivals", [{}, {"conversation": []}], ids=["no service", "no bin yet"])
def test_without_any_count_the_target_stays(arrivals: dict[str, Counts], cluster_at: Build) -> None:
    assert replicas_for(cluster_at(target=4, ready=4, arrivals=arrivals)) == 4
    assert replicas_for(cluster_at(target=1, queued=60, arrivals=arrivals)) == 3, "but a backlog is answered"


def test_counts_that_stop_coming_do_not_look_like_silence(cluster_at: Build) -> None:
    cluster = cluster_at(now_s=100.0, arrivals={"conversation": [8] * 60})
    late = cluster_at(now_s=500.0, target=4, ready=4)
    stuck = ClusterSnapshot(500.0, 4, late.replicas, late.queued, cluster.arrivals)
    assert replicas_for(stuck) == replicas_for(cluster) == 4


def test_replicas_that_are_starting_are_not_asked_for_twice(cluster_at: Build) -> None:
    arrivals: dict[str, Counts] = {"conversation": [12] * 60}
    target, targets = 1, []
    for second in range(10):
        cluster = cluster_at(float(second), target=target, ready=1, starting=target - 1, arrivals=arrivals)
        target = replicas_for(cluster)
        targets.append(target)
    assert targets == [6] * 10


def test_the_reason_holds_the_numbers(cluster_at: Build) -> None:
    policy = make_policy("reactive", replica_requests_per_s=2.0)
    cluster = cluster_at(arrivals={"conversation": [4] * 90}, queued=7)
    assert policy.decide(cluster).reason == "peak 4 requests/s in 60 s, 7 waiting -> 3"


def test_a_patient_service_is_sized_by_its_backlog_not_by_its_arrivals(cluster_at: Build) -> None:
    arrivals = {"conversation": [2.0] * 60, "api": [40.0] * 60}
    queues = {"conversation": QueueSnapshot(0), "api": QueueSnapshot(120, 0, 400.0)}
    cluster = cluster_at(arrivals=arrivals, queues=queues)
    assert replicas_for(cluster) == 27, "(2 + 40 + 120/10) / 2"
    assert replicas_for(cluster, patience_s={"api": 60.0}) == 3, "(2 + 120/30) / 2"


def test_a_patient_queue_is_cleared_by_its_earliest_deadline(cluster_at: Build) -> None:
    def asked(deadline_s: float) -> int:
        queues = {"api": QueueSnapshot(120, 0, deadline_s)}
        cluster = cluster_at(now_s=100.0, arrivals={"api": [5.0] * 60}, queues=queues)
        return replicas_for(cluster, patience_s={"api": 120.0})

    assert asked(400.0) == 1, "120 / 60 s / 2"
    assert asked(115.0) == 4, "120 / 15 s / 2"
    assert asked(101.0) == 6, "120 / drain_s / 2: a deadline a second away can't be met by starting replicas"
    assert asked(90.0) == 6, "nor can one that has passed"


def test_a_fleet_of_patient_services_alone_goes_to_zero_when_idle(cluster_at: Build) -> None:
    cluster = cluster_at(target=3, ready=3, arrivals={"api": [0.0] * 60})
    assert replicas_for(cluster, patience_s={"api": 60.0}) == 0


def test_a_rounding_error_is_not_a_replica() -> None:
    assert [whole_replicas(value) for value in (0.0, 3.0000000001, 3.01, 2.9999999999)] == [0, 3, 4, 3]


counts_lists = st.lists(st.integers(0, 50), min_size=1, max_size=90)


@given(
    conversation=counts_lists,
    api=counts_lists,
    more=st.integers(0, 30),
    queued=st.integers(0, 200),
    more_queued=st.integers(0, 50),
    patient=st.booleans(),
)
def test_more_load_never_asks_for_fewer_replicas(
    conversation: list[int], api: list[int], more: int, queued: int, more_queued: int, patient: bool, cluster_at: Build
) -> None:
    params = {"patience_s": {"api": 60.0}} if patient else {}
    less = cluster_at(arrivals={"conversation": conversation, "api": api}, queued=queued)
    busier = cluster_at(
        arrivals={"conversation": [count + more for count in conversation], "api": [count + more for count in api]},
        queued=queued + more_queued,
    )
    assert replicas_for(busier, **params) >= replicas_for(less, **params) >= 0
    assert 1 <= ScalingLimits(1, 8).clamp(replicas_for(busier, **params)) <= 8


@given(counts=counts_lists)
def test_the_peak_is_at_least_the_last_window_and_at_most_the_highest_bin(counts: list[int], cluster_at: Build) -> None:
    asked = replicas_for(cluster_at(arrivals={"conversation": counts}), replica_requests_per_s=1.0)
    last_window = counts[-20:]
    assert whole_replicas(sum(last_window) / len(last_window)) <= asked <= max(counts)
