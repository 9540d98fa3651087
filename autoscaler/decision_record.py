"""One line of decisions.jsonl: what the policy saw in short, what it decided, and why."""

from dataclasses import asdict, dataclass

import numpy as np

from autoscaler.interface import ClusterSnapshot, ReplicaState, ScalingDecision


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """The forecast at one lead, summed over services level by level (an upper bound for upper levels).

    Attributes:
        issued_at_s: when the oldest of the summed forecasts was made.
        at_s: the instant it speaks of.
        levels: quantile levels.
        requests_per_s: one rate per level.
    """

    issued_at_s: float
    at_s: float
    levels: tuple[float, ...]
    requests_per_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A snapshot's digest with the decision made on it.

    Attributes:
        target_replicas: after limits and delays.
        model: whose fleet it is, where several models share a cluster.
        granted_replicas: starting and ready ones that a shared GPU budget lets the fleet have; None = no such budget.
    """

    time_s: float
    target_replicas: int
    proposed_replicas: int
    reason: str
    starting: int
    ready: int
    draining: int
    queued: int
    running: int
    waiting: int
    arrivals_per_s: float
    forecast: ForecastPoint | None
    error: str | None = None
    model: str | None = None
    granted_replicas: int | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values for a JSON line."""
        return asdict(self)


def record_decision(
    cluster: ClusterSnapshot,
    decision: ScalingDecision,
    applied_replicas: int,
    lead_s: float,
    error: str | None = None,
) -> DecisionRecord:
    """Digest a snapshot and the decision on it; `lead_s` picks the bin of the forecast that is kept."""
    return DecisionRecord(
        time_s=cluster.now_s,
        target_replicas=applied_replicas,
        proposed_replicas=decision.target_replicas,
        reason=decision.reason,
        starting=cluster.count(ReplicaState.STARTING),
        ready=cluster.count(ReplicaState.READY),
        draining=cluster.count(ReplicaState.DRAINING),
        queued=cluster.queued_requests,
        running=sum(replica.running for replica in cluster.replicas),
        waiting=sum(replica.waiting for replica in cluster.replicas),
        arrivals_per_s=latest_arrivals_per_s(cluster),
        forecast=forecast_at(cluster, lead_s),
        error=error,
    )


def latest_arrivals_per_s(cluster: ClusterSnapshot) -> float:
    """The rate in the last complete bin, summed over services; 0 where nothing was counted yet."""
    return sum(
        float(history.requests[-1]) / history.bin_s for history in cluster.arrivals.values() if len(history.requests)
    )


def forecast_at(cluster: ClusterSnapshot, lead_s: float) -> ForecastPoint | None:
    """The forecast for `lead_s` after now (its last bin, where it ends sooner), summed over services."""
    if not cluster.forecast:
        return None
    forecasts = list(cluster.forecast.values())
    total = np.zeros(len(forecasts[0].levels))
    at_s = cluster.now_s + lead_s
    for forecast in forecasts:
        bins = forecast.values.shape[1]
        index = min(max(int((at_s - forecast.issued_at_s) // forecast.bin_s), 0), bins - 1)
        total += forecast.values[:, index] / forecast.bin_s
    return ForecastPoint(
        issued_at_s=min(forecast.issued_at_s for forecast in forecasts),
        at_s=at_s,
        levels=tuple(float(level) for level in forecasts[0].levels),
        requests_per_s=tuple(float(rate) for rate in total),
    )
