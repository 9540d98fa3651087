"""The results folder: never overwritten, readable also after a run that was cut short."""

import json
from pathlib import Path

import pytest

from autoscaler.decision_record import DecisionRecord
from loadgen.errors import InputError
from loadgen.records import RECORD_SCHEMA
from testbed.results import (
    DECISIONS,
    append_decisions,
    create_results_folder,
    read_results,
    write_config,
    write_environment,
    write_summary,
)


def decision(time_s: float, target: int) -> DecisionRecord:
    return DecisionRecord(
        time_s=time_s,
        target_replicas=target,
        proposed_replicas=target,
        reason="test",
        starting=0,
        ready=1,
        draining=0,
        queued=0,
        running=0,
        waiting=0,
        arrivals_per_s=0.0,
        forecast=None,
    )


def test_a_folder_that_holds_anything_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already holds a run or other files; give -o a new folder"):
        create_results_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="already holds"):
        create_results_folder(tmp_path / "out")


def test_an_empty_folder_and_a_missing_one_are_taken(tmp_path: Path) -> None:
    assert create_results_folder(tmp_path) == tmp_path
    assert create_results_folder(tmp_path / "a" / "b").is_dir()


def test_a_folder_without_a_run_is_no_results_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml is missing"):
        read_results(tmp_path)


def test_a_run_without_a_summary_is_readable_and_says_that_it_was_cut_short(tmp_path: Path) -> None:
    write_config(tmp_path, {"name": "cut"})
    append_decisions(tmp_path, [decision(1.0, 2)])
    with (tmp_path / DECISIONS).open("a") as file:
        file.write('{"time_s": 2.0, "target_re')  # the process died while it wrote
    results = read_results(tmp_path)
    assert not results.complete
    assert results.summary is None
    assert [line["time_s"] for line in results.decisions] == [1.0]
    assert len(results.records) == 0
    assert list(results.records.columns) == RECORD_SCHEMA.names


def test_a_run_with_a_summary_is_complete_unless_the_summary_says_otherwise(tmp_path: Path) -> None:
    write_config(tmp_path, {"name": "done"})
    write_summary(tmp_path, {"cut_short": None})
    assert read_results(tmp_path).complete
    write_summary(tmp_path, {"cut_short": "interrupted"})
    assert not read_results(tmp_path).complete


def test_decisions_are_appended_one_json_object_a_line(tmp_path: Path) -> None:
    append_decisions(tmp_path, [decision(1.0, 2), decision(2.0, 3)])
    append_decisions(tmp_path, [decision(3.0, 4)])
    lines = [json.loads(line) for line in (tmp_path / DECISIONS).read_text().splitlines()]
    assert [line["target_replicas"] for line in lines] == [2, 3, 4]


def test_a_number_that_json_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_environment(tmp_path, {"seed": float("nan")})
