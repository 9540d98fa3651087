"""What is written down of a replica: its name, its life, and rows of its engine's state."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator.fleet_state import STARTING, FleetArrays
from autoscaler.simulator.replica_starts import StartPhase

# Where a replica's row notes what its engine has counted up to the last row of the engine table.
COUNTED = {
    "sampled_tokens": "output_tokens",
    "sampled_looked_up": "looked_up_tokens",
    "sampled_found": "found_tokens",
}


@dataclass(frozen=True, slots=True)
class ReplicaLife:
    """When a replica was asked for, ready, told to drain, died, and was gone; infinity where it never came to that.

    `phases` are those of its start as it would have gone on.
    """

    number: int
    requested_s: float
    ready_s: float
    draining_s: float
    failed_s: float
    ended_s: float
    phases: tuple[StartPhase, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineSample:
    """A row of the engine table: counts at an instant, and tokens in the `interval_s` before.

    Those looked up and found in the prefix cache are None where there is none.
    """

    time_s: float
    number: int
    running: int
    waiting: int
    kv_cache_fraction: float
    output_tokens: int
    interval_s: float
    looked_up_tokens: int | None = None
    found_tokens: int | None = None


def replica_name(number: int) -> str:
    """The name of the replica in snapshots and tables."""
    return f"replica-{number}"


def life_of(replica: np.void, phases: tuple[StartPhase, ...]) -> ReplicaLife:
    """The life of one replica; a start that was cancelled, or failed, was never ready."""
    failed_s, ended_s, ready_s = float(replica["failed_s"]), float(replica["ended_s"]), float(replica["ready_s"])
    was_ready = int(replica["state"]) != STARTING and ready_s < min(failed_s, ended_s)
    return ReplicaLife(
        number=int(replica["number"]),
        requested_s=float(replica["requested_s"]),
        ready_s=ready_s if was_ready else np.inf,
        draining_s=float(replica["draining_s"]),
        failed_s=failed_s,
        ended_s=ended_s,
        phases=phases,
    )


def engine_samples(
    fleet: FleetArrays, rows: NDArray[np.int64], at_s: NDArray[np.float64], sampled_s: float, usable_blocks: int
) -> list[EngineSample]:
    """A row of the engine table for each of these replicas; also notes how many tokens have been written down.

    `sampled_s` is when the rows before these were taken.
    """
    replicas, states = fleet.replicas[rows], fleet.states[rows]
    columns = [
        at_s,
        replicas["number"],
        states["running"],
        states["waiting"],
        1.0 - states["free_blocks"] / usable_blocks,
        states["output_tokens"] - replicas["sampled_tokens"],
        at_s - np.maximum(sampled_s, replicas["ready_s"]),
    ]
    if fleet.caches is not None:
        columns.append(states["looked_up_tokens"] - replicas["sampled_looked_up"])
        columns.append(states["found_tokens"] - replicas["sampled_found"])
    for noted, counted in COUNTED.items():
        fleet.replicas[noted][rows] = states[counted]
    return [EngineSample(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
