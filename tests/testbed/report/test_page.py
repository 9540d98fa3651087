"""The page is safe, opens offline, and renders whatever a run left behind."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects
import pyarrow as pa
import pytest

from loadgen.records import RECORD_SCHEMA, Cause, Status
from testbed.conclude import conclude_run
from testbed.report.facts import gather_facts
from testbed.report.page import build_timeline, render_page, write_report
from testbed.report.tables import key_figures
from testbed.report.verdict import list_warnings, write_verdict
from testbed.results import Results, read_results
from tests.testbed.report.reported_runs import as_text, without

MEGABYTE = 1e6


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
    for section in ("Scaling decisions", "GPU-hours", "replicas (", "forecast ("):
        assert section not in re.sub(r"<style>.*?</style>|<script.*?</script>", "", page, flags=re.DOTALL)


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


def test_the_report_of_one_request_renders(tmp_path: Path, story: Any, write_run: Any) -> None:
    one = dataclasses.replace(without(story, "decisions", "replicas", "engine"), records=story.records[:1])
    results = conclude_run(write_run(tmp_path / "run", one))
    assert write_verdict(gather_facts(results)).startswith(
        "100 % of 1 request met their SLO; it was held in the 1 window of 5 s. None failed."
    )
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
        "cause": pa.array(np.where(ok, "", Cause.DEADLINE_IN_QUEUE.value), mask=~failed.to_numpy(False)),
        "error": pa.array(np.where(ok, "", "504 " + "x" * 200), mask=~failed.to_numpy(False)),
        "attempts": np.ones(requests),
    }
    unknown = {name: pa.nulls(requests) for name in RECORD_SCHEMA.names if name not in columns}
    return pa.table(columns | unknown).select(RECORD_SCHEMA.names).cast(RECORD_SCHEMA)


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
