"""How the simulator's time grows, as a page with a plot that opens offline, a sentence, and the figures beside it."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from testbed.bench_simulator import Speed
from testbed.report.palette import REFERENCE, SERVED


def growth_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of time over size, both as logarithms: 1 = in proportion, 0 = the same for all sizes."""
    slope, _ = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return float(slope)


def scaling_sentence(by_requests: Sequence[Speed], by_replicas: Sequence[Speed]) -> str:
    """What the two growths are.

    Replicas are compared at the same load of each. Over the same span, work then grows with replicas through their
    requests, and by what one request costs more in a larger fleet: proportional replicas leave that unchanged.
    """
    requests_exponent = growth_exponent(*_by_requests(by_requests))
    replicas_exponent = growth_exponent(*_by_replicas(by_replicas))
    first, last = by_replicas[0], by_replicas[-1]
    times = (last.seconds / last.requests) / (first.seconds / first.requests)
    return (
        f"Time grows with requests to the power of {requests_exponent:.2f} ({by_requests[0].requests:,} to "
        f"{by_requests[-1].requests:,} requests) and, over the same span, with replicas to the power of "
        f"{1 + replicas_exponent:.2f} ({first.replicas} to {last.replicas} replicas at the same load of each); 1 would "
        f"be in proportion. One request costs {times:.1f} times as much on {last.replicas} replicas as on "
        f"{first.replicas}."
    )


def write_scaling_page(by_requests: Sequence[Speed], by_replicas: Sequence[Speed], path: Path) -> None:
    """Write the page to `path`, and its figures beside it with the ending .json; files of that name are replaced."""
    figure = make_subplots(
        cols=2,
        rows=1,
        subplot_titles=(
            f"{by_requests[0].replicas} replicas: CPU seconds over requests",
            "CPU time of one request over replicas, at the same load of each",
        ),
        horizontal_spacing=0.12,
    )
    requests, seconds = _by_requests(by_requests)
    replicas, request_s = _by_replicas(by_replicas)
    _add_growth(figure, 1, requests, seconds)
    _add_growth(figure, 2, replicas, [each * 1e6 for each in request_s])
    figure.update_xaxes(type="log", dtick=1, title_text="requests", col=1)
    figure.update_yaxes(type="log", dtick=1, title_text="CPU seconds", col=1)
    figure.update_xaxes(type="log", tickvals=replicas, title_text="replicas", col=2)
    figure.update_yaxes(rangemode="tozero", title_text="microseconds per request", col=2)
    figure.update_layout(template="plotly_white", height=420, width=1060, showlegend=False, margin={"t": 60})
    sentence = scaling_sentence(by_requests, by_replicas)
    chart = figure.to_html(full_html=False, include_plotlyjs=True)
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Growth of the simulator\'s time</title>'
        '<body style="font-family: system-ui, sans-serif; margin: 24px; max-width: 1060px">'
        f"<p>{escape(sentence)}</p>{chart}</body></html>\n",
        encoding="utf-8",
    )
    rows = {
        name: [{"requests": speed.requests, "replicas": speed.replicas, "seconds": speed.seconds} for speed in speeds]
        for name, speeds in (("by_requests", by_requests), ("by_replicas", by_replicas))
    }
    path.with_suffix(".json").write_text(
        json.dumps({"conclusion": sentence, **rows}, indent=2) + "\n", encoding="utf-8"
    )


def _add_growth(figure: go.Figure, column: int, sizes: Sequence[float], values: Sequence[float]) -> None:
    """The measured points, and the power law that fits them best."""
    slope, intercept = np.polyfit(np.log(sizes), np.log(values), 1)
    fitted = np.exp(intercept + slope * np.log(sizes))
    line = {"color": REFERENCE, "dash": "dash"}
    figure.add_trace(go.Scatter(x=sizes, y=fitted, mode="lines", line=line), row=1, col=column)
    points = go.Scatter(x=sizes, y=values, mode="markers", marker={"color": SERVED, "size": 9})
    figure.add_trace(points, row=1, col=column)
    figure.add_annotation(
        x=0.04, y=0.96, xref="x domain", yref="y domain", text=f"slope {slope:.2f} (log-log)", showarrow=False,
        row=1, col=column,
    )  # fmt: skip


def _by_requests(speeds: Sequence[Speed]) -> tuple[list[float], list[float]]:
    """Requests, and seconds for all of them."""
    return [float(speed.requests) for speed in speeds], [speed.seconds for speed in speeds]


def _by_replicas(speeds: Sequence[Speed]) -> tuple[list[float], list[float]]:
    """Replicas, and seconds of one request."""
    return [float(speed.replicas) for speed in speeds], [speed.seconds / speed.requests for speed in speeds]
