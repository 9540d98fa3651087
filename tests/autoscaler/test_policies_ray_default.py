"""Our copy of Serve's rule, decision by decision against Ray's own functions, and as stories."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.serve.autoscaling_policy as serve_policy
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.metrics_utils import InMemoryMetricsStore, time_weighted_average
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from autoscaler.interface import ClusterSnapshot
from autoscaler.policies import make_policy
from autoscaler.policies.stabilized import Stabilized

Build = Callable[..., ClusterSnapshot]
MAX_REPLICAS = 40


class ServeItself:
    """Ray's policy with its wrapper, and Ray's store and mean of samples, fed by hand; no cluster is started."""

    def __init__(self, clock: SimpleNamespace, **settings: float) -> None:
        self.clock = clock
        self.config = AutoscalingConfig(min_replicas=0, max_replicas=MAX_REPLICAS, metrics_interval_s=1e-3, **settings)
        self.policy = serve_policy._apply_autoscaling_config(_resolve_policy_callable(AutoscalingPolicy()))
        self.samples = InMemoryMetricsStore()
        self.state: dict[str, Any] = {}

    def decide(self, now_s: float, ongoing: int, ready: int, target: int) -> int:
        """One control loop of Serve at `now_s`."""
        self.clock.now_s = now_s
        self.samples.add_metrics_point({"ongoing": float(ongoing)}, now_s)
        self.samples.prune_keys_and_compact_data(now_s - self.config.look_back_period_s)
        context = AutoscalingContext(
            deployment_id=None,
            deployment_name="d",
            app_name="a",
            current_num_replicas=ready,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=time_weighted_average(self.samples.data["ongoing"], last_window_s=1e-3),
            total_queued_requests=None,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=0,
            capacity_adjusted_max_replicas=MAX_REPLICAS,
            policy_state=self.state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now_s,
            config=self.config,
        )
        replicas, self.state = self.policy(context)
        return replicas


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The time that Ray's policy module reads."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(serve_policy, "time", SimpleNamespace(time=lambda: clock.now_s))
    return clock


def bursty_ongoing(rng: np.random.Generator, steps: int) -> list[int]:
    """Ongoing requests with silences, plateaus and jumps, so that every branch of the rule is met."""
    levels = rng.choice([0, 1, 2, 5, 12, 40, 90], size=steps // 25 + 1)
    return [int(rng.poisson(levels[step // 25])) for step in range(steps)]


SETTINGS = [
    {},
    {"upscale_delay_s": 3.0, "downscale_delay_s": 12.0, "look_back_period_s": 5.0},
    {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "look_back_period_s": 2.5, "target_ongoing_requests": 7.0},
    {"upscale_delay_s": 1.0, "downscale_delay_s": 4.0, "look_back_period_s": 3.0, "upscaling_factor": 2.5},
    {
        "upscale_delay_s": 2.0,
        "downscale_delay_s": 5.0,
        "look_back_period_s": 4.0,
        "upscaling_factor": 0.4,
        "downscaling_factor": 0.3,
        "target_ongoing_requests": 3.0,
    },
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["defaults", "quick", "no delays", "eager", "damped"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_decision_is_the_one_that_ray_serve_makes(
    settings: dict[str, float], seed: int, clock: SimpleNamespace, cluster_at: Build
) -> None:
    rng = np.random.default_rng(seed)
    ours, serve = make_policy("ray-default", **settings), ServeItself(clock, **settings)
    cold_start_steps = 15
    targets = [1] * (cold_start_steps + 1)  # the target's history: a replica asked for is ready some steps later
    now_s, met = 1.7e9, set()
    for ongoing in bursty_ongoing(rng, 1500):
        now_s += float(rng.choice([0.1, 0.5, 1.0, 1.3]))
        target, ready = targets[-1], min(targets[-cold_start_steps:])
        queued = ongoing // 3 if ready else ongoing
        cluster = cluster_at(
            now_s, target=target, ready=ready, starting=target - ready, queued=queued, running=ongoing - queued
        )
        decision = ours.decide(cluster)
        targets.append(min(decision.target_replicas, MAX_REPLICAS))
        assert targets[-1] == min(serve.decide(now_s, ongoing, ready, target), MAX_REPLICAS), decision.reason
        met.add((np.sign(targets[-1] - target), ready == 0))
    expected = {(1, False), (0, False)} if not settings else {(1, False), (-1, False), (0, False)}
    assert expected <= met, "the load never made the fleet grow and shrink: this run compares nothing"
    if settings.get("downscale_delay_s") == 0.0:
        assert (1, True) in met, "the fleet never woke up from 0 replicas"


def test_a_burst_is_answered_after_the_delay_with_ongoing_over_target(cluster_at: Build) -> None:
    policy = make_policy("ray-default", look_back_period_s=1.0)
    story = [(0.0, 20, 2), (15.0, 24, 2), (29.9, 24, 2), (30.0, 24, 12)]
    for now_s, ongoing, expected in story:
        cluster = cluster_at(now_s, target=2, ready=2, queued=4, running=ongoing - 4)
        assert policy.decide(cluster).target_replicas == expected, now_s


def test_a_change_that_the_caller_holds_back_is_asked_for_until_it_is_made(cluster_at: Build) -> None:
    policy = Stabilized(make_policy("ray-default", downscale_delay_s=10.0, look_back_period_s=1.0), 0.0, 5.0)
    targets = [policy.decide(cluster_at(float(second), target=6, ready=6)).target_replicas for second in range(20)]
    assert targets == [6] * 15 + [1] * 5, "its own 10 s, then 5 s more, then until the target moves"


def test_the_mean_weighs_each_sample_by_the_time_it_held(cluster_at: Build) -> None:
    policy = make_policy("ray-default", upscale_delay_s=0.0, look_back_period_s=30.0, target_ongoing_requests=1.0)
    policy.decide(cluster_at(0.0, target=50, ready=1, running=10))
    policy.decide(cluster_at(9.0, target=50, ready=1, running=20))
    decision = policy.decide(cluster_at(10.0, target=1, ready=1, running=0))
    assert decision.target_replicas == 11, "10 for 9 s and 20 for 1 s are 11 in the mean"


def test_requests_of_a_draining_replica_do_not_count(cluster_at: Build) -> None:
    policy = make_policy("ray-default", downscale_delay_s=0.0)
    draining_only = cluster_at(0.0, target=1, ready=0, draining=1)
    busy = ClusterSnapshot(
        0.0, 1, tuple(type(r)(r.replica_id, r.state, 0.0, running=9) for r in draining_only.replicas)
    )
    assert policy.decide(busy).target_replicas == 1


def test_starting_replicas_are_not_asked_for_again(cluster_at: Build) -> None:
    policy = make_policy("ray-default", upscale_delay_s=0.0)
    targets = []
    target = 1
    for second in range(20):
        target = policy.decide(
            cluster_at(float(second), target=target, ready=1, starting=target - 1, running=12)
        ).target_replicas
        targets.append(target)
    assert targets == [6] * 20


def test_an_idle_fleet_goes_to_zero_only_by_way_of_one(cluster_at: Build) -> None:
    policy = make_policy("ray-default", downscale_delay_s=0.0)
    assert policy.decide(cluster_at(0.0, target=5, ready=5)).target_replicas == 1
    assert policy.decide(cluster_at(1.0, target=1, ready=1)).target_replicas == 0


def test_the_first_request_to_an_empty_fleet_wakes_a_replica_at_once(cluster_at: Build) -> None:
    decision = make_policy("ray-default").decide(cluster_at(0.0, target=0, ready=0, queued=1))
    assert decision.target_replicas == 1
    assert decision.reason == "1 ongoing in 30 s, 0 ready -> 1 at once, as none is ready"
