"""The fleet as a policy sees it, pieced together from what Serve's controller tells and what replicas report."""

from collections.abc import Mapping, Sequence

from autoscaler.interface import ReplicaSnapshot, ReplicaState
from serve_app.traffic import EngineSample


class ReplicaTracker:
    """Follows a deployment's replicas from one control period to the next. No clock, no Ray.

    Serve tells its target and which replicas run. The difference is starting; a replica that Serve does not count as
    running any more but that still reports is draining.
    """

    def __init__(self) -> None:
        self._requested_at_s: dict[str, float] = {}  # of every replica that was seen running
        self._starting_since_s: list[float] = []  # oldest first

    def update(
        self, now_s: float, target_replicas: int, running_ids: Sequence[str], samples: Mapping[str, EngineSample]
    ) -> tuple[ReplicaSnapshot, ...]:
        """The replicas at `now_s`: ready ones, then starting, then draining ones."""
        for replica_id in sorted(set(running_ids) - self._requested_at_s.keys()):
            # Who was asked for first is ready first, as far as anyone can tell.
            self._requested_at_s[replica_id] = self._starting_since_s.pop(0) if self._starting_since_s else now_s
        starting = max(target_replicas - len(running_ids), 0)
        self._starting_since_s = self._starting_since_s[:starting]
        self._starting_since_s += [now_s] * (starting - len(self._starting_since_s))
        running = set(running_ids)
        for replica_id in [known for known in self._requested_at_s if known not in running and known not in samples]:
            del self._requested_at_s[replica_id]
        draining = sorted(self._requested_at_s.keys() - running)
        return (
            *(self._snapshot(replica_id, ReplicaState.READY, samples) for replica_id in sorted(running)),
            *(
                ReplicaSnapshot(f"starting-{number}", ReplicaState.STARTING, since_s)
                for number, since_s in enumerate(self._starting_since_s, start=1)
            ),
            *(self._snapshot(replica_id, ReplicaState.DRAINING, samples) for replica_id in draining),
        )

    def _snapshot(self, replica_id: str, state: ReplicaState, samples: Mapping[str, EngineSample]) -> ReplicaSnapshot:
        requested_at_s = self._requested_at_s[replica_id]
        sample = samples.get(replica_id)
        if sample is None:  # ready a moment ago, not reported yet
            return ReplicaSnapshot(replica_id, state, requested_at_s)
        return ReplicaSnapshot(
            replica_id,
            state,
            requested_at_s,
            sample.running,
            sample.waiting,
            sample.kv_cache_fraction,
            sample.tokens_per_s,
        )
