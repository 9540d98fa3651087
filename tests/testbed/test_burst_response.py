"""How a run met its bursts, against runs in which every instant was chosen by hand."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autoscaler.interface import Slo
from testbed.burst_response import BurstSummary, burst_before, summarise_bursts
from testbed.report.burst_table import burst_rows, burst_sentences
from testbed.report.facts import gather_facts
from testbed.report.page import render_page
from testbed.results import read_results

SLOS = {"api": Slo(ttft_s=1.0, tpot_s=1.0, deadline_s=30.0)}
BURST_S = 120.0


def records_of(scheduled_s: np.ndarray, ttft_s: np.ndarray, is_failed: np.ndarray) -> pd.DataFrame:
    """One request of a single token at each instant."""
    return pd.DataFrame(
        {
            "service": "api",
            "scheduled_s": scheduled_s,
            "first_token_s": np.where(is_failed, np.nan, scheduled_s + ttft_s),
            "finished_s": scheduled_s + ttft_s,
            "output_tokens": 1,
            "status": np.where(is_failed, "timed_out", "ok"),
        }
    )


def steady_with_burst(duration_s: float = 300.0) -> np.ndarray:
    """Two requests a second, and twenty from 120 s to 150 s."""
    return np.sort(np.concatenate([np.arange(0, duration_s, 0.5), np.arange(BURST_S, BURST_S + 30, 1 / 18)]))


def replicas(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """Rows of replicas.parquet."""
    return pd.DataFrame(rows, columns=["replica_id", "state", "start_s", "end_s"])


def summarise(
    records: pd.DataFrame, decisions: list[dict[str, object]], fleet: pd.DataFrame, duration_s: float = 300.0
) -> BurstSummary:
    """The bursts of a run that begins with one replica."""
    found = summarise_bursts(records, decisions, fleet, SLOS, duration_s=duration_s, initial_replicas=1)
    assert found is not None
    return found


def test_a_burst_is_followed_from_the_jump_to_the_decision_the_replica_and_the_slo_held_again() -> None:
    scheduled_s = steady_with_burst()
    is_slow = (scheduled_s >= 125) & (scheduled_s < 165)
    is_failed = (scheduled_s >= 130) & (scheduled_s < 131)
    records = records_of(scheduled_s, np.where(is_slow, 3.0, 0.1), is_failed)
    decisions = [{"time_s": 60.0, "target_replicas": 2}, {"time_s": 100.0, "target_replicas": 1}] + [
        {"time_s": at_s, "target_replicas": 3} for at_s in (123.0, 124.0)
    ]
    fleet = replicas(
        ("a", "ready", 0, 300),
        ("b", "starting", 60, 121),  # was asked for before the burst: no answer to it
        ("b", "ready", 121, 300),
        ("c", "starting", 123, 140),
        ("c", "ready", 140, 300),
        ("d", "starting", 124, 130),  # ended while it started
    )
    found = summarise(records, decisions, fleet)
    [burst] = found.worst
    assert (burst.onset_s, burst.length_s) == (BURST_S, 30.0)
    assert burst.requests == int(((scheduled_s >= 120) & (scheduled_s < 150)).sum())
    assert burst.failed == int(is_failed.sum()) > 0
    assert burst.growth == pytest.approx(100 / 10)
    assert burst.decided_after_s == pytest.approx(3.0)
    assert burst.ready_after_s == pytest.approx(20.0)
    assert burst.is_slo_lost
    assert burst.regained_after_s == pytest.approx(45.0), "held from 165 s on"
    assert (found.bursts, found.slo_lost, found.slo_regained, found.bin_s) == (1, 1, 1, 5.0)
    assert json.loads(json.dumps(found.as_json()))["worst"][0]["onset_s"] == BURST_S


def test_a_burst_that_nobody_answers_and_that_never_ends_well_says_so() -> None:
    scheduled_s = steady_with_burst()
    records = records_of(scheduled_s, np.where(scheduled_s >= 120, 5.0, 0.1), np.zeros(len(scheduled_s), bool))
    [burst] = summarise(records, [], replicas(("a", "ready", 0, 300))).worst
    assert (burst.decided_after_s, burst.ready_after_s, burst.regained_after_s) == (None, None, None)
    assert burst.is_slo_lost
    assert burst.failed == 0


def test_a_burst_within_the_slo_has_nothing_to_regain() -> None:
    scheduled_s = steady_with_burst()
    records = records_of(scheduled_s, np.full(len(scheduled_s), 0.1), np.zeros(len(scheduled_s), bool))
    found = summarise(records, [], replicas(("a", "ready", 0, 300)))
    assert (found.slo_lost, found.slo_regained, found.regained_after_s) == (0, 0, None)


def test_one_good_window_among_bad_ones_is_not_yet_regained() -> None:
    scheduled_s = steady_with_burst()
    is_slow = ((scheduled_s >= 120) & (scheduled_s < 140)) | ((scheduled_s >= 145) & (scheduled_s < 170))
    records = records_of(scheduled_s, np.where(is_slow, 5.0, 0.1), np.zeros(len(scheduled_s), bool))
    [burst] = summarise(records, [], replicas(("a", "ready", 0, 300))).worst
    assert burst.regained_after_s == pytest.approx(50.0)


def test_a_decision_after_the_next_burst_answers_that_one() -> None:
    scheduled_s = np.sort(np.concatenate([steady_with_burst(600.0), np.arange(400, 430, 1 / 18)]))
    records = records_of(scheduled_s, np.full(len(scheduled_s), 0.1), np.zeros(len(scheduled_s), bool))
    decisions = [{"time_s": 410.0, "target_replicas": 2}]
    fleet = replicas(("a", "ready", 0, 600), ("b", "starting", 410, 425), ("b", "ready", 425, 600))
    first, second = summarise(records, decisions, fleet, 600.0).worst
    assert (first.onset_s, second.onset_s) == (120.0, 400.0)
    assert (first.decided_after_s, first.ready_after_s) == (None, None)
    assert (second.decided_after_s, second.ready_after_s) == pytest.approx((10.0, 25.0))


def test_a_load_that_never_jumps_has_no_bursts() -> None:
    records = records_of(np.arange(0, 100, 0.2), np.full(500, 0.1), np.zeros(500, bool))
    found = summarise(records, [], replicas(), 100.0)
    assert (found.bursts, found.worst, found.decided_after_s, found.bin_s) == (0, (), None, 5.0)


def test_a_run_of_a_few_seconds_is_too_short_for_bursts() -> None:
    records = records_of(np.arange(20.0), np.full(20, 0.1), np.zeros(20, bool))
    assert summarise_bursts(records, [], replicas(), SLOS, duration_s=20.0, initial_replicas=1) is None


def test_a_failure_is_laid_to_the_last_burst_that_goes_on_or_has_just_ended() -> None:
    bursts = [{"onset_s": 100.0, "length_s": 30.0}, {"onset_s": 170.0, "length_s": 10.0}]
    onsets_s = [
        None if (burst := burst_before(bursts, instant_s)) is None else burst["onset_s"]
        for instant_s in (99.9, 100.0, 129.0, 169.0, 170.0, 239.9, 240.0)
    ]
    assert onsets_s == [None, 100.0, 100.0, 100.0, 170.0, 170.0, None]


def test_the_report_tells_the_burst_of_the_story(tmp_path: Path, story: Any, write_run: Any) -> None:
    facts = gather_facts(read_results(write_run(tmp_path / "run", story)))
    [row] = burst_rows(facts)
    assert (row.onset, row.length, row.decided, row.ready) == ("0:50", "40 s", "3 s", "13 s")
    failed = facts.results.records.query("50 <= scheduled_s < 90 and status != 'ok'")
    assert row.failed == f"{len(failed):,}" != "0"
    [sentence] = burst_sentences(facts)
    assert sentence.startswith(f"The load jumped once: {len(failed):,} of the")
    assert "The SLO was lost in it and held again 15 s after its onset" in sentence
    assert "More replicas were asked for 3 s after its onset and the first was ready after 13 s" in sentence
    assert sentence in html.unescape(render_page(facts))
