"""What a run's fleet cost and how it moved: from its replicas over time and its decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from autoscaler.fleet_tables import RecordedState
from autoscaler.policies.forecast_quantile import is_fallback

STATES = tuple(state.value for state in RecordedState)


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """The fleet of one run in numbers.

    A replica holds its GPU while it starts, is ready, drains, is dead and nobody knows, and is loaded for the warm
    pool; in the pool where that is so configured.

    Attributes:
        starting_fraction, draining_fraction, pool_fraction: shares of `replica_seconds` in which nothing new could be
            served.
        failed_replicas: how many died.
        mean_ready_replicas: over the whole run.
        scale_ups, scale_downs: changes of the target.
        flaps: changes of the target that were taken back within one cold start.
        without_ready_s: time in which no replica was ready.
        policy_errors: decisions in which the policy failed and the target stayed.
        forecast_fallbacks: decisions made without a usable forecast by a policy that wants one.
    """

    replica_seconds: float
    gpu_hours: float
    starting_fraction: float
    draining_fraction: float
    pool_fraction: float
    failed_replicas: int
    peak_ready_replicas: int
    mean_ready_replicas: float
    scale_ups: int
    scale_downs: int
    flaps: int
    without_ready_s: float
    decisions: int
    policy_errors: int
    forecast_fallbacks: int

    def as_json(self) -> dict[str, float | int]:
        """Plain values for summary.json."""
        return asdict(self)


def summarise_fleet(
    replicas: pd.DataFrame,
    decisions: Sequence[Mapping[str, Any]],
    *,
    duration_s: float,
    initial_replicas: int,
    cold_start_s: float,
    gpus_per_replica: float = 1.0,
    pool_holds_gpus: bool = False,
) -> FleetSummary:
    """Summarise the fleet over [0, duration_s).

    Args:
        replicas: the rows of replicas.parquet: replica_id, state, start_s, end_s; what lies outside the run is cut off.
        decisions: the lines of decisions.jsonl, in order of time.
        initial_replicas: the target before the first decision.
        gpus_per_replica: an emulated replica stands for one GPU.
        pool_holds_gpus: whether replicas that wait in the warm pool do.
    """
    held = _clipped(replicas, duration_s)
    seconds = {state: float(held.loc[held["state"] == state, "seconds"].sum()) for state in STATES}
    pool_seconds = seconds["filling"] + (seconds["pooled"] if pool_holds_gpus else 0.0)
    replica_seconds = sum(seconds[state] for state in ("starting", "ready", "draining", "failed")) + pool_seconds
    edges_s, ready = _ready_steps(held, duration_s)
    changes = target_changes(decisions, initial_replicas)
    return FleetSummary(
        replica_seconds=replica_seconds,
        gpu_hours=replica_seconds * gpus_per_replica / 3600,
        starting_fraction=seconds["starting"] / replica_seconds if replica_seconds else 0.0,
        draining_fraction=seconds["draining"] / replica_seconds if replica_seconds else 0.0,
        pool_fraction=pool_seconds / replica_seconds if replica_seconds else 0.0,
        failed_replicas=int((replicas["state"] == RecordedState.FAILED).sum()),
        peak_ready_replicas=int(ready.max(initial=0)),
        mean_ready_replicas=seconds["ready"] / duration_s if duration_s else 0.0,
        scale_ups=sum(change > 0 for _, change in changes),
        scale_downs=sum(change < 0 for _, change in changes),
        flaps=count_flaps(changes, cold_start_s),
        without_ready_s=float(np.diff(edges_s)[ready == 0].sum()),
        decisions=len(decisions),
        policy_errors=sum(decision.get("error") is not None for decision in decisions),
        forecast_fallbacks=sum(is_fallback(decision["reason"]) for decision in decisions),
    )


def target_changes(decisions: Sequence[Mapping[str, Any]], initial_replicas: int) -> list[tuple[float, int]]:
    """The changes of the target as (time_s, replicas more or fewer), in order of time."""
    instants = [(0.0, initial_replicas)] + [(line["time_s"], line["target_replicas"]) for line in decisions]
    return [(time_s, new - old) for (_, old), (time_s, new) in pairwise(instants) if new != old]


def count_flaps(changes: Sequence[tuple[float, int]], cold_start_s: float) -> int:
    """How many changes turn back the one before them within a cold start, so that a replica was started for nothing."""
    return sum(
        before * after < 0 and after_s - before_s <= cold_start_s
        for (before_s, before), (after_s, after) in pairwise(changes)
    )


def replica_counts(replicas: pd.DataFrame, times_s: ArrayLike) -> pd.DataFrame:
    """Replicas in each state at each instant: columns time_s and the states of `RecordedState`.

    A state holds in [start_s, end_s): at the instant of a change a replica counts in its new state only.
    """
    instants_s = np.asarray(times_s, dtype=np.float64)
    counts: dict[str, NDArray[Any]] = {"time_s": instants_s}
    for state in STATES:
        rows = replicas[(replicas["state"] == state) & (replicas["end_s"] > replicas["start_s"])]
        begun = np.searchsorted(np.sort(rows["start_s"].to_numpy(np.float64)), instants_s, side="right")
        ended = np.searchsorted(np.sort(rows["end_s"].to_numpy(np.float64)), instants_s, side="right")
        counts[state] = begun - ended
    return pd.DataFrame(counts)


def _clipped(replicas: pd.DataFrame, duration_s: float) -> pd.DataFrame:
    """The intervals within [0, duration_s), with their length in `seconds`; empty ones are dropped."""
    held = replicas.assign(start_s=replicas["start_s"].clip(lower=0.0), end_s=replicas["end_s"].clip(upper=duration_s))
    held = held.assign(seconds=held["end_s"] - held["start_s"])
    return held[held["seconds"] > 0]


def _ready_steps(held: pd.DataFrame, duration_s: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ready replicas as a step function over the run: f64[n + 1] edges, and i64[n] replicas between them."""
    ready = held[held["state"] == RecordedState.READY.value]
    edges_s = np.unique(np.concatenate([ready["start_s"], ready["end_s"], [0.0, duration_s]]).astype(np.float64))
    return edges_s, replica_counts(ready, edges_s[:-1])["ready"].to_numpy(np.int64)
