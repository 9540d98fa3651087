"""The tables of the report hold the folder's numbers, and their rows add up."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from testbed.conclude import conclude_run
from testbed.report.facts import gather_facts
from testbed.report.tables import failure_table, key_figures, service_table, split_latencies, target_changes
from testbed.results import Results


def test_the_changes_of_the_target_are_listed_with_their_reasons(results: Results) -> None:
    changes = target_changes(gather_facts(results))
    assert [(change.time, change.before, change.after) for change in changes] == [
        ("0:53", "2", "6"),
        ("2:20", "6", "2"),
    ]
    assert "reactive asks 6" in changes[0].reason


def test_failures_are_listed_by_cause_the_most_frequent_first(results: Results) -> None:
    rows = failure_table(gather_facts(results))
    assert [row.cause for row in rows] == ["deadline_in_queue", "replica_lost"]
    assert "deadline passed at the router" in rows[0].example


def test_failures_say_in_which_phase_they_were_as_far_as_that_is_known(
    tmp_path: Path, story: Any, write_run: Any
) -> None:
    """Of those past their deadline in the queue every third was in the router's, every third in a cold start."""
    phases = ("router_queue", "cold_start", None)
    in_queue = itertools.count()
    records = [
        record | {"phase": phases[next(in_queue) % 3]} if record.get("cause") == "deadline_in_queue" else record
        for record in story.records
    ]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, records=records)))
    count, lost = next(in_queue), sum(record.get("cause") == "replica_lost" for record in records)
    router, cold, unknown = (count + 2) // 3, (count + 1) // 3, count // 3
    rows = failure_table(gather_facts(results))
    named = {"router queue": router, "cold start": cold, "not known": unknown}
    assert dict(rows[0].phases) == {phase: f"{failed}" for phase, failed in named.items()}
    assert rows[1].phases == ()
    cells = {row.label: row.cells[-1] for row in service_table(gather_facts(results))[1] if row.kind == "sub"}
    assert (cells["router queue"], cells["cold start"]) == (f"{router}", f"{cold}")
    assert cells["not known"] == f"{unknown + lost}"


def test_a_run_that_knows_no_phase_shows_none(results: Results) -> None:
    assert all(row.phases == () for row in failure_table(gather_facts(results)))
    assert "Failed in phase" not in [row.label for row in service_table(gather_facts(results))[1]]


def test_attempts_are_shown_where_a_request_was_sent_more_than_once(
    results: Results, tmp_path: Path, story: Any, write_run: Any
) -> None:
    assert "attempts" not in [row.label for row in service_table(gather_facts(results))[1]]
    records = [record | {"attempts": 3 if place % 10 == 0 else 1} for place, record in enumerate(story.records)]
    again = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, records=records)))
    retried = -(-len(records) // 10)
    cells = {row.label: row.cells[-1] for row in service_table(gather_facts(again))[1] if row.kind == "sub"}
    assert (cells["sent more than once"], cells["attempts"]) == (f"{retried:,}", f"{len(records) + 2 * retried:,}")


def test_it_is_said_of_how_many_answers_the_tokens_of_each_chunk_are_not_known(
    tmp_path: Path, story: Any, write_run: Any
) -> None:
    """Every answer came in two chunks half a second apart; every second one tells that they carry 1 and the rest."""
    records: list[dict[str, Any]] = [
        record | {"chunk_offsets_s": [0.0, 0.5], "output_tokens": 11, "chunk_tokens": [1, 10] if place % 2 else None}
        for place, record in enumerate(story.records)
    ]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, records=records)))
    rows = service_table(gather_facts(results))[1]
    ok = [record["status"] == "ok" if "status" in record else True for record in records]
    averaged = sum(ended_ok for place, ended_ok in enumerate(ok) if place % 2 == 0)
    (row,) = (row for row in rows if row.label == "answers that do not tell the tokens of each chunk")
    assert row.cells[-1] == f"{averaged:,} of {sum(ok):,}"
    assert "Between tokens (ITL)" in [row.label for row in rows]


def test_the_table_of_services_adds_up(results: Results) -> None:
    columns, rows = service_table(gather_facts(results))
    assert columns == ("api", "conversation", "all")
    for row in rows:
        if row.label in ("Offered", "Ok", "Failed") or row.kind == "sub":
            api, conversation, everything = (int(cell.replace(",", "")) for cell in row.cells)
            assert api + conversation == everything


def test_a_warm_up_is_in_no_row_of_the_failures(results: Results) -> None:
    late = dataclasses.replace(results, environment=results.environment | {"warm_up_until_s": 70.0})
    failed = results.records.query("scheduled_s >= 70 and status != 'ok'")
    assert 0 < len(failed) < (results.records["status"] != "ok").sum()
    rows = failure_table(gather_facts(dataclasses.replace(late, summary=None)))
    assert sum(int(row.count) for row in rows) == len(failed)


def test_the_tables_of_requests_and_latencies_are_all_rows(results: Results) -> None:
    _, rows = service_table(gather_facts(results))
    requests, latencies = split_latencies(rows)
    assert requests + latencies == rows
    assert requests[-1].label.startswith("Throughput")
    assert latencies[0].label == "Time to first token (TTFT)"


def test_the_tiles_name_the_windows_in_which_the_slo_was_lost_and_the_token_latency(results: Results) -> None:
    tiles = {tile.label: tile for tile in key_figures(gather_facts(results))}
    ok = results.records[results.records["status"] == "ok"]
    tpot_ms = 1000 * ((ok["finished_s"] - ok["first_token_s"]) / (ok["output_tokens"] - 1)).mean()
    assert float(tiles["Token latency (L)"].value) == pytest.approx(tpot_ms, rel=5e-3)
    assert (tiles["SLO lost in"].unit, tiles["SLO lost in"].aside) == ("of 36", "windows of 5 s")
