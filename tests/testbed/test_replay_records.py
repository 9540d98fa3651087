"""What a replay leaves in the results folder."""

from pathlib import Path

from loadgen.failure_phase import ServerWord
from loadgen.records import Cause, Phase, RequestRecord, Status, read_records, records_table
from loadgen.replay import ReplayOutcome
from testbed.replay_records import make_parts_folder, store_phases, store_replay
from testbed.results import RECORDS


def timed_out(number: int, first_token_s: float | None) -> RequestRecord:
    """A request of instant 0 whose deadline of 10 s passed."""
    return RequestRecord(
        number,
        "api",
        "m",
        5,
        0,
        0.0,
        0.0,
        first_token_s,
        10.0,
        Status.TIMED_OUT,
        "r",
        Cause.DEADLINE_IN_ENGINE,
        "late",
        1,
    )


def test_records_are_there_at_once_and_get_their_phases_when_the_server_has_told_them(tmp_path: Path) -> None:
    make_parts_folder(tmp_path)
    table = records_table([timed_out(0, None), timed_out(1, 2.0)])
    outcome = ReplayOutcome(table, 0.0, is_interrupted=False, lost_actors=(), parts=(), run_tag="tag")
    store_replay(tmp_path, outcome)
    assert read_records(tmp_path / RECORDS)["phase"].to_pylist() == [None, None]
    store_phases(tmp_path, outcome, {"api": 10.0})
    assert read_records(tmp_path / RECORDS)["phase"].to_pylist() == [None, "decode"], "as a client alone knows"
    store_phases(tmp_path, outcome, {"api": 10.0}, ServerWord({0: Phase.ENGINE_QUEUE, 1: Phase.PREEMPTION}))
    assert read_records(tmp_path / RECORDS)["phase"].to_pylist() == ["engine_queue", "preemption"]
