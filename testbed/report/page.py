"""The report of one run: a single HTML page that opens offline, computed from the results folder alone."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from testbed.report import tables
from testbed.report.bands import time_bands
from testbed.report.burst_table import burst_rows, burst_sentences
from testbed.report.facts import LIVE, LOAD, SIMULATED, RunFacts, gather_facts
from testbed.report.fault_table import fault_table
from testbed.report.figures import Timeline, draw_timeline
from testbed.report.fleet_panels import forecast_panel, kv_cache_panel, queue_panel, replica_panel
from testbed.report.model_panels import describe_budget, gpu_panel, model_panels, model_table
from testbed.report.page_frame import render_frame
from testbed.report.panels import Panel
from testbed.report.request_panels import failure_panel, in_flight, latency_panel, load_panel, request_series
from testbed.report.time_bins import DAY_S, MOST_BINS, bins_holding, instant, length
from testbed.report.verdict import list_warnings, write_verdict
from testbed.report.window_panels import missed_panel, throughput_panel, token_latency_panel
from testbed.results import Results
from testbed.summary import measured_windows

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
        row_parts=tables.split_latencies(rows),
        model_table=model_table(facts) if facts.models else None,
        budget=describe_budget(facts.summary["gpus"]) if "gpus" in facts.summary else "",
        changes=changes[: tables.MOST_CHANGES],
        changes_in_all=len(changes),
        decisions_in_all=len(facts.results.decisions),
        long_table_rows=LONG_TABLE_ROWS,
        failures=tables.failure_table(facts),
        faults=fault_table(facts),
        burst_sentences=burst_sentences(facts),
        bursts=burst_rows(facts),
        has_fleet=facts.has_fleet,
        window=length(facts.window_s),
        slos=facts.slos,
        config=yaml.safe_dump(facts.results.config, sort_keys=False, allow_unicode=True),
        environment=yaml.safe_dump(facts.results.environment, sort_keys=False, allow_unicode=True),
        version=facts.results.environment.get("packages", {}).get("burstscale", ""),
    )


def build_timeline(facts: RunFacts) -> tuple[Timeline, list[str]]:
    """The figure, and what is not in it, with the reason."""
    bands = time_bands(facts)
    rows = _rows_of_models(facts) if facts.models else _rows(facts)
    panels = [panel for panel in rows.values() if isinstance(panel, Panel)]
    missing = [f"{name} ({reason})" for name, reason in rows.items() if isinstance(reason, str)]
    shaded = [replace(panel, bands=bands) if panel.bands is None else panel for panel in panels]
    return draw_timeline(shaded, facts.duration_s), missing


def _rows(facts: RunFacts) -> dict[str, Panel | str]:
    """The rows of a run of one model, by what to call them where they are missing."""
    results, duration_s = facts.results, facts.duration_s
    bins = bins_holding(len(results.records), duration_s, per_bin=REQUESTS_PER_BIN, least_bins=60)
    series = request_series(results.records, bins)
    rows: dict[str, Panel | str] = {"load": load_panel(series, bins, duration_s)}
    windows = _window_rows(facts)
    rows["missed SLO"] = windows.pop("missed SLO")
    if facts.has_fleet:
        arrivals_s = results.records["scheduled_s"].to_numpy(np.float64)
        forecaster = facts.application.get("forecaster") or {}
        rows["replicas"] = replica_panel(results.replicas, results.decisions, duration_s)
        rows["forecast"] = forecast_panel(results.decisions, arrivals_s, duration_s, forecaster.get("bin_s"))
    return rows | {
        "time to first token": latency_panel(results.records, duration_s, facts.slos),
        **windows,
        "failures": failure_panel(series, bins),
        "requests in the system": queue_panel(
            in_flight(series, bins, duration_s), results.decisions, results.engine, duration_s
        ),
        "KV cache": kv_cache_panel(results.engine, duration_s),
    }


def _rows_of_models(facts: RunFacts) -> dict[str, Panel | str]:
    """The rows of a run of several models: all together, and then each."""
    bins = bins_holding(len(facts.results.records), facts.duration_s, per_bin=REQUESTS_PER_BIN, least_bins=60)
    series = request_series(facts.results.records, bins)
    windows = _window_rows(facts)
    return {
        "load": load_panel(series, bins, facts.duration_s),
        "missed SLO": windows["missed SLO"],
        "GPUs": gpu_panel(facts),
        **model_panels(facts),
        "token latency": windows["token latency"],
        "throughput": windows["throughput"],
        "failures": failure_panel(series, bins),
    }


def _window_rows(facts: RunFacts) -> dict[str, Panel | str]:
    """R, L and P over time, in windows that are as long as in the figures unless these are too many to draw."""
    duration_s, window_s = facts.duration_s, facts.window_s
    window_s *= math.ceil(duration_s / window_s / MOST_BINS)
    windows = measured_windows(facts.results, window_s, until_s=duration_s)
    return {
        "missed SLO": missed_panel(windows, window_s, duration_s),
        "token latency": token_latency_panel(windows, window_s, duration_s, facts.slos),
        "throughput": throughput_panel(windows, window_s, duration_s),
    }


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
    pieces.append(f"windows of {length(facts.window_s)}")
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
    params = ", ".join(f"{key} {_plain(value)}" for key, value in (settings.get("params") or {}).items())
    return f"{settings.get('name')} ({params})" if params else str(settings.get("name"))


def _plain(value: Any) -> str:
    """A parameter without the signs of a program: 'api 60'."""
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return " ".join(map(_plain, value)) if isinstance(value, list) else str(value)
