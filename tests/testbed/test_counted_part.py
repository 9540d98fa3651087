"""The figures of a run that was cut short are those of the part that took place."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.conclude import conclude_run
from testbed.report.facts import gather_facts
from testbed.report.verdict import list_warnings, write_verdict
from testbed.results import Results, read_results, write_environment
from testbed.summary import summarise

CUT_SHORT_S = 40.0


def cut_short(record: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a record whose run is ended before the request has."""
    if record["finished_s"] <= CUT_SHORT_S:
        return record
    is_sent = record["scheduled_s"] <= CUT_SHORT_S
    return record | {
        "status": "cancelled",
        "cause": "run_ended",
        "error": "the run was ended",
        "sent_s": record["sent_s"] if is_sent else None,
        "first_token_s": None,
        "output_tokens": 0,
        "finished_s": max(CUT_SHORT_S, record["scheduled_s"]),
    }


@pytest.fixture
def interrupted(tmp_path: Path, story: Any, write_run: Any) -> Results:
    """The story, ended at 40 s."""
    records = [cut_short(record) for record in story.records]
    replicas = [
        row | {"end_s": min(row["end_s"], CUT_SHORT_S)} for row in story.replicas if row["start_s"] < CUT_SHORT_S
    ]
    folder = write_run(tmp_path / "run", replace(story, records=records, replicas=replicas), kind="load")
    environment = read_results(folder).environment | {"cut_short_s": CUT_SHORT_S}
    write_environment(folder, environment)
    return conclude_run(folder, cut_short="it was interrupted at 40.0 s of 120.0 s")


def test_what_had_not_ended_is_no_failure_and_no_load_on_what_came_after(interrupted: Results) -> None:
    records, summary = interrupted.records, interrupted.summary
    assert summary is not None
    ended = records[records["cause"] != "run_ended"]
    assert 0 < len(ended) < len(records) / 2
    total = summary["requests"]["total"]
    assert total["offered"] == len(ended)
    assert total["ok"] == int((ended["status"] == "ok").sum())
    assert summary["requests_without_end"] == len(records) - len(ended)
    assert summary["recorded_requests"] == summary["planned_requests"] == len(records)
    assert summary["requests"]["duration_s"] == CUT_SHORT_S
    assert total["goodput_per_s"] <= len(ended) / CUT_SHORT_S
    assert summary["windows"]["windows"] == CUT_SHORT_S / 5
    assert all(burst["onset_s"] < CUT_SHORT_S for burst in summary["bursts"]["worst"])
    held_s = np.minimum(interrupted.replicas["end_s"], CUT_SHORT_S) - interrupted.replicas["start_s"]
    assert summary["fleet"]["gpu_hours"] == pytest.approx(held_s.sum() / 3600, rel=1e-6)


def test_the_report_is_of_that_part_and_says_so(interrupted: Results) -> None:
    facts = gather_facts(interrupted)
    assert facts.duration_s == CUT_SHORT_S
    assert facts.results.records["scheduled_s"].max() <= CUT_SHORT_S
    assert "the run ended before" not in write_verdict(facts)
    assert list_warnings(facts)[0] == "This run was cut short: it was interrupted at 40.0 s of 120.0 s"


DEATH_S = 60.0


def lost(record: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a record whose actor dies at 60 s, the second of two."""
    if record["request_id"] % 2 == 0 or record["finished_s"] <= DEATH_S:
        return record
    is_sent = record["sent_s"] <= DEATH_S
    return record | {
        "status": "cancelled",
        "cause": "client_lost",
        "error": "sent, but its end was never recorded" if is_sent else "not sent",
        "sent_s": record["sent_s"] if is_sent else None,
        "first_token_s": None,
        "output_tokens": 0,
        "replica_id": None,
        "finished_s": 180.0,
        "attempts": int(is_sent),
    }


def test_what_an_actor_had_that_died_is_no_failure_but_the_run_says_that_it_lost_it(
    tmp_path: Path, story: Any, write_run: Any
) -> None:
    whole = summarise(read_results(write_run(tmp_path / "whole", story)))
    records = [lost(record) for record in story.records]
    gone = [record for record in records if record.get("cause") == "client_lost"]
    sent = sum(record["sent_s"] is not None for record in gone)
    kept = [record for record in story.records if record["request_id"] not in {each["request_id"] for each in gone}]
    assert 0 < sent < len(gone)

    results = conclude_run(write_run(tmp_path / "run", replace(story, records=records)), problems=["actor 1 ended"])
    summary = results.summary
    assert summary is not None
    assert summary["planned_requests"] == summary["recorded_requests"] == len(story.records)
    assert summary["lost_requests"] == {"sent": sent, "not_sent": len(gone) - sent}
    total = summary["requests"]["total"]
    assert (total["offered"], total["ok"]) == (len(kept), sum(record["status"] == "ok" for record in kept))
    assert total["by_cause"] == dict(Counter(record["cause"] for record in kept if record.get("cause")))
    assert set(total["by_cause"]) == set(whole["requests"]["total"]["by_cause"])
    assert summary["requests"]["duration_s"] == whole["requests"]["duration_s"]
    assert summary["failed_requests"]["by_schedule"] == total["offered"] - total["ok"]

    assert not summary["validity"]["is_valid"]
    assert (summary["validity"]["not_sent"], summary["validity"]["unseen_ends"]) == (len(gone) - sent, sent)
    warnings = list_warnings(gather_facts(results))
    assert warnings[0] == "actor 1 ended"
    assert warnings[1].startswith(f"The load generator lost {len(gone)} requests, {sent} of them on their way")


def test_a_whole_run_counts_whole(tmp_path: Path, story: Any, write_run: Any) -> None:
    results = read_results(write_run(tmp_path / "run", story))
    summary = summarise(results)
    assert (summary["requests_without_end"], summary["lost_requests"]) == (0, {"sent": 0, "not_sent": 0})
    assert summary["requests"]["total"]["offered"] == len(results.records)
