"""What a replay leaves in the results folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.crew import SendingNode
from loadgen.failure_phase import ServerWord
from loadgen.records import Cause, Phase, RequestRecord, Status, read_records, records_table
from loadgen.replay import ReplayOutcome
from loadgen.trace import make_trace
from testbed.replay_records import (
    correct_length,
    describe_early_end,
    describe_senders,
    make_parts_folder,
    store_phases,
    store_replay,
)
from testbed.replay_settings import ReplaySettings
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
    outcome = ReplayOutcome(table, 0.0, interrupted_s=None, lost_actors=(), parts=(), run_tag="tag")
    store_replay(tmp_path, outcome)
    assert read_records(tmp_path / RECORDS)["phase"].to_pylist() == [None, None]
    store_phases(tmp_path, outcome, {"api": 10.0})
    assert read_records(tmp_path / RECORDS)["phase"].to_pylist() == [None, "decode"], "as a client alone knows"
    store_phases(tmp_path, outcome, {"api": 10.0}, ServerWord({(0, 1): Phase.ENGINE_QUEUE, (1, 1): Phase.PREEMPTION}))
    assert read_records(tmp_path / RECORDS)["phase"].to_pylist() == ["engine_queue", "preemption"]


def test_a_run_that_was_cut_short_says_where_and_what_is_in_no_figure_by_it() -> None:
    cut = [replace(timed_out(number, None), status=Status.CANCELLED, cause=Cause.RUN_ENDED) for number in (1, 2, 3)]
    table = records_table([timed_out(0, None), *cut[:2], replace(cut[2], sent_s=None, attempts=0)])
    outcome = ReplayOutcome(table, 0.0, 6.54, lost_actors=(), parts=(), run_tag="tag")
    environment: dict[str, Any] = {"trace": {"duration_s": 10.0}}
    assert describe_early_end(environment, outcome) == (
        "it was interrupted at 6.5 s of 10.0 s; in no figure: what was on its way (2) and what was not sent (1)"
    )
    assert environment["cut_short_s"] == 6.54
    assert describe_early_end({}, replace(outcome, interrupted_s=None)) is None


def test_of_a_closed_loop_the_tokens_are_those_of_the_requests_that_users_came_to() -> None:
    trace = make_trace("plan", np.arange(4.0), [1, 10, 100, 1000], [2, 20, 200, 2000], duration_s=4.0)
    table = records_table([timed_out(0, None), timed_out(2, None)])
    outcome = ReplayOutcome(table, 0.0, None, lost_actors=(), parts=(), run_tag="tag")
    planned = {"name": "plan", "requests": 4, "duration_s": 60.0, "prompt_tokens": 1111, "output_tokens": 2222}
    environment: dict[str, Any] = {"trace": dict(planned)}
    assert correct_length(environment, trace, outcome, ReplaySettings()) == []
    assert environment["trace"] == planned
    assert correct_length(environment, trace, outcome, ReplaySettings(users=1)) == []
    assert environment["trace"] == planned | {"requests": 2, "prompt_tokens": 101, "output_tokens": 202}
    whole = replace(outcome, table=records_table([timed_out(number, None) for number in range(4)]))
    assert correct_length(environment, trace, whole, ReplaySettings(users=1))[0].startswith("The plan's 4 requests")
    assert environment["trace"] == planned


def test_the_results_say_where_requests_were_sent_from_and_whether_the_clocks_there_are_known_well_enough() -> None:
    here = SendingNode("10.0.0.1", "a", True, 2, 0.0, 0.0, 0.0, (1.5, 2.5))
    near = SendingNode("10.0.0.2", "b", False, 2, 3.5, 0.0005, 0.001, (1.0, 2.0))
    far = SendingNode("10.0.0.3", "c", False, 1, -0.2, 0.004, -0.008, (0.5,))
    lost = SendingNode("10.0.0.4", "d", False, 1, 0.1, 0.0005, None, (0.0,))
    outcome = ReplayOutcome(
        records_table([]), 0.0, None, lost_actors=(), parts=(), run_tag="tag", senders=(here, near, far, lost)
    )
    environment: dict[str, Any] = {}
    problems = describe_senders(environment, outcome)
    stored = json.loads(json.dumps(environment, allow_nan=False))["senders"]
    assert [sender["clock_offset_s"] for sender in stored] == [0.0, 3.5, -0.2, 0.1]
    assert [sender["cpu_s"] for sender in stored] == [[1.5, 2.5], [1.0, 2.0], [0.5], [0.0]]
    assert len(problems) == 1
    assert problems[0].startswith("The instants of requests that 10.0.0.3 sent are known to 12 ms only")
