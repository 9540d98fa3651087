"""Delays are told as stories of (now_s, asked, expected): the caller's target follows the decision."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.interface import ClusterSnapshot, ScalingDecision
from autoscaler.policies.stabilized import Stabilized


@dataclass
class Asks:
    """A policy that asks for what the story says."""

    replicas: int = 0

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Ask for it."""
        return ScalingDecision(self.replicas, f"asks {self.replicas} at {cluster.now_s:g} s")


def play(story: list[tuple[float, int]], *, up_delay_s: float, down_delay_s: float, target: int) -> list[int]:
    """The targets after each (now_s, asked)."""
    asks = Asks()
    stabilized = Stabilized(asks, up_delay_s, down_delay_s)
    targets = []
    for now_s, asked in story:
        asks.replicas = asked
        target = stabilized.decide(ClusterSnapshot(now_s, target)).target_replicas
        targets.append(target)
    return targets


def test_no_delay_passes_every_change_on() -> None:
    assert play([(0, 3), (1, 1), (2, 7)], up_delay_s=0, down_delay_s=0, target=1) == [3, 1, 7]


def test_more_replicas_wait_for_the_delay_and_the_latest_number_is_taken() -> None:
    story = [(0, 3), (4, 5), (8, 4), (10, 6), (11, 6)]
    assert play(story, up_delay_s=10, down_delay_s=0, target=2) == [2, 2, 2, 6, 6]


def test_fewer_replicas_wait_and_the_highest_number_asked_for_meanwhile_is_taken() -> None:
    story = [(0, 1), (5, 3), (10, 2), (20, 1), (25, 1), (40, 1)]
    assert play(story, up_delay_s=0, down_delay_s=20, target=5) == [5, 5, 5, 3, 3, 3]
    assert play([*story, (45, 1)], up_delay_s=0, down_delay_s=20, target=5)[-1] == 1


def test_one_sample_without_the_wish_starts_the_wait_anew() -> None:
    story = [(0, 1), (9, 2), (10, 1), (19, 1), (20, 1)]
    assert play(story, up_delay_s=0, down_delay_s=10, target=2) == [2, 2, 2, 2, 1]


def test_a_single_low_sample_takes_nothing_away() -> None:
    story = [(second, 0 if second == 7 else 4) for second in range(20)]
    assert play(story, up_delay_s=0, down_delay_s=3, target=4) == [4] * 20


def test_asking_for_two_and_one_in_turn_does_not_oscillate() -> None:
    story = [(second, 1 + second % 2) for second in range(60)]
    assert play(story, up_delay_s=0, down_delay_s=20, target=2) == [2] * 60


def test_a_change_to_the_other_side_starts_the_wait_anew() -> None:
    assert play([(0, 5), (9, 1), (10, 5), (19, 5), (20, 5)], up_delay_s=10, down_delay_s=10, target=3) == [
        3,
        3,
        3,
        3,
        5,
    ]


def test_the_delay_is_in_seconds_whatever_the_number_of_ticks() -> None:
    often = [(tick * 0.1, 3) for tick in range(101)]
    assert play(often, up_delay_s=10, down_delay_s=0, target=1).index(3) == 100
    assert play([(0, 3), (10, 3)], up_delay_s=10, down_delay_s=0, target=1) == [1, 3]


def test_the_wait_is_not_lost_to_rounding_at_large_instants() -> None:
    start_s = 1.7e9 + 0.1
    story = [(start_s, 3), (start_s + 0.7 - 1e-7, 3)]
    assert play(story, up_delay_s=0.7, down_delay_s=0, target=1) == [1, 3]


def test_a_change_that_was_lost_on_the_way_is_asked_for_again_at_once() -> None:
    stabilized = Stabilized(Asks(3), 10, 10)
    targets = [stabilized.decide(ClusterSnapshot(float(second), 1)).target_replicas for second in range(13)]
    assert targets == [1] * 10 + [3] * 3
    assert stabilized.decide(ClusterSnapshot(13.0, 2)).target_replicas == 2, "the target moved: a new wait"
    assert stabilized.decide(ClusterSnapshot(23.0, 2)).target_replicas == 3


def test_the_reason_says_what_is_held_back_and_for_how_long_still() -> None:
    stabilized = Stabilized(Asks(1), 0, 20)
    stabilized.decide(ClusterSnapshot(100.0, 4))
    decision = stabilized.decide(ClusterSnapshot(105.0, 4))
    assert decision == ScalingDecision(4, "asks 1 at 105 s; 1 held back at 4 for 15 s more")


@given(
    asked=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    up_delay_s=st.integers(0, 5),
    down_delay_s=st.integers(0, 5),
)
def test_a_change_never_exceeds_what_was_asked_for_during_the_wait(
    asked: list[int], up_delay_s: int, down_delay_s: int
) -> None:
    story = [(float(second), replicas) for second, replicas in enumerate(asked)]
    before = [3, *play(story, up_delay_s=up_delay_s, down_delay_s=down_delay_s, target=3)]
    for second, (old, new) in enumerate(itertools.pairwise(before)):
        waited = asked[max(0, second - (up_delay_s if new > old else down_delay_s)) : second + 1]
        if new > old:
            assert min(waited) > old
            assert new == asked[second]
        if new < old:
            assert max(waited) == new


@pytest.mark.parametrize("delay_s", [0.0, 3.0])
def test_the_same_story_gives_the_same_targets(delay_s: float) -> None:
    story = [(float(second), (second * 7) % 5) for second in range(40)]
    once = play(story, up_delay_s=delay_s, down_delay_s=delay_s, target=2)
    assert once == play(story, up_delay_s=delay_s, down_delay_s=delay_s, target=2)
