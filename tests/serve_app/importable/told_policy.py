"""A policy for the live tests: it does what a file tells it, also what no policy should do."""

import math
import time
from pathlib import Path

from autoscaler.interface import ClusterSnapshot, ScalingDecision


class Told:
    """Reads the number of replicas from a file at each decision; the words 'raise', 'nan', 'sleep' misbehave."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Do as told."""
        told = self.path.read_text().strip()
        if told == "raise":
            raise RuntimeError("told to raise")
        if told == "nan":
            return ScalingDecision(math.nan, "told to answer NaN")  # type: ignore[arg-type]
        if told == "sleep":
            time.sleep(10)
            return ScalingDecision(cluster.target_replicas + 1, "too late to count")
        return ScalingDecision(int(told), f"told {told}")
