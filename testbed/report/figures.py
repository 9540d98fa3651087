"""Panels as one Plotly figure: rows under each other on one time axis, with room above each for its legend.

Plain dictionaries, as plotly.js takes them. Time is a date axis, since that gives ticks at round minutes and hours at
every zoom; the run starts at the first of a January (UTC), and the labels show the time since then.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.report.palette import translucent
from testbed.report.panels import Floats, Panel, Series, Shape, Unit
from testbed.report.time_bins import HOUR_S

HEADER_PIXELS = 58
TOP_PIXELS, BOTTOM_PIXELS, LEFT_PIXELS, RIGHT_PIXELS = 26, 44, 74, 16
SIGNIFICANT_DIGITS = 4
MOST_TICKS = 4
# 2001-01-01. Not 1970: plotly.js takes a number of up to four digits for a year.
START_MS = 978_307_200_000
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One name in the legend of a panel; `trace` is the number of its trace in the figure."""

    label: str
    colour: str
    shape: str
    trace: int


@dataclass(frozen=True, slots=True)
class Header:
    """What stands above a panel, `top_pixels` under the top of the figure."""

    title: str
    note: str
    top_pixels: int
    entries: tuple[LegendEntry, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The figure (`data`, `layout`), how to read a value from each trace, and the headers."""

    figure: Json
    readouts: list[Json]
    headers: tuple[Header, ...]
    height_pixels: int


def draw_timeline(panels: list[Panel], duration_s: float) -> Timeline:
    """Stack the panels on one time axis that spans the run."""
    height = TOP_PIXELS + BOTTOM_PIXELS + sum(HEADER_PIXELS + panel.height_pixels for panel in panels)
    drawing = height - TOP_PIXELS - BOTTOM_PIXELS
    layout: Json = {
        "height": height,
        "margin": {"t": TOP_PIXELS, "b": BOTTOM_PIXELS, "l": LEFT_PIXELS, "r": RIGHT_PIXELS, "pad": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": False,
        "barmode": "stack",
        "bargap": 0,
        "font": {"family": "inherit", "size": 12},
        "xaxis": _time_axis(duration_s, len(panels)),
        "xaxis2": _time_axis_on_top(duration_s),
        "shapes": [],
        "annotations": [],
    }
    # plotly.js draws an axis only where a trace lies on it.
    data: list[Json] = [{"type": "scatter", "x": [START_MS], "y": [None], "xaxis": "x2", "yaxis": "y"}]
    readouts: list[Json] = [{}]
    headers = []
    above = 0
    for row, panel in enumerate(panels, start=1):
        top = above + HEADER_PIXELS
        domain = [1 - (top + panel.height_pixels) / drawing, 1 - top / drawing]
        layout[f"yaxis{row}"] = _value_axis(panel, domain)
        headers.append(_header(panel, TOP_PIXELS + above, len(data)))
        data.extend(_trace(series, row) for series in panel.series)
        readouts.extend(_readout(series, panel.unit) for series in panel.series)
        _draw_limits(layout, panel, row)
        above = top + panel.height_pixels
    return Timeline({"data": data, "layout": layout}, readouts, tuple(headers), height)


def _time_axis(duration_s: float, rows: int) -> Json:
    return _clock_axis(duration_s) | {
        "range": [START_MS, _axis_ms(max(duration_s, 1.0))],
        "minallowed": START_MS,
        "maxallowed": _axis_ms(max(duration_s, 1.0)),
        "anchor": f"y{rows}",
        "domain": [0, 1],
        "title": {"text": f"time since the start ({'m:ss' if duration_s < HOUR_S else 'h:mm'})", "standoff": 6},
        "showgrid": True,
        "ticks": "outside",
        "ticklen": 4,
    }


def _time_axis_on_top(duration_s: float) -> Json:
    """The same labels over the first row, so that the upper half of a long page has them too."""
    return _clock_axis(duration_s) | {
        "matches": "x",
        "side": "top",
        "anchor": "free",
        "position": 1,
        "showgrid": False,
    }


def _clock_axis(duration_s: float) -> Json:
    clock = "%-M:%S" if duration_s < HOUR_S else "%-H:%M:%S"
    return {
        "type": "date",
        "zeroline": False,
        "nticks": 10,
        "tickformatstops": [
            {"dtickrange": [None, 999], "value": f"{clock}.%L"},
            {"dtickrange": [1000, 59_999], "value": clock},
            {"dtickrange": [60_000, 86_399_999], "value": clock if duration_s < HOUR_S else "%-H:%M"},
            {"dtickrange": [86_400_000, None], "value": "day %-j"},
        ],
    }


def _value_axis(panel: Panel, domain: list[float]) -> Json:
    axis: Json = {
        "domain": domain,
        "anchor": "x",
        "fixedrange": True,
        "title": {"text": panel.axis, "standoff": 4},
        "zeroline": False,
        "showgrid": True,
        "tickmode": "array",
    }
    low, high = _extent(panel)
    if panel.is_log:
        ticks = log_ticks(low, high)
        axis |= {"type": "log", "range": [math.log10(low * 0.8), math.log10(high * 1.25)]}
    else:
        ticks = round_ticks(high, whole=panel.unit is Unit.COUNT)
        axis |= {"type": "linear", "range": [0, max(high * 1.06, ticks[1])]}
    return axis | {"tickvals": ticks, "ticktext": [format_tick(tick, panel.unit) for tick in ticks]}


def _extent(panel: Panel) -> tuple[float, float]:
    """The lowest and highest value to make room for. A far upper quantile may run out of the picture."""
    stacked = [series.values for series in panel.series if series.shape in (Shape.STACK, Shape.BARS)]
    plain = [series.values for series in panel.series if series.shape not in (Shape.STACK, Shape.BARS, Shape.BAND)]
    bands = [series.values for series in panel.series if series.shape is Shape.BAND]
    if stacked:
        plain.append(np.nansum(stacked, axis=0))
    plain.append(np.array([limit for _, limit in panel.limits]))
    values = np.concatenate(plain)
    values = values[np.isfinite(values)]
    high = float(values.max()) if len(values) else 0.0
    positive = values[values > 0]
    low = float(positive.min()) if len(positive) else 0.001
    if bands:
        high = max(high, min(float(np.nanmax(bands)), 2 * high)) if high else float(np.nanmax(bands))
    return low, max(high, low)


def round_ticks(high: float, *, whole: bool) -> list[float]:
    """0 and at most four round numbers up to `high`, at least one above 0; whole numbers where things are counted."""
    if not high > 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(high / MOST_TICKS))
    step = next(magnitude * factor for factor in (1, 2, 5, 10, 20) if high / (magnitude * factor) <= MOST_TICKS)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    return [index * step for index in range(max(1, math.floor(high / step)) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around [low, high]; with 3, 30, 300 between where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 3) if len(powers) <= MOST_TICKS else (1,)
    return [step * 10.0**power for power in powers for step in steps]


def format_tick(value: float, unit: Unit) -> str:
    """A value as the axis shows it: '250 ms', '10 s', '50 %', '1,200'."""
    if unit is Unit.SECONDS:
        return f"{value * 1000:g} ms" if 0 < value < 1 else f"{value:g} s"
    if unit is Unit.FRACTION:
        return f"{value * 100:g}"
    return f"{value:,.12g}"


def _trace(series: Series, row: int) -> Json:
    place: Json = {"xaxis": "x", "yaxis": f"y{row}", "hoverinfo": "skip", "name": series.label}
    points: Json = {"x": [_axis_ms(time_s) for time_s in series.times_s.tolist()], "y": _short(series.values)}
    if series.shape is Shape.BARS:
        width_ms = (series.width_s or 1.0) * 1000
        return (
            {"type": "bar", "width": width_ms, "marker": {"color": series.colour, "line": {"width": 0}}}
            | place
            | points
        )
    is_line = series.shape in (Shape.LINE, Shape.FLOOR, Shape.BAND)
    trace: Json = {
        "type": "scatter",
        "mode": "lines",
        "line": {"color": series.colour, "width": _line_width(series.shape), "shape": "linear" if is_line else "hv"},
        "connectgaps": False,
    }
    if series.dash:
        trace["line"]["dash"] = series.dash
    if series.shape is Shape.AREA:
        trace |= {"fill": "tozeroy", "fillcolor": translucent(series.colour, 0.22)}
    if series.shape is Shape.STACK:
        trace |= {"stackgroup": f"row{row}", "fillcolor": translucent(series.colour, 0.6)}
    if series.shape is Shape.BAND:
        trace |= {"fill": "tonexty", "fillcolor": translucent(series.colour, series.opacity)}
    return trace | place | points


def _axis_ms(time_s: float) -> int:
    return START_MS + round(time_s * 1000)


def _line_width(shape: Shape) -> float:
    if shape in (Shape.FLOOR, Shape.BAND):
        return 0
    return 1 if shape in (Shape.AREA, Shape.STACK) else 1.8


def _readout(series: Series, unit: Unit) -> Json:
    """How the page finds and writes the value at an instant."""
    holds = series.shape in (Shape.STEP, Shape.AREA, Shape.STACK)
    width_s = series.width_s if series.width_s is not None else 0.0
    return {"find": "before" if holds else "nearest", "unit": unit.value, "within_ms": width_s * 1000}


def _short(values: Floats) -> list[float | None]:
    """Four significant digits, so that a page stays small; None where there is nothing."""
    return [float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None for value in values.tolist()]


def _header(panel: Panel, top: int, first_trace: int) -> Header:
    entries = tuple(
        LegendEntry(series.label, translucent(series.colour, _ink(series)), series.shape.value, first_trace + index)
        for index, series in enumerate(panel.series)
        if series.label
    )
    # What a band spreads around is named before its edges.
    edges = (Shape.FLOOR, Shape.BAND)
    return Header(panel.title, panel.note, top, tuple(sorted(entries, key=lambda entry: entry.shape in edges)))


def _ink(series: Series) -> float:
    """How strong a name's colour mark is: paler for a paler band, but never too pale to see."""
    return min(2 * series.opacity + 0.15, 1.0) if series.shape in (Shape.BAND, Shape.FLOOR) else 1.0


def _draw_limits(layout: Json, panel: Panel, row: int) -> None:
    for label, value in panel.limits:
        layout["shapes"].append(
            {
                "type": "line",
                "xref": "paper",
                "yref": f"y{row}",
                "x0": 0,
                "x1": 1,
                "y0": value,
                "y1": value,
                "line": {"width": 1.2, "dash": "dash", "color": "#8a9099"},
            }
        )
        layout["annotations"].append(
            {
                "text": label,
                "xref": "paper",
                "yref": f"y{row}",
                "x": 1,
                "y": math.log10(value) if panel.is_log else value,
                "xanchor": "right",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11},
            }
        )
