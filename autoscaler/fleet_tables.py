"""The tables of what a fleet did, simulated or live: their columns."""

from enum import StrEnum

import pyarrow as pa


class RecordedState(StrEnum):
    """The states in the table of replicas. A policy sees the first three (`autoscaler.interface.ReplicaState`)."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"  # dead, from then until it was noticed; a row is there even if that took no time
    FILLING = "filling"  # being loaded for the warm pool
    POOLED = "pooled"  # waiting in the warm pool


# One row per replica and state, and phase of a start ("weights"; null where it is not told apart): it was in it in
# [start_s, end_s).
REPLICA_SCHEMA = pa.schema(
    [
        pa.field("replica_id", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("phase", pa.string()),
    ]
)

# One row per report of a replica: counts at time_s, tokens made in the interval_s before it. `looked_up_tokens` are
# those of requests that the engine admitted in that time, `found_tokens` those of them that its prefix cache had (a
# request that was preempted looks up again); null where there is no such cache.
ENGINE_SCHEMA = pa.schema(
    [
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("replica_id", pa.string(), nullable=False),
        pa.field("running", pa.int32(), nullable=False),
        pa.field("waiting", pa.int32(), nullable=False),
        pa.field("kv_cache_fraction", pa.float64(), nullable=False),
        pa.field("output_tokens", pa.int64(), nullable=False),
        pa.field("interval_s", pa.float64(), nullable=False),
        pa.field("looked_up_tokens", pa.int64()),
        pa.field("found_tokens", pa.int64()),
    ]
)
