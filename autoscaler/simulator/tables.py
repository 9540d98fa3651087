"""The tables of a simulated run: one row per request, per state of a replica, and per report of an engine."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from autoscaler.fleet_tables import ENGINE_SCHEMA, REPLICA_SCHEMA, RecordedState
from autoscaler.simulator.client_state import ClientArrays
from autoscaler.simulator.fleet_reports import EngineSample, ReplicaLife, replica_name
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.replica_starts import PoolMember, StartPhase
from autoscaler.simulator.request_phase import PHASES, ROUTER_QUEUE
from loadgen.records import ATTEMPT_SCHEMA, ENCODED_RECORD_SCHEMA, Cause, Status
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
    Fate.GIVEN_UP: (Status.CANCELLED, Cause.GIVEN_UP, "the client gave the attempt up"),
}


def record_table(trace: Trace, requests: NDArray[np.void]) -> pa.Table:
    """One record for each request of the trace, in its order (`ENCODED_RECORD_SCHEMA`); every one must have ended.

    What the trace has as well is not copied.
    """
    count = len(trace)
    replica_names = [replica_name(number) for number in range(int(requests["replica"].max(initial=-1)) + 1)]
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
        "replica_id": _encoded("replica_id", replica_names, requests["replica"]),
        **_ends(requests["fate"]),
        "attempts": requests["attempts"],
        "phase": _encoded("phase", PHASES, _phases(requests)),
    }
    schema = ENCODED_RECORD_SCHEMA
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def attempt_table(requests: NDArray[np.void], clients: ClientArrays) -> pa.Table:
    """Each sending of each request, in order of request and attempt: `ATTEMPT_SCHEMA` with encoded strings."""
    count, failed = len(requests), int(clients.failed_count[0])
    everyone = np.arange(count)
    # By request, and within one in order of time, so that its sendings and their ends meet.
    by_sending = np.argsort(np.concatenate([everyone, clients.resent[:failed]]), kind="stable")
    by_end = np.argsort(np.concatenate([clients.failed[:failed], everyone]), kind="stable")
    first = np.cumsum(requests["attempts"]) - requests["attempts"]
    request_id = np.repeat(everyone, requests["attempts"])
    columns = {
        "request_id": request_id,
        "attempt": (np.arange(len(request_id)) - first[request_id] + 1).astype(np.int32),
        "sent_s": np.concatenate([requests["arrival_s"], clients.resent_s[:failed]])[by_sending],
        "finished_s": np.concatenate([clients.failed_s[:failed], requests["finished_s"]])[by_end],
        **_ends(np.concatenate([clients.failed_fate[:failed], requests["fate"]])[by_end]),
    }
    return pa.table([columns[name] for name in ATTEMPT_SCHEMA.names], ATTEMPT_SCHEMA.names)


def _ends(fates: NDArray[np.int8]) -> dict[str, pa.DictionaryArray]:
    """Status, cause and error of each fate."""
    statuses, causes, errors = zip(*(ENDS.get(fate, (None, None, None)) for fate in Fate), strict=True)
    return {
        "status": _encoded("status", statuses, fates),
        "cause": _encoded("cause", causes, fates),
        "error": _encoded("error", errors, fates),
    }


def _phases(requests: NDArray[np.void]) -> NDArray[np.int8]:
    """The phase in which each request failed, by number of `PHASES`."""
    fates = requests["fate"]
    phases = np.where(np.isin(fates, (Fate.OK, Fate.TOO_LONG)), PHASES.index(None), requests["phase"]).astype(np.int8)
    phases[fates == Fate.QUEUE_FULL] = ROUTER_QUEUE
    return phases


def replica_table(lives: list[ReplicaLife], pool: list[PoolMember], end_s: float) -> pa.Table:
    """One row for each state, and phase of a start, that a replica was in for some time; the run ends at `end_s`.

    A death has a row even where it was noticed at once. Replicas in the warm pool have names of their own.
    """
    rows: list[tuple[str, str, float, float, str | None]] = []
    for life in lives:
        rows.extend((replica_name(life.number), *interval) for interval in _intervals(life, end_s))
    for place, member in enumerate(pool):
        filled_s, taken_s = min(member.filled_s, end_s), min(member.taken_s, end_s)
        name = f"pool-{place}"
        if member.requested_s < filled_s:
            rows.append((name, RecordedState.FILLING, member.requested_s, filled_s, None))
        if filled_s < taken_s:
            rows.append((name, RecordedState.POOLED, filled_s, taken_s, None))
    columns = zip(*rows, strict=True) if rows else [()] * len(REPLICA_SCHEMA)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, REPLICA_SCHEMA, strict=True)], REPLICA_SCHEMA
    )


def _intervals(life: ReplicaLife, end_s: float) -> Iterator[tuple[str, float, float, str | None]]:
    """(state, start, end, phase) of one replica, in order."""
    gone_s = min(life.ended_s, end_s)
    dead_s = min(life.failed_s, gone_s)
    started_s = min(life.ready_s, dead_s)
    phases = life.phases or (StartPhase("", life.requested_s, life.ready_s),)
    for phase in phases:
        if phase.start_s < min(phase.end_s, started_s):
            yield RecordedState.STARTING, phase.start_s, min(phase.end_s, started_s), phase.name or None
    serving_until_s = min(life.draining_s, dead_s)
    if life.ready_s < serving_until_s:
        yield RecordedState.READY, life.ready_s, serving_until_s, None
    if life.draining_s < dead_s:
        yield RecordedState.DRAINING, life.draining_s, dead_s, None
    if life.failed_s <= gone_s:
        yield RecordedState.FAILED, life.failed_s, gone_s, None


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
