"""In which phase of its life each failed request was, from the client's records and what the server tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from loadgen.records import RECORD_SCHEMA, Cause, Phase, Status

# What was still not sent after this share of its time would not have been given the time that it was promised.
LAG_DEADLINE_FRACTION = 0.5

# Ends that the client brought about, when the server had said nothing.
_LEFT = (Cause.GIVEN_UP, Cause.RUN_ENDED, Cause.DEADLINE_IN_QUEUE)

_KNOWN = (
    "request_id",
    "service",
    "scheduled_s",
    "sent_s",
    "first_token_s",
    "finished_s",
    "replica_id",
    "cause",
    "phase",
    "attempts",
)


@dataclass(frozen=True, slots=True)
class ServerWord:
    """What a server tells of a run beside its answers.

    Attributes:
        cut_off: where in an engine requests were that did not come to their end there, by number of the record and of
            the attempt.
        was_draining: whether a replica was draining at an instant of the run.
        had_ready_replica: whether one was ready at some time between two instants; None = the server does not tell of
            its replicas, or not of every request that an engine cut off.
    """

    cut_off: Mapping[tuple[int, int], Phase] = field(default_factory=dict)
    was_draining: Callable[[str, float], bool] = lambda _replica_id, _at_s: False
    had_ready_replica: Callable[[float, float], bool] | None = None


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """What is known of a request that failed.

    Attributes:
        lateness_s: sent so long after its instant, or, if it never was, still not sent.
        deadline_s: its time, from its instant.
        is_sent: it was sent.
        is_begun: the first token of its answer came in time, counted from its sending.
        named: what the server's error named.
        cut_off: what the engine reported, where it did not bring the request to its end.
        was_draining: the replica that had it was draining when it failed.
        had_ready_replica: while it waited; None = not known.
    """

    cause: Cause | None
    lateness_s: float
    deadline_s: float
    is_sent: bool
    is_begun: bool
    named: Phase | None = None
    cut_off: Phase | None = None
    was_draining: bool = False
    had_ready_replica: bool | None = None


def phase_of(request: FailedRequest) -> Phase | None:
    """The phase in which a request failed; None = not known.

    Who knows best is asked first: the client of its own lag, then the engine, then the router, which may not have heard
    yet that a replica has the request. Without a word of any of them, a request whose answer had begun was in its
    decode (from outside, that cannot be told from waiting after a preemption). One that its client left before any
    answer, and of which no engine of a fleet that tells of each has a word, had not come to an engine. Where any other
    was is not known.
    """
    if _is_lag(request):
        return Phase.CLIENT_LAG
    if request.cause is Cause.NO_READY_REPLICA:
        return Phase.COLD_START
    if request.cause is Cause.REPLICA_LOST:
        return Phase.DRAINED if request.was_draining else Phase.REPLICA_LOST
    told = request.cut_off or request.named or (Phase.DECODE if request.is_begun else None)
    if told is None and request.is_sent and request.cause in _LEFT and request.had_ready_replica is not None:
        return Phase.ROUTER_QUEUE if request.had_ready_replica else Phase.COLD_START
    return told


def _is_lag(request: FailedRequest) -> bool:
    """Whether the load generator alone made it fail: it sent it late, or not at all.

    What was sent had its whole time, counted from the sending: where it failed all the same, the lag is not why. What
    was not sent since somebody ended the run is no lag either, unless it was due long before.
    """
    if request.is_sent:
        return request.cause is Cause.SENT_LATE
    return request.cause is Cause.CLIENT_LOST or request.lateness_s > LAG_DEADLINE_FRACTION * request.deadline_s


def with_phases(records: pa.Table, deadlines_s: Mapping[str, float], server: ServerWord | None = None) -> pa.Table:
    """The same records with the phase of each that failed; what their clients wrote there is what the server named.

    Args:
        records: with `RECORD_SCHEMA`.
        deadlines_s: by service label.
        server: None = it tells nothing.
    """
    is_failed = pc.not_equal(records["status"], Status.OK.value)
    known = iter(records.select(_KNOWN).filter(is_failed).to_pylist())
    server = server or ServerWord()
    phases = [_phase_of_record(next(known), deadlines_s, server) if each else None for each in is_failed.to_pylist()]
    place = records.schema.get_field_index("phase")
    return records.set_column(place, RECORD_SCHEMA.field("phase"), pa.array(phases, pa.string()))


def _phase_of_record(record: Mapping[str, Any], deadlines_s: Mapping[str, float], server: ServerWord) -> Phase | None:
    sent_s, first_token_s, replica_id = record["sent_s"], record["first_token_s"], record["replica_id"]
    deadline_s = deadlines_s[record["service"]]
    known = FailedRequest(
        cause=None if record["cause"] is None else Cause(record["cause"]),
        lateness_s=(record["finished_s"] if sent_s is None else sent_s) - record["scheduled_s"],
        deadline_s=deadline_s,
        is_sent=sent_s is not None,
        is_begun=first_token_s is not None and first_token_s - max(sent_s, record["scheduled_s"]) <= deadline_s,
        named=None if record["phase"] is None else Phase(record["phase"]),
        cut_off=server.cut_off.get((record["request_id"], max(1, record["attempts"]))),
        was_draining=replica_id is not None and server.was_draining(replica_id, record["finished_s"]),
        had_ready_replica=(
            None
            if sent_s is None or server.had_ready_replica is None
            else server.had_ready_replica(sent_s, record["finished_s"])
        ),
    )
    return phase_of(known)
