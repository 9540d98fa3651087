"""Where failed requests were, told as stories: what is known of each, and the phase that follows."""

import pytest

from loadgen.failure_phase import FailedRequest, ServerWord, phase_of, with_phases
from loadgen.records import Cause, Phase, RequestRecord, Status, records_table


def failed(cause: Cause | None, **known: object) -> FailedRequest:
    """Sent on time with 30 s to its deadline; no answer began, and no server says anything."""
    facts = {"lateness_s": 0.001, "deadline_s": 30.0, "is_sent": True, "is_begun": False} | known
    return FailedRequest(cause, **facts)  # type: ignore[arg-type]


STORIES = {
    "no replica was ready": (failed(Cause.NO_READY_REPLICA), Phase.COLD_START),
    "the router names its queue": (failed(Cause.DEADLINE_IN_QUEUE, named=Phase.ROUTER_QUEUE), Phase.ROUTER_QUEUE),
    "the router was full": (failed(Cause.QUEUE_FULL, named=Phase.ROUTER_QUEUE), Phase.ROUTER_QUEUE),
    "an unknown server was full": (failed(Cause.QUEUE_FULL), None),
    "an unknown server let the deadline pass": (failed(Cause.DEADLINE_IN_QUEUE), None),
    "an unknown server had begun to answer": (failed(Cause.DEADLINE_IN_ENGINE, is_begun=True), Phase.DECODE),
    "its stream was cut": (failed(Cause.STREAM_CUT, is_begun=True), Phase.DECODE),
    "an engine never began it": (failed(Cause.DEADLINE_IN_ENGINE, cut_off=Phase.ENGINE_QUEUE), Phase.ENGINE_QUEUE),
    "an engine was at its prompt": (failed(Cause.DEADLINE_IN_QUEUE, cut_off=Phase.PREFILL), Phase.PREFILL),
    "the engine knows better than the client": (
        failed(Cause.DEADLINE_IN_ENGINE, is_begun=True, cut_off=Phase.PREEMPTION),
        Phase.PREEMPTION,
    ),
    "the engine knows better than the router": (
        failed(Cause.DEADLINE_IN_ENGINE, named=Phase.ROUTER_QUEUE, cut_off=Phase.ENGINE_QUEUE),
        Phase.ENGINE_QUEUE,
    ),
    "its replica died": (failed(Cause.REPLICA_LOST, is_begun=True), Phase.REPLICA_LOST),
    "its replica was draining": (failed(Cause.REPLICA_LOST, is_begun=True, was_draining=True), Phase.DRAINED),
    "a deadline on a draining replica": (
        failed(Cause.DEADLINE_IN_ENGINE, cut_off=Phase.DECODE, was_draining=True),
        Phase.DECODE,
    ),
    "sent late, and answered within its time from then": (
        failed(Cause.SENT_LATE, lateness_s=0.01, is_begun=True, cut_off=Phase.DECODE),
        Phase.CLIENT_LAG,
    ),
    "sent late, and not answered within its time from then": (
        failed(Cause.DEADLINE_IN_ENGINE, lateness_s=29.0, is_begun=True),
        Phase.DECODE,
    ),
    "sent late, and refused": (
        failed(Cause.QUEUE_FULL, lateness_s=20.0, named=Phase.ROUTER_QUEUE),
        Phase.ROUTER_QUEUE,
    ),
    "sent late to a replica that died": (failed(Cause.REPLICA_LOST, lateness_s=20.0), Phase.REPLICA_LOST),
    "its client died before it sent it": (
        failed(Cause.CLIENT_LOST, is_sent=False, lateness_s=0.0),
        Phase.CLIENT_LAG,
    ),
    "its client died after it had sent it": (failed(Cause.CLIENT_LOST, lateness_s=0.0), None),
    "its client died and the engine saw it leave": (failed(Cause.CLIENT_LOST, cut_off=Phase.DECODE), Phase.DECODE),
    "the run was ended before its instant": (failed(Cause.RUN_ENDED, is_sent=False, lateness_s=0.0), None),
    "the run was ended long after its instant": (
        failed(Cause.RUN_ENDED, is_sent=False, lateness_s=16.0),
        Phase.CLIENT_LAG,
    ),
    "given up, and nobody says where": (failed(Cause.GIVEN_UP), None),
    "given up before any engine of the fleet had it": (
        failed(Cause.GIVEN_UP, had_ready_replica=True),
        Phase.ROUTER_QUEUE,
    ),
    "given up while none was ready": (failed(Cause.GIVEN_UP, had_ready_replica=False), Phase.COLD_START),
    "given up in an engine": (
        failed(Cause.GIVEN_UP, had_ready_replica=True, cut_off=Phase.ENGINE_QUEUE),
        Phase.ENGINE_QUEUE,
    ),
    "given up in the middle of its answer": (
        failed(Cause.GIVEN_UP, had_ready_replica=True, is_begun=True),
        Phase.DECODE,
    ),
    "ended with the run before it was sent": (failed(Cause.RUN_ENDED, is_sent=False, had_ready_replica=True), None),
    "refused by who knows whom": (failed(Cause.CONNECTION, had_ready_replica=True), None),
    "too long for any engine": (failed(Cause.TOO_LONG), None),
    "nobody listened": (failed(Cause.CONNECTION), None),
    "nothing is known": (failed(None), None),
}


@pytest.mark.parametrize("story", STORIES)
def test_each_story_has_its_phase(story: str) -> None:
    request, phase = STORIES[story]
    assert phase_of(request) is phase


def record(number: int, status: Status, cause: Cause | None, **changes: object) -> RequestRecord:
    """A request of instant 0, sent at once."""
    values: dict[str, object] = {
        "service": "api", "model": "m", "prompt_tokens": 1, "output_tokens": 0, "scheduled_s": 0.0, "sent_s": 0.0,
        "first_token_s": None, "finished_s": 10.0, "replica_id": None, "error": None, "attempts": 1,
    }  # fmt: skip
    return RequestRecord(request_id=number, status=status, cause=cause, **(values | changes))  # type: ignore[arg-type]


def test_records_get_the_phase_of_what_failed_and_keep_all_else() -> None:
    """A replica that drained from 5 s on; an engine that was asked for request 3; a first token after the deadline."""
    table = records_table(
        [
            record(0, Status.OK, None, first_token_s=1.0),
            record(1, Status.FAILED, Cause.REPLICA_LOST, replica_id="a", finished_s=4.0),
            record(2, Status.FAILED, Cause.REPLICA_LOST, replica_id="a", finished_s=6.0),
            record(3, Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE),
            record(4, Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE, first_token_s=10.5, finished_s=11.0),
            record(5, Status.TIMED_OUT, Cause.DEADLINE_IN_QUEUE, phase=Phase.ROUTER_QUEUE),
            record(6, Status.TIMED_OUT, Cause.SENT_LATE, sent_s=6.0, first_token_s=7.0, finished_s=12.0),
            record(7, Status.CANCELLED, Cause.CLIENT_LOST, sent_s=None),
            record(8, Status.OK, None, first_token_s=1.0),
            record(9, Status.TIMED_OUT, Cause.DEADLINE_IN_ENGINE, sent_s=6.0, first_token_s=15.0, finished_s=16.0),
        ]
    )
    cut_off = {(3, 1): Phase.PREFILL, (4, 2): Phase.DECODE, (8, 1): Phase.DECODE}  # request 4 was sent once
    server = ServerWord(cut_off, lambda replica_id, at_s: replica_id == "a" and at_s >= 5)
    named = with_phases(table, {"api": 10.0}, server)
    assert named["phase"].to_pylist() == [
        None, "replica_lost", "drained", "prefill", None, "router_queue", "client_lag", "client_lag", None,
        "decode",
    ]  # fmt: skip
    assert named["phase"].to_pylist() == with_phases(named, {"api": 10.0}, server)["phase"].to_pylist()
    assert named.drop_columns("phase").equals(table.drop_columns("phase"))
    assert named.schema.equals(table.schema)


def test_what_was_given_up_while_no_replica_was_ready_met_a_cold_start() -> None:
    """A replica that was ready from 20 s on."""
    given_up = [
        record(0, Status.CANCELLED, Cause.GIVEN_UP, sent_s=0.0, finished_s=10.0),
        record(1, Status.CANCELLED, Cause.GIVEN_UP, sent_s=15.0, finished_s=25.0),
        record(2, Status.CANCELLED, Cause.RUN_ENDED, sent_s=None, finished_s=25.0, scheduled_s=24.0),
    ]
    server = ServerWord(had_ready_replica=lambda _start_s, end_s: end_s >= 20.0)
    named = with_phases(records_table(given_up), {"api": 10.0}, server)
    assert named["phase"].to_pylist() == ["cold_start", "router_queue", None]


def test_no_requests_have_no_phases() -> None:
    assert with_phases(records_table([]), {"api": 10.0}).num_rows == 0
