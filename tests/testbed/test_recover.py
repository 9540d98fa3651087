"""The folder of a run that was killed is completed: one record per request of its plan, and no word too much."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.line_file import LineFile
from loadgen.records import Status
from loadgen.replay_files import REPLAY_FACTS, part_paths
from loadgen.retries import Attempt, AttemptWriter, attempts_path
from testbed.recover import recover_run, was_draining
from testbed.results import (
    ENVIRONMENT,
    RECORD_PARTS,
    RECORDS,
    REPORT,
    SUMMARY,
    Results,
    write_environment,
    write_summary,
)
from testbed.run_lock import RUN_LOCK, run_lock
from tests.testbed.command import assert_refused, burstscale
from tests.testbed.killed_run import FACTS, START_EPOCH_S, Done, leave_run

HALF_WAY = Done(ended=frozenset({0, 1, 2, 3}), sent={4: 4.001, 5: 5.001})


def rows_of(results: Results) -> list[tuple[str, str | None, bool]]:
    """Status and cause of each record in order, and whether it was sent."""
    records = results.records.sort_values("request_id")
    assert records["request_id"].tolist() == list(range(len(records)))
    return [
        (row.status, row.cause if pd.notna(row.cause) else None, bool(pd.notna(row.sent_s)))
        for row in records[["status", "cause", "sent_s"]].itertuples(index=False)
    ]


def test_what_ended_is_told_from_what_the_run_ended_before(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY)
    os.utime(folder / RECORD_PARTS / REPLAY_FACTS, (0.0, START_EPOCH_S + 6.5))  # the driver's last sign of life
    results = recover_run(folder)
    on_its_way, not_sent = ("cancelled", "run_ended", True), ("cancelled", "run_ended", False)
    assert rows_of(results) == [("ok", None, True)] * 4 + [on_its_way] * 2 + [not_sent] * 4
    assert (results.records["finished_s"] >= results.records["scheduled_s"]).all()
    assert results.records["phase"].isna().all()
    assert results.summary is not None
    assert results.summary["planned_requests"] == results.summary["recorded_requests"] == 10
    assert not results.complete


def test_a_killed_run_has_the_figures_of_the_part_that_took_place_like_one_that_was_interrupted(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY)
    os.utime(folder / RECORD_PARTS / REPLAY_FACTS, (0.0, START_EPOCH_S + 6.5))
    summary = recover_run(folder).summary
    assert summary is not None
    assert "in no figure: what was on its way (2) and what was not sent (4)" in summary["cut_short"]
    total = summary["requests"]["total"]
    assert (total["offered"], total["ok"], total["failure_fraction"], total["by_cause"]) == (4, 4, 0.0, {})
    assert (total["attainment_fraction"], total["goodput_per_s"]) == (0.0, 0.0)  # each second token took 0.251 s
    assert total["ttft_with_failures"]["p99_s"] == pytest.approx(0.25)
    assert total["requests_per_s"] == pytest.approx(4 / 6.5)
    assert (summary["requests_without_end"], summary["lost_requests"]) == (6, {"sent": 0, "not_sent": 0})
    assert summary["validity"]["is_valid"]
    assert summary["problems"] == []


def test_a_sender_that_had_ended_long_before_the_run_was_killed_is_told_of(tmp_path: Path) -> None:
    one_sender = Done(ended=frozenset({0, 2, 4, 6, 8}), sent={1: 1.001})  # that of 3, 5, 7 and 9 had ended
    for name, replay, overdue in (("plan", {"actors": 2}, 1), ("turns", {"actors": 2, "sessions": True}, 0)):
        folder = leave_run(tmp_path / name, one_sender, replay=replay)
        os.utime(folder / RECORD_PARTS / REPLAY_FACTS, (0.0, START_EPOCH_S + 9.5))
        summary = recover_run(folder).summary
        assert summary is not None
        assert summary["requests"]["total"]["offered"] == 5
        assert [problem.split(",")[0] for problem in summary["problems"]] == [
            "1 of the requests had not been sent"  # of 3 s; a turn may have waited for the one before it
        ] * overdue


def test_the_summary_the_report_and_the_terminal_open_with_how_the_run_ended(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY)
    os.utime(folder / RECORD_PARTS / REPLAY_FACTS, (0.0, START_EPOCH_S + 6.5))
    done = burstscale("recover", folder)
    assert (done.returncode, done.stderr) == (0, "")
    said = "it ended at 6.5 s of 10.0 s, and was recovered from what was on the disk"
    assert said in " ".join(done.stdout.splitlines()[:5])
    assert said in "".join((folder / SUMMARY).read_text().splitlines()[:4])
    page = (folder / REPORT).read_text()
    assert 0 < page.index(said) < page.index("<h2>By service</h2>")
    assert not (folder / RECORD_PARTS).exists()
    assert not (folder / RUN_LOCK).exists()
    assert burstscale("report", folder).returncode == 0


def test_a_command_that_reads_results_says_that_the_run_was_cut_short_and_what_completes_it(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY)
    for command in (("report", folder), ("export", folder, "--to", "vllm-bench")):
        assert_refused(burstscale(*command), f"was cut short; `burstscale recover {folder}` completes the folder")
    with run_lock(folder):
        assert_refused(burstscale("report", folder), f"is still going on in process {os.getpid()}")


@given(data=st.data())
@settings(max_examples=15)
def test_every_planned_request_has_one_record_whatever_was_done(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ended = data.draw(st.frozensets(st.integers(0, 9)))
    sent = data.draw(st.sets(st.integers(0, 9))) - ended
    folder = leave_run(tmp_path_factory.mktemp("any") / "run", Done(ended, {row: row + 0.001 for row in sent}))
    part = part_paths(folder / RECORD_PARTS, 2)[0]
    cut = data.draw(st.integers(0, 50))
    part.write_bytes(part.read_bytes() + b'{"request_id":8,"service":"conversation","model":'[:cut])
    rows = rows_of(recover_run(folder))
    assert len(rows) == 10
    assert {row for row, (status, _, _) in enumerate(rows) if status == "ok"} == ended
    assert {row for row, (_, _, was_sent) in enumerate(rows) if was_sent} == ended | sent


def test_a_turn_that_had_waited_is_scheduled_when_it_became_due(tmp_path: Path) -> None:
    done = replace(HALF_WAY, sent={4: 4.001, 5: 6.0})
    records = recover_run(leave_run(tmp_path / "run", done, replay={"sessions": True})).records.set_index("request_id")
    assert records.loc[5, ["scheduled_s", "planned_s", "sent_s"]].tolist() == [5.999, 5.0, 6.0]


def test_in_a_closed_loop_only_what_a_user_came_to_is_recorded(tmp_path: Path) -> None:
    facts = replace(FACTS, is_closed_loop=True)
    results = recover_run(leave_run(tmp_path / "run", HALF_WAY, facts=facts, replay={"users": 2}))
    assert results.records["request_id"].tolist() == [0, 1, 2, 3, 4, 5]
    assert results.summary is not None
    assert results.summary["planned_requests"] == 6
    about = results.environment["trace"]
    assert (about["requests"], about["prompt_tokens"], about["output_tokens"]) == (6, 6 * 8, 6 * 2)


def test_attempts_are_kept(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY, facts=replace(FACTS, keeps_attempts=True))
    with AttemptWriter(attempts_path(part_paths(folder / RECORD_PARTS, 2)[1])) as attempts:
        attempts.append(Attempt(5, 1, 5.001, 5.1, Status.REJECTED, None, "busy"))
    recover_run(folder)
    assert pq.read_table(folder / "attempts.parquet").to_pydict()["request_id"] == [5]


def test_a_run_that_was_killed_once_its_records_were_there_keeps_them(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY)
    recover_run(folder)
    before = (folder / RECORDS).read_bytes()
    (folder / SUMMARY).unlink()
    (folder / RECORD_PARTS).mkdir()  # its parts were being removed
    results = recover_run(folder)
    assert (folder / RECORDS).read_bytes() == before
    assert results.summary is not None
    assert "it ended after its last request had" in results.summary["cut_short"]


def test_a_run_that_was_killed_before_its_start_sent_nothing(tmp_path: Path) -> None:
    results = recover_run(leave_run(tmp_path / "run", Done(), facts=replace(FACTS, start_epoch_s=None)))
    assert set(rows_of(results)[1:]) == {("cancelled", "run_ended", False)}
    assert results.summary is not None
    assert "it ended at 0.0 s" in results.summary["cut_short"]


def test_records_that_lie_on_other_machines_are_asked_for(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY, facts=replace(FACTS, actors=3))
    assert_refused(burstscale("recover", folder), "records.part-002.jsonl is missing")
    part_paths(folder / RECORD_PARTS, 3)[2].touch()
    assert len(recover_run(folder).records) == 10


def test_what_is_no_killed_run_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    complete, simulated, unplanned, running, sending = (
        leave_run(tmp_path / name, HALF_WAY, kind="simulated" if name == "simulated" else "load")
        for name in ("complete", "simulated", "unplanned", "running", "sending")
    )
    write_summary(complete, {"cut_short": None})
    environment = json.loads((unplanned / ENVIRONMENT).read_text())
    write_environment(unplanned, {key: value for key, value in environment.items() if key != "plan"})
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (nothing / "notes.txt").write_text("mine")

    def refused(folder: Path, said: str) -> None:
        before = sorted(folder.rglob("*"))
        assert_refused(burstscale("recover", folder), said)
        assert sorted(folder.rglob("*")) == before

    refused(complete, "holds a run with its summary, so that there is nothing to recover")
    refused(simulated, "holds a simulated run; `burstscale simulate")
    refused(unplanned, "ended before its plan was made, so that nothing was sent; run it again")
    refused(nothing, "holds no run")
    with run_lock(running):
        refused(running, f"its run is still going on in process {os.getpid()}; wait for its end, or end it")
    part = part_paths(sending / RECORD_PARTS, 2)[0]
    part.unlink()
    with LineFile(part):
        assert_refused(burstscale("recover", sending), "its actors are still sending; try again in a few seconds")
    assert burstscale("recover", sending).returncode == 0


def test_a_full_disk_is_one_line_and_the_folder_can_be_recovered_later(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", HALF_WAY)
    with (
        pytest.raises(InputError, match=r"No space left on device.*then `burstscale") as said,
        run_lock(folder),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(said.value)
    shutil.copytree(folder, tmp_path / "copy")
    assert len(recover_run(tmp_path / "copy").records) == 10


def test_a_replica_was_draining_from_a_second_after_it_was_told() -> None:
    replicas = pd.DataFrame(
        [("a", "ready", 0.0, 5.0), ("a", "draining", 5.0, 9.0), ("b", "ready", 0.0, 9.0)],
        columns=["replica_id", "state", "start_s", "end_s"],
    )
    told = was_draining(replicas)
    assert [told("a", 5.5), told("a", 6.0), told("b", 8.0), told("c", 8.0)] == [False, True, False, False]
