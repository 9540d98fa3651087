"""Traces whose story is known, and what their page draws of them."""

import numpy as np

from loadgen.statistics.description import TraceDescription
from loadgen.trace import Service, Trace, make_trace
from testbed.report.charts import Chart
from testbed.report.trace_page import build_sections, build_trace_timeline

HOUR_S, DAY_S = 3600.0, 86400.0
BURST_HOUR, FAILING_HOUR = 61, 80


def days_of_traffic() -> Trace:
    """Five days: conversation at one request a minute by day, none at night; one burst; an hour of failures."""
    rng = np.random.default_rng(3)
    hours = [hour for hour in range(120) if 8 <= hour % 24 < 20]
    talk_s = np.concatenate([hour * HOUR_S + rng.uniform(0, HOUR_S, 60) for hour in hours])
    batch_s = BURST_HOUR * HOUR_S + np.sort(rng.uniform(0, HOUR_S, 2000))
    arrival_s = np.concatenate([talk_s, batch_s])
    output_tokens = rng.integers(20, 200, len(arrival_s))
    output_tokens[(arrival_s // HOUR_S == FAILING_HOUR) & (rng.random(len(arrival_s)) < 0.5)] = 0
    order = np.argsort(arrival_s, kind="stable")
    return make_trace(
        "five days",
        arrival_s[order],
        rng.integers(5, 2000, len(arrival_s)),
        output_tokens[order],
        duration_s=5 * DAY_S,
        service=np.repeat([Service.CONVERSATION, Service.API], [len(talk_s), len(batch_s)])[order],
        model=rng.integers(0, 2, len(arrival_s)),
        model_names=("ChatGPT", "GPT-4"),
    )


def renewal(alpha: float, requests: int = 6000, mean_gap_s: float = 1.0) -> Trace:
    """Gamma gaps of one shape."""
    gaps_s = np.random.default_rng(5).gamma(alpha, mean_gap_s / alpha, requests)
    arrival_s = np.cumsum(gaps_s)
    return make_trace("renewal", arrival_s, [100] * requests, [10] * requests, duration_s=float(arrival_s[-1]) + 1)


def conversations() -> Trace:
    """Forty sessions of three turns 50 and 70 s apart, each prompt 100 tokens longer than the one before."""
    starts_s = np.arange(40) * 10.0
    arrival_s = (starts_s[:, None] + np.array([0.0, 50.0, 120.0])).ravel()
    order = np.argsort(arrival_s, kind="stable")
    return make_trace(
        "talks",
        arrival_s[order],
        np.tile([50, 150, 250], 40)[order],
        np.full(120, 20),
        duration_s=1000.0,
        session=np.repeat(np.arange(40), 3)[order],
        elapsed_s=np.linspace(0.9, 1.1, 120),
    )


def charts_of(description: TraceDescription) -> dict[str, Chart]:
    """The charts by key."""
    return {chart.key: chart for section in build_sections(description) for chart in section.charts}


def reasons_of(description: TraceDescription) -> dict[str, str]:
    """Why charts are missing, by title."""
    return {chart.title: chart.reason for section in build_sections(description) for chart in section.absent}


def rows_of(description: TraceDescription) -> dict[str, dict[str, dict]]:
    """The traces of the figure over time, by the title of the row and the label."""
    timeline, _ = build_trace_timeline(description)
    return {
        header.title: {entry.label: timeline.figure["data"][entry.trace] for entry in header.entries}
        for header in timeline.headers
    }
