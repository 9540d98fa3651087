"""What the page says first: whether the SLO held, why not, and what to know before trusting its numbers."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loadgen.records import Cause, Status
from testbed.conclude import conclude_run
from testbed.report.burst_table import burst_rows
from testbed.report.facts import gather_facts
from testbed.report.tables import key_figures
from testbed.report.verdict import closest_stretch, list_warnings, reason_of, write_verdict
from testbed.results import Results


def is_attained(records: pd.DataFrame) -> pd.Series:
    """By hand, with the story's promises."""
    ttft_s = records["first_token_s"] - records["scheduled_s"]
    tpot_s = (records["finished_s"] - records["first_token_s"]) / (records["output_tokens"] - 1)
    promise_s = records["service"].map({"conversation": 2.0, "api": 60.0})
    return (records["status"] == Status.OK) & (ttft_s <= promise_s) & (tpot_s <= 0.2)


def test_the_verdict_tells_the_story_of_the_run(results: Results) -> None:
    verdict = write_verdict(gather_facts(results))
    failed = (results.records["status"] != Status.OK).sum()
    waited = (results.records["cause"] == Cause.DEADLINE_IN_QUEUE).sum()
    assert failed > waited > 0
    assert f"of {len(results.records):,} requests met their SLO" in verdict
    assert f"{failed} failed, {waited} of them because the wait at the router was too long" in verdict
    assert "from the onset of the burst at 0:50 on" in verdict
    assert "The fleet grew from 2 to 6 replicas and held 0.198 GPU-hours." in verdict


def test_the_verdict_says_in_how_many_windows_the_slo_was_lost_and_where_it_was_worst(results: Results) -> None:
    records = results.records
    is_missed = ~is_attained(records)
    by_window = is_missed.groupby((records["scheduled_s"] // 5).astype(int)).agg(["sum", "count"])
    lost = (by_window["sum"] > 0.1 * by_window["count"]).sum()
    worst = by_window["sum"].idxmax()
    missed, offered = by_window.loc[worst]
    assert lost > 0
    expected = (
        f"lost in {lost} of {len(by_window)} windows of 5 s, at worst at 0:{worst * 5:02d} (burst from 0:50 on), "
        f"where {missed} of {offered} missed it."
    )
    assert expected in write_verdict(gather_facts(results))


def test_the_verdict_tells_late_first_tokens_from_failures(results: Results) -> None:
    late = (~is_attained(results.records) & (results.records["status"] == Status.OK)).sum()
    assert late > 0
    assert f"; {late} got the first token too late. " in write_verdict(gather_facts(results))


def test_a_burst_that_the_verdict_blames_stands_in_the_table_of_bursts(results: Results) -> None:
    facts = gather_facts(results)
    blamed = re.search(r"the burst at (\S+) on", write_verdict(facts))
    assert blamed is not None
    assert blamed.group(1) in [row.onset for row in burst_rows(facts)]


def test_the_attainment_in_the_verdict_is_that_of_the_records(results: Results) -> None:
    good = is_attained(results.records)
    tile = key_figures(gather_facts(results))[0]
    assert float(tile.value) == pytest.approx(100 * good.mean(), abs=0.1)


def test_why_a_run_was_cut_short_and_its_problems_are_warnings(tmp_path: Path, story: Any, write_run: Any) -> None:
    folder = write_run(tmp_path / "run", story)
    results = conclude_run(folder, cut_short="interrupted", problems=["actor 2 died."])
    warnings = list_warnings(gather_facts(results))
    assert warnings == ["This run was cut short: interrupted", "actor 2 died."]


def test_a_clean_run_has_no_warnings(results: Results) -> None:
    assert list_warnings(gather_facts(results)) == []


def test_late_sending_failed_decisions_and_repeated_records_are_warnings(
    tmp_path: Path, story: Any, write_run: Any
) -> None:
    records = [record | {"sent_s": record["scheduled_s"] + 0.5} for record in story.records]
    records[1] = records[1] | {"request_id": 0}
    decisions = [dataclasses.replace(decision, error="ValueError: nan") for decision in story.decisions[:3]]
    late = dataclasses.replace(story, records=records, decisions=decisions)
    warnings = " ".join(list_warnings(gather_facts(conclude_run(write_run(tmp_path / "run", late)))))
    assert "This run is not valid: 1 % of the requests were sent more than 500 ms late" in warnings
    assert "The policy failed in 3 decisions" in warnings
    assert "1 records repeat" in warnings


def test_the_closest_stretch_leaves_stragglers_out() -> None:
    instants_s = np.sort(np.append(np.linspace(50, 52, 19), 190.0))
    stretch = closest_stretch(instants_s)
    assert (stretch.start_s, stretch.failures) == (50.0, 18)
    assert stretch.end_s < 53


def test_only_a_run_with_a_fleet_says_who_turned_requests_away(results: Results) -> None:
    facts = gather_facts(results)
    server = dataclasses.replace(
        facts,
        results=dataclasses.replace(results, decisions=[], replicas=results.replicas.iloc[:0]),
        summary=facts.summary | {"kind": "load"},
    )
    assert reason_of(Cause.QUEUE_FULL, facts) == "the router's queue was full"
    assert reason_of(Cause.QUEUE_FULL, server) == "the server turned them away"
    assert reason_of("unheard of", facts) == ""
