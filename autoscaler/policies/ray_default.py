"""Ray Serve's own rule, so that it can be simulated and compared: replicas by ongoing requests."""

import math
from collections import deque
from dataclasses import dataclass, field

from autoscaler.interface import ClusterSnapshot, ReplicaState, ScalingDecision
from autoscaler.policies.parameters import NonNegative, Positive
from autoscaler.policies.stabilized import ROUNDING_S, ChangeTimer

# The weight of a sample that has only just arrived, as Serve has it.
NEWEST_SAMPLE_S = 1e-3


@dataclass(slots=True, kw_only=True)
class RayDefault:
    """Ray Serve's default rule: ongoing requests / target_ongoing_requests, after a delay in each direction.

    Ongoing are the requests at the router and those waiting or running in ready replicas, as a mean over the
    look-back weighted by time. Serve gathers them from samples of each replica and router; here they are the
    snapshots that the policy was shown, so a replica's requests count up to the moment when it starts to drain.
    Its limits (min, max) are applied by the caller, as in Serve. Serve makes a change once and then waits anew; this
    asks for it until the target has moved, so that it can stand inside `Stabilized`, whose delay then comes on top.

    Source: Ray 2.60.0, serve/autoscaling_policy.py (`_core_replica_queue_length_policy`, `_apply_scaling_factors`,
    `_apply_delay_logic`) and serve/_private/metrics_utils.py (`time_weighted_average`).

    Attributes:
        upscaling_factor, downscaling_factor: share of the way to the wanted number that is gone at once.
        upscale_delay_s, downscale_delay_s: a change is made once it was asked for so long without a break.
    """

    target_ongoing_requests: Positive = 2.0
    upscale_delay_s: NonNegative = 30.0
    downscale_delay_s: NonNegative = 600.0
    upscaling_factor: Positive = 1.0
    downscaling_factor: Positive = 1.0
    look_back_period_s: Positive = 30.0
    _samples: deque[tuple[float, float]] = field(default_factory=deque, init=False, repr=False, compare=False)
    _timer: ChangeTimer = field(default_factory=ChangeTimer, init=False, repr=False, compare=False)

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Compare the mean of ongoing requests with what the ready replicas are to carry."""
        ongoing = self._observe(cluster)
        ready = cluster.count(ReplicaState.READY)
        seen = f"{ongoing:.3g} ongoing in {self.look_back_period_s:.3g} s, {ready} ready"
        if ready == 0 and ongoing > 0:
            first = max(math.ceil(self.upscaling_factor), cluster.target_replicas)
            return ScalingDecision(first, f"{seen} -> {first} at once, as none is ready")
        wanted = self._wanted(ongoing, ready, cluster.target_replicas)
        if ready == 0 and wanted > 0:
            return ScalingDecision(wanted, f"{seen} -> stays at {wanted}")
        return self._delayed(cluster, wanted, f"{seen} -> {wanted}")

    def _observe(self, cluster: ClusterSnapshot) -> float:
        """Take in the ongoing requests and return their mean over the look-back.

        Each sample holds until the next one: 10 requests for 9 s, then 20 for 1 s, are 11 in the mean.
        """
        ongoing = cluster.queued_requests + sum(
            replica.running + replica.waiting
            for replica in cluster.replicas
            if replica.state is not ReplicaState.DRAINING
        )
        samples = self._samples
        samples.append((cluster.now_s, float(ongoing)))
        while samples[0][0] <= cluster.now_s - self.look_back_period_s:
            samples.popleft()
        ends_s = [*[at_s for at_s, _ in samples][1:], cluster.now_s + NEWEST_SAMPLE_S]
        held_s = [end_s - at_s for (at_s, _), end_s in zip(samples, ends_s, strict=True)]
        return sum(value * span_s for (_, value), span_s in zip(samples, held_s, strict=True)) / sum(held_s)

    def _wanted(self, ongoing: float, ready: int, target: int) -> int:
        """Replicas wanted before the delay, where a factor shortens or lengthens the way from the ready ones."""
        if ready == 0:
            return target
        # In Serve's order of operations: another order can round to the other side of a whole number.
        exact = ready * (ongoing / (self.target_ongoing_requests * ready))
        factor = self.upscaling_factor if exact > ready else self.downscaling_factor
        scaled = math.ceil(ready + factor * (exact - ready))
        # A factor under 1 never gets below its own rounding: 2 + 0.3 * (1 - 2) = 1.7 -> 2, for ever.
        is_stuck = math.ceil(exact) < ready and scaled == ready
        return max(0, scaled - 1 if is_stuck else scaled)

    def _delayed(self, cluster: ClusterSnapshot, wanted: int, reason: str) -> ScalingDecision:
        """Keep the target until the change has been asked for long enough; to 0 it goes only from 1."""
        target = cluster.target_replicas
        waited_s = self._timer.waited_s(wanted, target, cluster.now_s)
        if wanted == target:
            return ScalingDecision(target, reason)
        left_s = (self.upscale_delay_s if wanted > target else self.downscale_delay_s) - waited_s
        if left_s > ROUNDING_S:
            return ScalingDecision(target, f"{reason}; held back at {target} for {left_s:.3g} s more")
        self._timer.end_wait(target)
        return ScalingDecision(wanted if target == 1 else max(1, wanted), reason)
