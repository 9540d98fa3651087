"""What is written down of a replica: its name, its life, and rows of its engine's state."""

from dataclasses import dataclass

import numpy as np

from autoscaler.simulator.fleet_state import STARTING


@dataclass(frozen=True, slots=True)
class ReplicaLife:
    """When a replica was asked for, ready, told to drain, and gone; infinity where it never came to that."""

    number: int
    requested_s: float
    ready_s: float
    draining_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class EngineSample:
    """A row of the engine table: counts at an instant, and output tokens in the `interval_s` before."""

    time_s: float
    number: int
    running: int
    waiting: int
    kv_cache_fraction: float
    output_tokens: int
    interval_s: float


def replica_name(number: int) -> str:
    """The name of the replica in snapshots and tables."""
    return f"replica-{number}"


def life_of(replica: np.void) -> ReplicaLife:
    """The life of one replica; a start that was cancelled was never ready."""
    ended_s, ready_s = float(replica["ended_s"]), float(replica["ready_s"])
    was_ready = int(replica["state"]) != STARTING and ready_s < ended_s
    return ReplicaLife(
        number=int(replica["number"]),
        requested_s=float(replica["requested_s"]),
        ready_s=ready_s if was_ready else np.inf,
        draining_s=float(replica["draining_s"]),
        ended_s=ended_s,
    )
