"""Delays: a change is made only once it has been asked for without a break for some time."""

from dataclasses import dataclass, field

from autoscaler.interface import ClusterSnapshot, Policy, ScalingDecision

# Differences of large instants fall short of the true interval by rounding: 400 s can come out as 399.9999999999999 s.
ROUNDING_S = 1e-6


@dataclass(slots=True)
class ChangeTimer:
    """Since when more (direction 1) or fewer (-1) replicas have been asked for without a break.

    Measured in snapshot time, not in ticks: a slow control loop must not stretch the delay. A wait that is over starts
    anew when the target has moved, not before: the caller may hold a change back for longer, or lose it.
    """

    direction: int = 0
    since_s: float = 0.0
    over_at_target: int | None = None

    def waited_s(self, asked_replicas: int, target_replicas: int, now_s: float) -> float:
        """How long the change from the target has been asked for, this moment included; 0 where none is."""
        is_made = self.over_at_target not in (None, target_replicas)
        self.over_at_target = None
        direction = (asked_replicas > target_replicas) - (asked_replicas < target_replicas)
        if direction != self.direction or is_made:
            self.direction, self.since_s = direction, now_s
        return now_s - self.since_s if direction else 0.0

    def end_wait(self, target_replicas: int) -> None:
        """Note that the change from this target may be made now."""
        self.over_at_target = target_replicas


@dataclass(slots=True)
class Stabilized:
    """Another policy whose changes wait: `up_delay_s` for more replicas, `down_delay_s` for fewer.

    The number asked for may fluctuate during the wait, as long as it stays on the same side of the target; a single
    snapshot without the wish starts the wait anew. More replicas: the latest number is taken, as a burst that grew
    meanwhile is to be met. Fewer: the highest number asked for during the wait, so that one low sample at its end
    takes nothing away that was needed a moment before.
    """

    policy: Policy
    up_delay_s: float
    down_delay_s: float
    _timer: ChangeTimer = field(default_factory=ChangeTimer, init=False, repr=False, compare=False)
    _highest_asked: int = field(default=0, init=False, repr=False, compare=False)

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Pass on the policy's decision, or keep the target and say for how long still."""
        asked = self.policy.decide(cluster)
        target = cluster.target_replicas
        waited_s = self._timer.waited_s(asked.target_replicas, target, cluster.now_s)
        if asked.target_replicas == target:
            return asked
        is_up = asked.target_replicas > target
        self._highest_asked = max(asked.target_replicas, self._highest_asked if waited_s > 0 else 0)
        left_s = (self.up_delay_s if is_up else self.down_delay_s) - waited_s
        if left_s > ROUNDING_S:
            return ScalingDecision(
                target, f"{asked.reason}; {asked.target_replicas} held back at {target} for {left_s:.3g} s more"
            )
        self._timer.end_wait(target)
        if is_up or self._highest_asked == asked.target_replicas:
            return asked
        return ScalingDecision(self._highest_asked, f"{asked.reason}; highest while waiting {self._highest_asked}")
