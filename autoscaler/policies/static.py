"""The policy that does nothing: what autoscaling has to beat."""

from dataclasses import dataclass

from autoscaler.interface import ClusterSnapshot, ScalingDecision
from autoscaler.policies.parameters import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """Always the same number of replicas."""

    replicas: Count

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:  # noqa: ARG002 - it looks at nothing
        """Answer with the configured number."""
        return ScalingDecision(self.replicas, f"static {self.replicas}")
