"""Builders of what a policy sees, so that a test states only what matters to it."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoscaler.interface import ArrivalHistory, ClusterSnapshot, QueueSnapshot, ReplicaSnapshot, ReplicaState
from forecasting.interface import Forecast

sys.path.append(str(Path(__file__).parent / "importable"))


@pytest.fixture(scope="session")
def cluster_at() -> Callable[..., ClusterSnapshot]:
    """Build a snapshot: `arrivals` and `forecast` by service, `queued` requests of the conversation service."""

    def build(
        now_s: float = 100.0,
        *,
        target: int = 1,
        ready: int = 1,
        starting: int = 0,
        draining: int = 0,
        running: int = 0,
        waiting: int = 0,
        queued: int = 0,
        queues: dict[str, QueueSnapshot] | None = None,
        arrivals: dict[str, list[float]] | None = None,
        forecast: dict[str, Forecast] | None = None,
        bin_s: float = 1.0,
    ) -> ClusterSnapshot:
        states = [ReplicaState.READY] * ready + [ReplicaState.STARTING] * starting + [ReplicaState.DRAINING] * draining
        replicas = [ReplicaSnapshot(f"r{index}", state, 0.0) for index, state in enumerate(states)]
        if ready:
            replicas[0] = ReplicaSnapshot("r0", ReplicaState.READY, 0.0, running=running, waiting=waiting)
        return ClusterSnapshot(
            now_s=now_s,
            target_replicas=target,
            replicas=tuple(replicas),
            queued=queues if queues is not None else {"conversation": QueueSnapshot(queued)},
            arrivals={
                name: ArrivalHistory(now_s - len(counts) * bin_s, bin_s, np.asarray(counts, dtype=np.float64))
                for name, counts in (arrivals or {}).items()
            },
            forecast=forecast,
        )

    return build


@pytest.fixture(scope="session")
def forecast_of() -> Callable[..., Forecast]:
    """Build a forecast from rates (requests/s) per level and bin: {0.5: [1, 2], 0.9: [2, 4]}."""

    def build(rates: dict[float, list[float]], issued_at_s: float = 100.0, bin_s: float = 5.0) -> Forecast:
        return Forecast(issued_at_s, bin_s, np.asarray(list(rates)), np.asarray(list(rates.values())) * bin_s)

    return build
