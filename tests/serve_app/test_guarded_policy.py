"""Policies that misbehave, and policies by name or import path."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest

from autoscaler.interface import ClusterSnapshot, ScalingDecision
from autoscaler.policies.stabilized import Stabilized
from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.config import AppConfig
from serve_app.guarded_policy import GuardedPolicy, PolicyError, build_policy, checked_decision

SNAPSHOT = ClusterSnapshot(now_s=0.0, target_replicas=1)


class Answers:
    """A policy that calls what it is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Call it."""
        decision: ScalingDecision = self.answer(cluster)
        return decision


def guarded(answer: Any, timeout_s: float = 5.0) -> GuardedPolicy:
    """A guarded policy."""
    return GuardedPolicy(lambda: Answers(answer), timeout_s)


@pytest.mark.parametrize(
    "decision",
    [
        None,
        3,
        "3",
        ScalingDecision(math.nan, ""),
        ScalingDecision(math.inf, ""),
        ScalingDecision(-1, ""),
        ScalingDecision(None, ""),
    ],  # type: ignore[arg-type]
)
def test_what_is_no_decision_is_refused(decision: Any) -> None:
    """NaN is the classic: a rate divided by no replicas."""
    with pytest.raises(PolicyError):
        checked_decision(decision)


def test_a_fraction_of_a_replica_is_a_whole_one() -> None:
    """Rounded up: less would not carry the load."""
    assert checked_decision(ScalingDecision(2.1, "r")) == ScalingDecision(3, "r")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError("no"), TimeoutError("not ours"), SystemExit(1), KeyboardInterrupt()])
def test_whatever_a_policy_raises_becomes_a_policy_error_and_the_next_question_is_answered(
    error: BaseException,
) -> None:
    """Also what is meant to end the process."""
    failures = [error]

    def decide(cluster: ClusterSnapshot) -> ScalingDecision:
        if failures:
            raise failures.pop()
        return ScalingDecision(cluster.target_replicas + 1, "well")

    policy = guarded(decide)
    with pytest.raises(PolicyError, match=type(error).__name__):
        policy.decide(SNAPSHOT)
    assert policy.decide(SNAPSHOT).target_replicas == 2
    policy.close()


def test_a_slow_policy_is_not_waited_for_nor_asked_twice_and_its_late_answer_is_thrown_away() -> None:
    """It thinks until it is let go."""
    let_go, asked = threading.Event(), []

    def decide(cluster: ClusterSnapshot) -> ScalingDecision:
        asked.append(cluster)
        if len(asked) == 1:
            let_go.wait(10)
            return ScalingDecision(99, "late")
        return ScalingDecision(2, "in time")

    policy = guarded(decide, timeout_s=0.05)
    with pytest.raises(PolicyError, match=r"longer than 0\.05 s"):
        policy.decide(SNAPSHOT)
    with pytest.raises(PolicyError, match="has been thinking"):
        policy.decide(SNAPSHOT)
    assert len(asked) == 1
    let_go.set()
    while policy.is_busy:
        pass
    assert policy.decide(SNAPSHOT) == ScalingDecision(2, "in time")
    policy.close()


def test_a_policy_that_cannot_be_made_is_an_error_at_each_question() -> None:
    """Its constructor runs in the same guarded thread."""

    def fail() -> Any:
        raise InputError("no such thing")

    policy = GuardedPolicy(fail, 5.0)
    for _ in range(2):
        with pytest.raises(PolicyError, match="no such thing"):
            policy.decide(SNAPSHOT)
    policy.close()


def config(policy: dict[str, Any]) -> AppConfig:
    """An application with this policy."""
    return parse(
        AppConfig,
        {
            "model_id": "m",
            "engine": {"kind": "emulated", "hardware": "x"},
            "fleet": {
                "min_replicas": 1,
                "max_replicas": 2,
                "initial_replicas": 1,
                "cold_start_s": 1,
                "max_ongoing_requests": 1,
            },
            "services": {"conversation": {"priority": "interactive"}, "api": {"priority": "batch"}},
            "control": {"up_delay_s": 3},
            "policy": policy,
        },
        "test",
    )


def test_a_policy_is_made_by_name_or_by_import_path_with_its_delays(tmp_path: Path) -> None:
    """Both are wrapped alike."""
    by_name = build_policy(config({"name": "static", "params": {"replicas": 2}}))
    assert isinstance(by_name, Stabilized)
    assert by_name.up_delay_s == 3
    told = tmp_path / "told"
    told.write_text("4")
    by_path = build_policy(config({"name": "told_policy:Told", "params": {"path": str(told)}}))
    assert "told 4" in by_path.decide(SNAPSHOT).reason


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"name": "nope"}, "unknown policy 'nope'; known: "),
        ({"name": "static", "params": {"replica": 2}}, "replica"),
        ({"name": "no_such_module:Policy"}, "cannot be imported"),
        ({"name": "told_policy:Nobody"}, "cannot be imported"),
        ({"name": "told_policy:Told", "params": {"file": "x"}}, "does not take its parameters"),
    ],
)
def test_a_policy_that_does_not_exist_is_one_line_to_the_user(policy: dict[str, Any], message: str) -> None:
    """An InputError that names it."""
    with pytest.raises(InputError, match=message) as error:
        build_policy(config(policy))
    assert "\n" not in str(error.value)
