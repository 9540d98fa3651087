"""The reactive rule: enough replicas for the busiest recent moment and for clearing the backlog."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from autoscaler.interface import ArrivalHistory, ClusterSnapshot, QueueSnapshot, ReplicaState, ScalingDecision
from autoscaler.policies.parameters import NonNegative, Positive, SecondsByService

# Short enough to see a burst within a few control periods, long enough that a handful of requests is not one.
WINDOW_S = 20.0
# About the longest time for which holding is cheaper than starting again at cold starts of 10 to 70 s.
HOLD_S = 60.0
DRAIN_S = 10.0
# A patient queue is cleared in this share of its time, so that its last requests still have some left.
PATIENCE_FRACTION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reactive:
    """Replicas for the highest recent arrival rate, held for a while, plus those that clear the backlog.

    Replicas = ceil(peak / rate + sum over services of backlog / (rate x time to clear it)), where `peak` is the highest
    mean over `window_s` within the last `hold_s` (as far as the history reaches). All of it is an absolute number: a
    replica that is still starting is in it already and is not asked for again. Where nothing was counted yet, as after
    a restart of the controller, the target stays: no counts are not the same as no traffic.

    A service in `patience_s` may wait so long for its first tokens (its SLO's `ttft_s`, say): replicas are not kept for
    its arrivals, only for its backlog, which is cleared in half of that time, or by its earliest deadline where that
    is sooner. So a batch job of ten minutes costs few replicas for some minutes instead of many at once. The time is
    never under `drain_s`: a replica that is not there yet can't meet a deadline a second away, and the fleet must not
    blow up over it.

    Attributes:
        replica_requests_per_s: what one replica carries within the SLO (see autoscaler.capacity).
        drain_s: the backlog is to be cleared in this time.
    """

    replica_requests_per_s: Positive
    window_s: Positive = WINDOW_S
    hold_s: NonNegative = HOLD_S
    drain_s: Positive = DRAIN_S
    patience_s: SecondsByService = field(default_factory=dict)

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Size the fleet for the recent peak and the backlog."""
        backlog = cluster.queued_requests + _waiting_inside(cluster)
        cleared_per_s = self._cleared_per_s(cluster)
        impatient = [history for name, history in cluster.arrivals.items() if name not in self.patience_s]
        peak_per_s = peak_requests_per_s(impatient, self.window_s, self.hold_s)
        needed = whole_replicas((peak_per_s + cleared_per_s) / self.replica_requests_per_s)
        if not any(len(history.requests) for history in cluster.arrivals.values()):
            kept = max(needed, cluster.target_replicas)
            return ScalingDecision(kept, f"no arrivals counted yet, {backlog} waiting -> {kept}")
        return ScalingDecision(
            needed, f"peak {peak_per_s:.3g} requests/s in {self.hold_s:.3g} s, {backlog} waiting -> {needed}"
        )

    def _cleared_per_s(self, cluster: ClusterSnapshot) -> float:
        """Requests per second of backlog that are to be served on top of the arrivals.

        Requests that wait inside a replica count like those of an impatient service: the snapshot does not tell whose
        they are, and the router lets few of them in.
        """
        return _waiting_inside(cluster) / self.drain_s + sum(
            queue.requests / self._time_to_clear_s(name, queue, cluster.now_s) for name, queue in cluster.queued.items()
        )

    def _time_to_clear_s(self, service: str, queue: QueueSnapshot, now_s: float) -> float:
        """How long the queue of a service may take to be cleared."""
        patience_s = self.patience_s.get(service)
        if patience_s is None:
            return self.drain_s
        left_s = math.inf if queue.earliest_deadline_s is None else queue.earliest_deadline_s - now_s
        return max(self.drain_s, min(PATIENCE_FRACTION * patience_s, left_s))


def peak_requests_per_s(histories: Iterable[ArrivalHistory], window_s: float, hold_s: float) -> float:
    """The highest mean rate over `window_s` within the last `hold_s`, summed over services; 0 where none is counted.

    The services' bins are of one length and end together. "Last" counts from the end of the history, so that counts
    that come late look like the traffic of a moment ago, not like silence. While the history is shorter than the
    window, the mean is over what there is.
    """
    counted = [history for history in histories if len(history.requests)]
    if not counted:
        return 0.0
    bin_s = counted[0].bin_s
    window_bins = max(1, round(window_s / bin_s))
    kept_bins = window_bins + round(hold_s / bin_s)
    bins = min(kept_bins, max(len(history.requests) for history in counted))
    total = np.zeros(bins)
    for history in counted:
        last = history.requests[-bins:]
        total[bins - len(last) :] += last
    window_bins = min(window_bins, bins)
    sums = np.convolve(total, np.ones(window_bins), mode="valid")
    return float(sums.max()) / (window_bins * bin_s)


def whole_replicas(replicas: float) -> int:
    """Round up, but take 3.0000000001, a rounding error, for 3."""
    return math.ceil(replicas - 1e-9)


def _waiting_inside(cluster: ClusterSnapshot) -> int:
    """Requests that wait inside replicas; a draining one clears its own."""
    return sum(replica.waiting for replica in cluster.replicas if replica.state is not ReplicaState.DRAINING)
