"""Ray Serve's own rule, so that it can be simulated and compared: replicas by ongoing requests."""

from dataclasses import dataclass, field

from autoscaler.interface import ClusterSnapshot, ReplicaState, ScalingDecision
from autoscaler.policies.change_timer import ChangeTimer
from autoscaler.policies.parameters import NonNegative, Positive
from autoscaler.policies.ray_rule import (
    OngoingWindow,
    RaySettings,
    empty_window,
    forget_old,
    mean_ongoing,
    ray_step,
    with_more_room,
)


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
    _window: OngoingWindow = field(default_factory=empty_window, init=False, repr=False, compare=False)
    _timer: ChangeTimer = field(default_factory=ChangeTimer, init=False, repr=False, compare=False)

    @property
    def settings(self) -> RaySettings:
        """The rule's settings as its plain functions take them."""
        return RaySettings(*(float(getattr(self, name)) for name in RaySettings._fields))

    @property
    def timer(self) -> ChangeTimer:
        """Since when a change has been asked for; the simulator moves it on where nothing changes."""
        return self._timer

    def window_at(self, now_s: float) -> OngoingWindow:
        """The samples of the look-back, with room for one more at `now_s`."""
        while not forget_old(self._window, now_s - self.look_back_period_s):
            self._window = with_more_room(self._window)
        return self._window

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Compare the mean of ongoing requests with what the ready replicas are to carry."""
        ongoing = mean_ongoing(self.window_at(cluster.now_s), cluster.now_s, float(_ongoing(cluster)))
        ready, target = cluster.count(ReplicaState.READY), cluster.target_replicas
        step = ray_step(self.settings, self._timer, ongoing, ready, target, cluster.now_s)
        seen = f"{ongoing:.3g} ongoing in {self.look_back_period_s:.3g} s, {ready} ready -> "
        if ready == 0 and ongoing > 0:
            return ScalingDecision(step.target, f"{seen}{step.wanted} at once, as none is ready")
        if ready == 0 and target > 0:
            return ScalingDecision(step.target, f"{seen}stays at {step.wanted}")
        if step.left_s > 0:
            return ScalingDecision(
                step.target, f"{seen}{step.wanted}; held back at {target} for {step.left_s:.3g} s more"
            )
        return ScalingDecision(step.target, f"{seen}{step.wanted}")


def _ongoing(cluster: ClusterSnapshot) -> int:
    """The requests at the router, and those in replicas that are not draining."""
    return cluster.queued_requests + sum(
        replica.running + replica.waiting for replica in cluster.replicas if replica.state is not ReplicaState.DRAINING
    )
