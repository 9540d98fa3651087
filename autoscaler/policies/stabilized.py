"""Delays: a change is made only once it has been asked for without a break for some time."""

from dataclasses import dataclass, field

from autoscaler.interface import ClusterSnapshot, Policy, ScalingDecision
from autoscaler.policies.change_timer import ROUNDING_S, ChangeTimer, end_wait, waited_s


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
        waited = waited_s(self._timer, asked.target_replicas, target, cluster.now_s)
        if asked.target_replicas == target:
            return asked
        is_up = asked.target_replicas > target
        self._highest_asked = max(asked.target_replicas, self._highest_asked if waited > 0 else 0)
        left_s = (self.up_delay_s if is_up else self.down_delay_s) - waited
        if left_s > ROUNDING_S:
            return ScalingDecision(
                target, f"{asked.reason}; {asked.target_replicas} held back at {target} for {left_s:.3g} s more"
            )
        end_wait(self._timer, target)
        if is_up or self._highest_asked == asked.target_replicas:
            return asked
        return ScalingDecision(self._highest_asked, f"{asked.reason}; highest while waiting {self._highest_asked}")
