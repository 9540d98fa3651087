"""The report's numbers come from the folder, its text is escaped, and it renders whatever a run left behind."""

import dataclasses
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadgen.records import RECORD_SCHEMA, Cause, Status
from testbed.conclude import conclude_run
from testbed.report.axes import START_MS, log_ticks, round_ticks
from testbed.report.facts import gather_facts
from testbed.report.fleet_panels import mean_replicas
from testbed.report.number_text import failure_percent, latency, percent, quantity
from testbed.report.page import build_timeline, render_page, write_report
from testbed.report.tables import failure_table, key_figures, service_table, target_changes
from testbed.report.terminal import render_summary
from testbed.report.time_bins import bins_holding, bins_over, instant, length
from testbed.report.verdict import burst_before, closest_window, list_warnings, write_verdict
from testbed.results import Results, read_results

MEGABYTE = 1e6


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, story: Any, write_run: Any) -> Results:
    """The story's run, concluded."""
    return conclude_run(write_run(tmp_path_factory.mktemp("story") / "run", story))


def as_text(results: Results) -> str:
    """What the terminal shows, on one line."""
    console = Console(file=io.StringIO(), width=200)
    console.print(render_summary(results))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def traces(results: Results) -> dict[str, dict[str, Any]]:
    """The figure's traces by the name of the legend's entry."""
    timeline, _ = build_timeline(gather_facts(results))
    entries = [entry for header in timeline.headers for entry in header.entries]
    return {entry.label: timeline.figure["data"][entry.trace] for entry in entries}


def test_the_verdict_tells_the_story_of_the_run(results: Results) -> None:
    verdict = write_verdict(gather_facts(results))
    failed = (results.records["status"] != Status.OK).sum()
    waited = (results.records["cause"] == Cause.DEADLINE_IN_QUEUE).sum()
    assert failed > waited > 0
    assert f"of {len(results.records):,} requests met their SLO" in verdict
    assert f"{failed} failed, {waited} of them because the wait at the router was too long" in verdict
    assert "after the burst at 0:50" in verdict
    assert "the fleet grew from 2 to 6 replicas and held 0.198 GPU-hours." in verdict
    assert verdict.count(".") - verdict.count("0.198") - len(re.findall(r"\d\.\d %", verdict)) == 1, "one sentence"


def test_the_attainment_in_the_verdict_is_that_of_the_records(results: Results) -> None:
    records = results.records
    ttft_s = records["first_token_s"] - records["scheduled_s"]
    tpot_s = (records["finished_s"] - records["first_token_s"]) / (records["output_tokens"] - 1)
    promise_s = records["service"].map({"conversation": 2.0, "api": 60.0})
    good = (records["status"] == Status.OK) & (ttft_s <= promise_s) & (tpot_s <= 0.2)
    tile = key_figures(gather_facts(results))[0]
    assert float(tile.value) == pytest.approx(100 * good.mean(), abs=0.1)


def test_the_figure_is_one_that_plotly_accepts_and_every_row_is_in_it(results: Results) -> None:
    timeline, missing = build_timeline(gather_facts(results))
    plotly.graph_objects.Figure(timeline.figure)
    assert missing == []
    titles = [header.title for header in timeline.headers]
    assert titles == [
        "Load",
        "Replicas",
        "Forecast",
        "Time to first token",
        "Failures by cause",
        "Requests in the system",
        "KV cache in use",
    ]
    assert len(timeline.readouts) == len(timeline.figure["data"])


def test_the_areas_of_the_figure_are_the_numbers_of_the_tables(results: Results) -> None:
    drawn = traces(results)
    failed = results.records[results.records["status"] != Status.OK]
    for cause, count in failed["cause"].value_counts().items():
        assert sum(drawn[str(cause).replace("_", " ")]["y"]) == count
    bin_s = (drawn["offered"]["x"][1] - drawn["offered"]["x"][0]) / 1000
    # The last point only draws the last bin out to the end.
    assert sum(drawn["offered"]["y"][:-1]) * bin_s == pytest.approx(len(results.records))
    ok = (results.records["status"] == Status.OK).sum()
    assert sum(drawn["served"]["y"][:-1]) * bin_s == pytest.approx(ok)
    summary = gather_facts(results).fleet
    assert summary is not None
    held_s = sum(
        float(np.dot(drawn[state]["y"][:-1], np.diff(drawn[state]["x"])) / 1000)
        for state in ("ready", "starting", "draining")
    )
    assert held_s == pytest.approx(summary["replica_seconds"], rel=1e-3)


def test_a_forecast_is_drawn_at_the_time_that_it_speaks_of(results: Results) -> None:
    median = traces(results)["median"]
    first = next(decision["forecast"] for decision in results.decisions if decision["forecast"])
    assert median["x"][0] == START_MS + first["at_s"] * 1000
    assert median["y"][0] == pytest.approx(first["requests_per_s"][first["levels"].index(0.5)], rel=1e-3)


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


def test_text_of_the_data_is_escaped_everywhere(results: Results, tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    records = results.records.assign(error=results.records["error"].where(results.records["error"].isna(), nasty))
    decisions = [decision | {"reason": nasty, "error": None} for decision in results.decisions]
    config = results.config | {"name": nasty}
    environment = results.environment | {"git_commit": nasty}
    attacked = dataclasses.replace(
        results, records=records, decisions=decisions, config=config, environment=environment
    )
    page = write_report(attacked, tmp_path / "page.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("</script>") == 3, "the figure's data and two scripts, none of them ended early"


def test_the_page_names_no_address_that_a_browser_would_load(results: Results) -> None:
    page = render_page(gather_facts(results))
    outside_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', outside_scripts) == []
    assert "url(" not in outside_scripts
    assert "@import" not in outside_scripts
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy.group(1).startswith("default-src 'none'")


def test_the_table_of_services_adds_up(results: Results) -> None:
    columns, rows = service_table(gather_facts(results))
    assert columns == ("api", "conversation", "all")
    for row in rows:
        if row.label in ("Offered", "Ok", "Failed") or row.kind == "sub":
            api, conversation, everything = (int(cell.replace(",", "")) for cell in row.cells)
            assert api + conversation == everything


def test_the_terminal_shows_the_verdict_the_services_and_the_fleet(results: Results) -> None:
    text = as_text(results)
    assert write_verdict(gather_facts(results)) in text
    assert "deadline in queue" in text
    assert "2 (1 up, 1 down, 0 taken back)" in text


def test_markup_in_a_name_is_text_in_the_terminal(results: Results) -> None:
    assert "[red]x[/red]" in as_text(dataclasses.replace(results, config=results.config | {"name": "[red]x[/red]"}))


def test_a_run_that_was_cut_short_says_so_and_still_renders(tmp_path: Path, story: Any, write_run: Any) -> None:
    folder = write_run(tmp_path / "run", story, planned=len(story.records) + 79)
    unfinished = read_results(folder)
    assert not unfinished.complete
    warnings = list_warnings(gather_facts(unfinished))
    assert "cut short" in warnings[0]
    assert any(f"of {len(story.records) + 79:,} planned" in warning for warning in warnings)
    assert "cut short" in as_text(unfinished)
    page = write_report(unfinished, tmp_path / "page.html").read_text()
    assert "Read this before the numbers" in page


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


def without(story: Any, *parts: str) -> Any:
    """The story with some of its tables empty."""
    return dataclasses.replace(story, **{part: [] for part in parts})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("decisions", "replicas", "engine"), "replicas (the run had no fleet of its own)"),
        (("decisions",), "forecast (no policy ran)"),
        (("engine",), "KV cache (no engine samples were recorded)"),
        (("records",), "load (no requests were recorded)"),
        (("records", "decisions", "replicas", "engine"), "failures (no request failed)"),
    ],
    ids=["load only", "no policy", "no engine samples", "no requests", "nothing at all"],
)
def test_what_a_run_lacks_is_said_and_the_rest_is_shown(
    parts: tuple[str, ...], said: str, tmp_path: Path, story: Any, write_run: Any
) -> None:
    results = conclude_run(write_run(tmp_path / "run", without(story, *parts)))
    timeline, missing = build_timeline(gather_facts(results))
    plotly.graph_objects.Figure(timeline.figure)
    assert said in missing
    assert said in write_report(results, tmp_path / "page.html").read_text()
    assert as_text(results)


def test_load_against_a_foreign_server_is_reported_without_a_fleet(tmp_path: Path, story: Any, write_run: Any) -> None:
    promise = {"ttft_s": 2.0, "tpot_s": 0.2, "deadline_s": 30.0}
    target = {"url": "http://127.0.0.1:8000", "model": "some-model"}
    config = {"target": target, "services": {"conversation": promise, "api": promise}}
    only = without(story, "decisions", "replicas", "engine")
    results = conclude_run(write_run(tmp_path / "run", only, kind="load", config=config))
    facts = gather_facts(results)
    assert facts.fleet is None
    assert facts.name == "run"
    assert "fleet" not in write_verdict(facts)
    assert "GPU-hours" not in {tile.label for tile in key_figures(facts)}
    page = render_page(facts)
    assert "Load replayed against a server" in page
    assert "some-model at http://127.0.0.1:8000" in page
    assert "No policy ran." in page


def test_a_run_in_which_every_request_failed_renders(tmp_path: Path, story: Any, write_run: Any) -> None:
    lost = {
        "status": Status.FAILED,
        "cause": Cause.CONNECTION,
        "first_token_s": None,
        "output_tokens": 0,
        "error": None,
    }
    dead = dataclasses.replace(without(story, "engine"), records=[record | lost for record in story.records])
    results = conclude_run(write_run(tmp_path / "run", dead))
    verdict = write_verdict(gather_facts(results))
    assert verdict.startswith(f"0 % of {len(story.records):,} requests met their SLO")
    assert "all because the connection failed" in verdict
    _, missing = build_timeline(gather_facts(results))
    assert "time to first token (no request got its answer)" in missing


def test_a_failure_that_names_no_cause_is_drawn_and_listed_as_unknown(
    tmp_path: Path, story: Any, write_run: Any
) -> None:
    nameless = [record | {"cause": None} if record.get("cause") else record for record in story.records]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, records=nameless)))
    failed = (results.records["status"] != Status.OK).sum()
    assert sum(traces(results)["unknown"]["y"]) == failed
    assert [row.cause for row in failure_table(gather_facts(results))] == ["unknown"]
    assert f"{failed} failed" in write_verdict(gather_facts(results))


def test_a_run_without_forecasts_says_so(tmp_path: Path, story: Any, write_run: Any) -> None:
    decisions = [dataclasses.replace(decision, forecast=None) for decision in story.decisions]
    results = conclude_run(write_run(tmp_path / "run", dataclasses.replace(story, decisions=decisions)))
    _, missing = build_timeline(gather_facts(results))
    assert missing == ["forecast (no forecast was made)"]


def test_the_report_of_one_request_renders(tmp_path: Path, story: Any, write_run: Any) -> None:
    one = dataclasses.replace(without(story, "decisions", "replicas", "engine"), records=story.records[:1])
    results = conclude_run(write_run(tmp_path / "run", one))
    assert write_verdict(gather_facts(results)).startswith("100 % of 1 request met their SLO; none failed")
    render_page(gather_facts(results))


def many_requests(requests: int, duration_s: float, rng: np.random.Generator) -> pa.Table:
    """Steady traffic, one request in a hundred failed."""
    arrivals_s = np.sort(rng.uniform(0, duration_s, requests))
    first_s = arrivals_s + rng.gamma(2, 0.2, requests)
    ok = rng.random(requests) > 0.01
    failed = pa.array(~ok)
    columns = {
        "request_id": np.arange(requests),
        "service": np.where(rng.random(requests) < 0.5, "api", "conversation"),
        "model": pa.array(["m"] * requests),
        "prompt_tokens": rng.integers(1, 900, requests),
        "output_tokens": np.where(ok, rng.integers(1, 300, requests), 0),
        "scheduled_s": arrivals_s,
        "sent_s": arrivals_s,
        "first_token_s": pa.array(first_s, mask=~ok),
        "finished_s": first_s + rng.gamma(2, 2, requests),
        "status": np.where(ok, Status.OK.value, Status.TIMED_OUT.value),
        "replica_id": pa.nulls(requests, pa.string()),
        "cause": pa.array(np.where(ok, "", Cause.DEADLINE_IN_QUEUE.value), mask=~failed.to_numpy(False)),
        "error": pa.array(np.where(ok, "", "504 " + "x" * 200), mask=~failed.to_numpy(False)),
        "attempts": np.ones(requests),
        "chunk_offsets_s": pa.nulls(requests),
        "planned_s": pa.nulls(requests),
        "phase": pa.nulls(requests),
    }
    return pa.table(columns).cast(RECORD_SCHEMA)


def test_a_month_of_requests_and_decisions_gives_a_small_page(tmp_path: Path, story: Any, write_run: Any) -> None:
    month_s = 30 * 86400.0
    rng = np.random.default_rng(3)
    folder = write_run(tmp_path / "run", without(story, "records"), planned=50_000)
    (folder / "records.parquet").unlink()
    pa.parquet.write_table(many_requests(50_000, month_s, rng), folder / "records.parquet")
    template = json.loads((folder / "decisions.jsonl").read_text().splitlines()[100])
    targets = rng.integers(1, 12, 20_000)
    results = dataclasses.replace(
        read_results(folder),
        decisions=[
            template | {"time_s": 120.0 * index, "target_replicas": int(target)} for index, target in enumerate(targets)
        ],
    )
    page = write_report(results, tmp_path / "page.html")
    assert page.stat().st_size < 15 * MEGABYTE
    timeline, _ = build_timeline(gather_facts(results))
    assert max(len(trace["x"]) for trace in timeline.figure["data"]) <= 1210


def test_instants_and_lengths_read_as_on_a_clock() -> None:
    assert [instant(time_s) for time_s in (0, 25.4, 85, 3725, 90061, 183600)] == [
        "0:00",
        "0:25",
        "1:25",
        "1:02:05",
        "day 2, 1:01",
        "day 3, 3:00",
    ]
    assert [length(duration_s) for duration_s in (0.25, 12, 270, 9000, 864000)] == [
        "0.25 s",
        "12 s",
        "4.5 min",
        "2.5 h",
        "10 days",
    ]


def test_shares_are_never_rounded_to_a_perfection_that_was_not_reached() -> None:
    assert [percent(share) for share in (1.0, 0.99996, 0.9999, 0.987, 0.0)] == [
        "100 %",
        "99.99 %",
        "99.99 %",
        "98.7 %",
        "0 %",
    ]
    assert [failure_percent(share) for share in (0.0, 1e-6, 0.013, 1.0)] == ["0 %", "0.001 %", "1.3 %", "100 %"]
    assert [latency(value_s) for value_s in (None, 0.0432, 1.25, 62)] == ["\N{EN DASH}", "43.2 ms", "1.25 s", "62 s"]
    assert [quantity(value) for value in (0.3097, 1240, 0, 12.0)] == ["0.31", "1,240", "0", "12"]


@given(st.floats(0, 1e9), st.integers(1, 700))
def test_bins_cover_the_run_and_are_not_many_more_than_asked_for(duration_s: float, most_bins: int) -> None:
    bins = bins_over(duration_s, most_bins=most_bins)
    assert bins.count * bins.width_s > duration_s
    assert bins.count <= most_bins + 1
    assert bins.count_of(np.array([0.0, duration_s])).sum() == 2


def test_bins_hold_enough_requests_to_show_more_than_noise() -> None:
    assert bins_holding(1000, 1000.0, per_bin=10, least_bins=60).width_s == 10
    assert bins_holding(10, 600.0, per_bin=10, least_bins=60).width_s == 10
    assert bins_holding(10**6, 600.0, per_bin=10, least_bins=60).width_s == 1


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=12),
    st.lists(st.floats(0.5, 149.5), max_size=8, unique=True),
)
def test_mean_replicas_times_time_is_the_time_held(intervals: list[tuple[float, float]], cuts: list[float]) -> None:
    frame = pd.DataFrame(
        {
            "start_s": [start_s for start_s, _ in intervals],
            "end_s": [start_s + held_s for start_s, held_s in intervals],
        },
        dtype=np.float64,
    )
    edges_s = np.array(sorted({0.0, 150.0, *cuts}))
    times_s, means = mean_replicas(frame, edges_s)
    assert times_s.tolist() == edges_s.tolist()
    held_s = float(np.dot(means[:-1], np.diff(edges_s)))
    assert held_s == pytest.approx(sum(length_s for _, length_s in intervals), abs=1e-6)


@given(st.floats(1e-3, 1e7), st.booleans())
def test_ticks_are_few_round_and_inside(high: float, whole: bool) -> None:
    ticks = round_ticks(high, whole=whole)
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] <= max(high, 1.0) * 1.0001
    if whole:
        assert all(tick == int(tick) for tick in ticks)


def test_few_decades_get_ticks_between_the_powers_of_ten() -> None:
    assert log_ticks(0.05, 0.9) == pytest.approx([0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
    assert log_ticks(0.001, 90) == pytest.approx([0.001, 0.01, 0.1, 1.0, 10.0, 100.0])


def test_the_closest_window_leaves_stragglers_out() -> None:
    instants_s = np.sort(np.append(np.linspace(50, 52, 19), 190.0))
    window = closest_window(instants_s)
    assert (window.start_s, window.failures) == (50.0, 18)
    assert window.end_s < 53


def test_a_burst_is_found_where_the_rate_is_twice_the_usual() -> None:
    steady = np.arange(0, 300, 0.5)
    assert burst_before(steady, 300.0, 120.0) is None
    bursty = np.sort(np.concatenate([steady, np.linspace(100, 110, 60)]))
    assert burst_before(bursty, 300.0, 112.0) == 100.0
    assert burst_before(bursty, 300.0, 40.0) is None
