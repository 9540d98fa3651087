"""What a snapshot counts, and how limits keep a decision."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.interface import ClusterSnapshot, QueueSnapshot, ReplicaState, ScalingLimits

Build = Callable[..., ClusterSnapshot]


def test_replicas_are_counted_by_state(cluster_at: Build) -> None:
    cluster = cluster_at(ready=3, starting=2, draining=1)
    assert [cluster.count(state) for state in ReplicaState] == [2, 3, 1]


def test_ongoing_requests_are_those_queued_waiting_and_running(cluster_at: Build) -> None:
    queues = {"conversation": QueueSnapshot(4), "api": QueueSnapshot(7, prompt_tokens=900, earliest_deadline_s=130.0)}
    cluster = cluster_at(running=20, waiting=3, queues=queues)
    assert (cluster.queued_requests, cluster.ongoing_requests) == (11, 34)


def test_a_snapshot_of_nothing_has_nothing_in_it() -> None:
    empty = ClusterSnapshot(now_s=0.0, target_replicas=0)
    assert (empty.queued_requests, empty.ongoing_requests, empty.count(ReplicaState.READY)) == (0, 0, 0)


@pytest.mark.parametrize(("asked", "allowed"), [(0, 1), (1, 1), (5, 5), (12, 12), (44, 12), (-3, 1)])
def test_limits_take_the_nearest_allowed_number(asked: int, allowed: int) -> None:
    assert ScalingLimits(1, 12).clamp(asked) == allowed


@given(low=st.integers(0, 20), span=st.integers(0, 20), asked=st.integers(-100, 100), other=st.integers(-100, 100))
def test_clamping_stays_within_the_limits_and_keeps_the_order(low: int, span: int, asked: int, other: int) -> None:
    limits = ScalingLimits(low, low + span)
    assert low <= limits.clamp(asked) <= low + span
    assert (limits.clamp(asked) <= limits.clamp(other)) or asked > other
    assert limits.clamp(limits.clamp(asked)) == limits.clamp(asked)
