"""The report of one run: a single HTML page that opens offline, computed from the results folder alone."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from testbed.report import tables
from testbed.report.burst_table import burst_rows, burst_sentence
from testbed.report.facts import LIVE, LOAD, SIMULATED, RunFacts, gather_facts
from testbed.report.fault_table import fault_table
from testbed.report.figures import Timeline, draw_timeline
from testbed.report.fleet_panels import forecast_panel, kv_cache_panel, queue_panel, replica_panel
from testbed.report.model_panels import describe_budget, gpu_panel, model_panels, model_table
from testbed.report.page_frame import render_frame
from testbed.report.panels import Panel
from testbed.report.request_panels import failure_panel, in_flight, latency_panel, load_panel, request_series
from testbed.report.time_bins import DAY_S, bins_holding, instant, length
from testbed.report.verdict import list_warnings, write_verdict
from testbed.results import Results

KINDS = {
    SIMULATED: "Simulated run",
    LIVE: "Live run",
    LOAD: "Load replayed against a server",
}
LONG_TABLE_ROWS = 50
REQUESTS_PER_BIN = 10


def write_report(results: Results, path: Path) -> Path:
    """Write the page to `path` and return it. It loads nothing; without scripts only the figure is missing."""
    path.write_text(render_page(gather_facts(results)), encoding="utf-8")
    return path


def render_page(facts: RunFacts) -> str:
    """The page as HTML."""
    timeline, missing = build_timeline(facts)
    columns, rows = tables.service_table(facts)
    changes = tables.target_changes(facts)
    return render_frame(
        "run_page.html.j2",
        styles=["style.css"],
        scripts=["timeline.js"],
        data={"timeline-data": {"figure": timeline.figure, "readouts": timeline.readouts}},
        name=facts.name,
        kind=KINDS.get(facts.summary.get("kind", ""), "Run"),
        meta=_describe_run(facts),
        verdict=write_verdict(facts),
        notes=facts.notes,
        warnings=list_warnings(facts),
        tiles=tables.key_figures(facts),
        timeline=timeline,
        missing=missing,
        columns=columns,
        rows=rows,
        model_table=model_table(facts) if facts.models else None,
        budget=describe_budget(facts.summary["gpus"]) if "gpus" in facts.summary else "",
        changes=changes[: tables.MOST_CHANGES],
        changes_in_all=len(changes),
        decisions_in_all=len(facts.results.decisions),
        long_table_rows=LONG_TABLE_ROWS,
        failures=tables.failure_table(facts),
        faults=fault_table(facts),
        burst_sentence=burst_sentence(facts),
        bursts=burst_rows(facts),
        has_fleet=facts.fleet is not None,
        slos=facts.slos,
        config=yaml.safe_dump(facts.results.config, sort_keys=False, allow_unicode=True),
        environment=yaml.safe_dump(facts.results.environment, sort_keys=False, allow_unicode=True),
        version=facts.results.environment.get("packages", {}).get("burstscale", ""),
    )


def build_timeline(facts: RunFacts) -> tuple[Timeline, list[str]]:
    """The figure, and what is not in it, with the reason."""
    results, duration_s = facts.results, facts.duration_s
    bins = bins_holding(len(results.records), duration_s, per_bin=REQUESTS_PER_BIN, least_bins=60)
    series = request_series(results.records, bins)
    forecaster = facts.application.get("forecaster") or {}
    arrivals_s = results.records["scheduled_s"].to_numpy(np.float64)
    if facts.models:
        rows: dict[str, Panel | str] = {
            "load": load_panel(series, bins, duration_s),
            "GPUs": gpu_panel(facts),
            **model_panels(facts),
            "failures": failure_panel(series, bins),
        }
        return _drawn(rows, duration_s)
    rows = {
        "load": load_panel(series, bins, duration_s),
        "replicas": replica_panel(results.replicas, results.decisions, duration_s),
        "forecast": forecast_panel(results.decisions, arrivals_s, duration_s, forecaster.get("bin_s")),
        "time to first token": latency_panel(results.records, duration_s, facts.slos),
        "failures": failure_panel(series, bins),
        "requests in the system": queue_panel(
            in_flight(series, bins, duration_s), results.decisions, results.engine, duration_s
        ),
        "KV cache": kv_cache_panel(results.engine, duration_s),
    }
    return _drawn(rows, duration_s)


def _drawn(rows: dict[str, Panel | str], duration_s: float) -> tuple[Timeline, list[str]]:
    """The rows that there are as one figure, and the reasons of the others."""
    panels = [panel for panel in rows.values() if isinstance(panel, Panel)]
    missing = [f"{name} ({reason})" for name, reason in rows.items() if isinstance(reason, str)]
    return draw_timeline(panels, duration_s), missing


def _describe_run(facts: RunFacts) -> list[str]:
    """When, what and with what, as short pieces."""
    environment, application = facts.results.environment, facts.application
    trace = environment.get("trace") or {}
    pieces = []
    if started_at := environment.get("started_at"):
        pieces.append(datetime.fromisoformat(started_at).astimezone(UTC).strftime("%-d %B %Y, %H:%M UTC"))
    if trace.get("name"):
        pieces.append(f"trace {trace['name']}, {facts.summary['planned_requests']:,} requests")
    pieces.append(f"{instant(facts.duration_s) if facts.duration_s < DAY_S else length(facts.duration_s)} long")
    if target := facts.results.config.get("target"):
        pieces.append(f"{target.get('model')} at {target.get('url')}")
    for name, model in facts.models.items():
        pieces.append(f"{name}: {model.application['engine']['hardware']}, policy {_call(model.application['policy'])}")
    if policy := application.get("policy"):
        pieces.append(f"policy {_call(policy)}")
    if forecaster := application.get("forecaster"):
        pieces.append(f"forecaster {_call(forecaster)}")
    if "seed" in environment:
        pieces.append(f"seed {environment['seed']}")
    pieces.append(f"commit {environment.get('git_commit') or 'unknown'}")
    return pieces


def _call(settings: dict[str, Any]) -> str:
    """A name with its parameters: 'forecast-quantile (level 0.9)'."""
    params = ", ".join(f"{key} {value}" for key, value in (settings.get("params") or {}).items())
    return f"{settings.get('name')} ({params})" if params else str(settings.get("name"))
