"""The page of a trace: what its description holds, as numbers and as plots, in one file that opens offline."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from loadgen.statistics.description import TraceDescription
from testbed.report.chart_figures import draw_chart, legend
from testbed.report.charts import Section
from testbed.report.figures import Timeline, draw_timeline
from testbed.report.number_text import latency
from testbed.report.page_frame import render_frame
from testbed.report.panels import Panel
from testbed.report.time_bins import length
from testbed.report.trace_figures_bursts import burst_section
from testbed.report.trace_figures_cycles import cycle_section
from testbed.report.trace_figures_failures import failure_section
from testbed.report.trace_figures_gaps import LEAST_RESOLUTION_S, gap_section
from testbed.report.trace_figures_lengths import length_section
from testbed.report.trace_figures_sessions import conversation_section
from testbed.report.trace_figures_time import panels_over_time
from testbed.report.trace_tables import COLUMNS, key_figures, traffic_table
from testbed.report.trace_verdict import write_trace_verdict


def write_trace_page(description: TraceDescription, path: Path, source: str) -> Path:
    """Write the page to `path` and return it; `source` says what it is from."""
    path.write_text(render_trace_page(description, source), encoding="utf-8")
    return path


def name_source(paths: Sequence[Path], options: Mapping[str, object]) -> str:
    """The files, and what part of them was taken: 'a.csv, b.csv (service api)'."""
    part = ", ".join(f"{option} {value}" for option, value in options.items() if value is not None)
    return ", ".join(path.name for path in paths) + (f" ({part})" if part else "")


def render_trace_page(description: TraceDescription, source: str) -> str:
    """The page as HTML. It loads nothing; without scripts only the plots are missing."""
    timeline, missing = build_trace_timeline(description)
    sections = build_sections(description)
    charts = [chart for section in sections for chart in section.charts]
    return render_frame(
        "trace_page.html.j2",
        styles=["style.css", "charts.css"],
        scripts=["timeline.js", "charts.js"],
        data={
            "timeline-data": {"figure": timeline.figure, "readouts": timeline.readouts},
            "charts-data": {chart.key: draw_chart(chart) for chart in charts},
        },
        name=description.name,
        meta=_describe_trace(description, source),
        verdict=write_trace_verdict(description),
        tiles=key_figures(description),
        columns=COLUMNS,
        rows=traffic_table(description),
        timeline=timeline,
        missing=missing,
        sections=sections,
        legends={chart.key: legend(chart) for chart in charts},
        version=version("burstscale"),
    )


def build_trace_timeline(description: TraceDescription) -> tuple[Timeline, list[str]]:
    """The figure over time, and what is not in it, with the reason."""
    rows = panels_over_time(description)
    panels = [panel for panel in rows.values() if isinstance(panel, Panel)]
    missing = [f"{name} ({reason})" for name, reason in rows.items() if isinstance(reason, str)]
    return draw_timeline(panels, description.all.duration_s), missing


def build_sections(description: TraceDescription) -> list[Section]:
    """The parts below the figure over time, from top to bottom."""
    return [
        cycle_section(description),
        gap_section(description),
        burst_section(description),
        length_section(description),
        failure_section(description),
        conversation_section(description),
    ]


def _describe_trace(description: TraceDescription, source: str) -> list[str]:
    traffic = description.all
    pieces = [source, f"{length(traffic.duration_s)} long", f"{traffic.requests:,} requests"]
    if traffic.gaps is not None and traffic.gaps.resolution_s >= LEAST_RESOLUTION_S:
        pieces.append(f"times recorded to {latency(traffic.gaps.resolution_s)}")
    if traffic.outputs_left_to_engine:
        pieces.append(f"{traffic.outputs_left_to_engine:,} answers of a length that is left to the engine")
    return pieces
