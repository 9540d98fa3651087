"""The tables of a simulated run: one row per request, per state of a replica, and per report of an engine."""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from autoscaler.fleet_tables import ENGINE_SCHEMA, REPLICA_SCHEMA
from autoscaler.simulator.fleet_reports import EngineSample, ReplicaLife, replica_name
from autoscaler.simulator.fleet_state import Fate
from loadgen.records import ENCODED_RECORD_SCHEMA, Cause, Status
from loadgen.trace import SERVICE_LABELS, Trace

# How each end is recorded: status, cause, and the cause in a sentence.
ENDS: dict[Fate, tuple[Status, Cause | None, str | None]] = {
    Fate.OK: (Status.OK, None, None),
    Fate.QUEUE_FULL: (Status.REJECTED, Cause.QUEUE_FULL, "the router's queue was full"),
    Fate.NO_READY_REPLICA: (Status.TIMED_OUT, Cause.NO_READY_REPLICA, "no replica was ready by the deadline"),
    Fate.DEADLINE_IN_QUEUE: (Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE, "the deadline passed in the router's queue"),
    Fate.DEADLINE_IN_ENGINE: (Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE, "the deadline passed in the engine"),
    Fate.REPLICA_LOST: (Status.FAILED, Cause.REPLICA_LOST, "the replica ended before the request did"),
    Fate.TOO_LONG: (Status.FAILED, Cause.TOO_LONG, "prompt and output are longer than the engine takes"),
}


def record_table(trace: Trace, requests: NDArray[np.void]) -> pa.Table:
    """One record for each request of the trace, in its order (`ENCODED_RECORD_SCHEMA`); every one must have ended.

    What the trace has as well is not copied.
    """
    count = len(trace)
    replica_names = [replica_name(number) for number in range(int(requests["replica"].max(initial=-1)) + 1)]
    statuses, causes, errors = zip(*(ENDS.get(fate, (None, None, None)) for fate in Fate), strict=True)
    columns = {
        "request_id": np.arange(count, dtype=np.int64),
        "service": _encoded("service", SERVICE_LABELS, trace.service),
        "model": _encoded("model", trace.model_names, trace.model),
        "prompt_tokens": trace.prompt_tokens,
        "output_tokens": requests["received_tokens"],
        "scheduled_s": trace.arrival_s,
        "sent_s": trace.arrival_s,
        "first_token_s": pa.array(requests["first_token_s"], from_pandas=True),
        "finished_s": requests["finished_s"],
        "status": _encoded("status", statuses, requests["fate"]),
        "replica_id": _encoded("replica_id", replica_names, requests["replica"]),
        "cause": _encoded("cause", causes, requests["fate"]),
        "error": _encoded("error", errors, requests["fate"]),
        "attempts": np.ones(count, dtype=np.int32),
    }
    schema = ENCODED_RECORD_SCHEMA
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def replica_table(lives: list[ReplicaLife], end_s: float) -> pa.Table:
    """One row for each state that a replica was in for some time; the run ends at `end_s`."""
    rows: dict[str, list[object]] = {name: [] for name in REPLICA_SCHEMA.names}
    for life in lives:
        gone_s = min(life.ended_s, end_s)
        starts_s = {"starting": life.requested_s, "ready": life.ready_s, "draining": life.draining_s}
        bounds_s = [*starts_s.values(), gone_s]
        for place, (state, start_s) in enumerate(starts_s.items()):
            until_s = min(bounds_s[place + 1 :])
            if math.isfinite(start_s) and until_s > start_s:
                for name, value in zip(rows, (replica_name(life.number), state, start_s, until_s), strict=True):
                    rows[name].append(value)
    return pa.table(rows, schema=REPLICA_SCHEMA)


def engine_table(samples: list[EngineSample]) -> pa.Table:
    """One row for each report of a replica, in order of time."""
    columns = {
        name: [getattr(sample, name) for sample in samples] for name in ENGINE_SCHEMA.names if name != "replica_id"
    }
    columns["replica_id"] = [replica_name(sample.number) for sample in samples]
    return pa.table(columns, schema=ENGINE_SCHEMA)


def _encoded(column: str, values: Sequence[str | None], which: NDArray[np.signedinteger]) -> pa.DictionaryArray:
    """The value that each index of `which` stands for; null where that is None, or the index is -1."""
    known = list(dict.fromkeys(value for value in values if value is not None))
    places: dict[str | None, int] = {value: place for place, value in enumerate(known)}
    place_type = ENCODED_RECORD_SCHEMA.field(column).type.index_type.to_pandas_dtype()
    place_of = np.array([*(places.get(value, -1) for value in values), -1], place_type)[which]  # -1 is the last
    indices = pa.array(place_of, mask=place_of < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array([str(value) for value in known], pa.string()))
