"""The tables of what a fleet did, simulated or live: their columns."""

import pyarrow as pa

# One row per replica and state: it was in it in [start_s, end_s).
REPLICA_SCHEMA = pa.schema(
    [
        pa.field("replica_id", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
    ]
)

# One row per report of a replica: counts at time_s, tokens made in the interval_s before it.
ENGINE_SCHEMA = pa.schema(
    [
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("replica_id", pa.string(), nullable=False),
        pa.field("running", pa.int32(), nullable=False),
        pa.field("waiting", pa.int32(), nullable=False),
        pa.field("kv_cache_fraction", pa.float64(), nullable=False),
        pa.field("output_tokens", pa.int64(), nullable=False),
        pa.field("interval_s", pa.float64(), nullable=False),
    ]
)
