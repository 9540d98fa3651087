"""What a report says of the load generator itself."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.models_summary import with_windows
from testbed.report.facts import describe_client, gather_facts
from testbed.report.page import render_page
from testbed.report.verdict import list_warnings
from testbed.results import Results

NOTE = "figures over time are in windows of 20 s; summary.json has those of the run's own 5 s"


def test_other_windows_change_the_figures_over_time_and_no_other(results: Results) -> None:
    facts = gather_facts(with_windows(results, 20.0))
    ran, told = (without_windows(each.summary) for each in (results, facts.results))
    assert told == ran
    slots = (results.records["scheduled_s"] // 20).astype(int)
    failed = np.bincount(slots, results.records["status"] != "ok")
    assert facts.summary["windows"]["window_s"] == facts.window_s == 20.0
    assert facts.summary["windows"]["windows"] == slots.nunique()
    assert (
        facts.summary["windows"]["worst"]["failed"] == failed[int(facts.summary["windows"]["worst"]["start_s"] // 20)]
    )
    page = render_page(facts)
    assert "<span>windows of 20 s</span>" in page
    assert f"Note: {NOTE}".replace("'", "&#39;") in page
    assert "A stretch of 20 s." in page


def test_a_report_says_which_windows_it_has_and_no_more_where_they_are_the_runs_own(results: Results) -> None:
    facts = gather_facts(results)
    assert "<span>windows of 5 s</span>" in render_page(facts)
    assert not any("windows of" in note for note in facts.notes)


def test_a_run_without_a_summary_says_so_with_other_windows_too(results: Results) -> None:
    killed = replace(results, summary=None)
    for each in (killed, with_windows(killed, 20.0)):
        assert list_warnings(gather_facts(each))[0] == (
            "This run was cut short: its folder has no summary. The figures cover what was recorded."
        )


def without_windows(summary: dict[str, Any] | None) -> dict[str, Any]:
    """What summary.json would hold of it."""
    found: dict[str, Any] = json.loads(json.dumps({**(summary or {}), "windows": None}))
    return found


def test_the_load_generator_says_how_late_it_was_and_what_it_took() -> None:
    client = {"cpu_s": 6.0, "cpu_ms_per_request": 0.5124, "busiest_fraction": 0.1249}
    assert describe_client(client, {"lateness_p99_s": 0.0014, "longest_standstill_s": 0.0083}) == (
        "the load generator sent 99 % of the requests within 1.4 ms of their instants, for 0.51 ms of processor time "
        "each; its busiest process took 12 % of a processor, and none stood still for more than 8 ms"
    )


def test_where_nothing_was_sent_no_request_has_a_cost() -> None:
    client = {"cpu_s": 0.1, "cpu_ms_per_request": None, "busiest_fraction": 0.02}
    assert describe_client(client, {"lateness_p99_s": None, "longest_standstill_s": None}) == (
        "the load generator sent nothing; its busiest process took 2 % of a processor"
    )
