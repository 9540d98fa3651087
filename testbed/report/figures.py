"""Panels as one Plotly figure: rows under each other on one time axis, with room above each for its legend.

Plain dictionaries, as plotly.js takes them.
"""

import math
from dataclasses import dataclass

from testbed.report.axes import START_MS, Json, axis_ms, time_axis, time_axis_on_top, value_axis
from testbed.report.palette import REFERENCE, translucent
from testbed.report.panels import Band, Floats, Panel, Series, Shape, Unit

HEADER_PIXELS = 58
TOP_PIXELS, BOTTOM_PIXELS, LEFT_PIXELS, RIGHT_PIXELS = 26, 44, 74, 16
SIGNIFICANT_DIGITS = 4
# Of a point, in pixels: smaller where there are many.
POINT_PIXELS, SMALL_POINT_PIXELS, MANY_POINTS = 5, 3, 300


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
    """The figure (`data`, `layout`), how to read a value from each trace, the headers, and the key to what is shaded.

    The key has (label, colour).
    """

    figure: Json
    readouts: list[Json]
    headers: tuple[Header, ...]
    height_pixels: int
    key: tuple[tuple[str, str], ...] = ()


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
        "xaxis": time_axis(duration_s, len(panels)),
        "xaxis2": time_axis_on_top(duration_s),
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
        layout[f"yaxis{row}"] = value_axis(panel, domain)
        headers.append(_header(panel, TOP_PIXELS + above, len(data)))
        data.extend(_trace(series, row) for series in panel.series)
        readouts.extend(_readout(series, panel.unit) for series in panel.series)
        layout["shapes"].extend(_shading(band, row) for band in panel.bands or ())
        if row == 1:
            layout["annotations"].extend(_band_number(band) for band in panel.bands or () if band.number)
        for label, value in panel.limits:
            layout["shapes"].append(limit_line(value, axis_name(row)))
            layout["annotations"].append(limit_name(label, value, axis_name(row), is_log=panel.is_log))
        above = top + panel.height_pixels
    key = {band.label: translucent(band.colour, 2 * band.opacity) for panel in panels for band in panel.bands or ()}
    return Timeline({"data": data, "layout": layout}, readouts, tuple(headers), height, tuple(key.items()))


def _shading(band: Band, row: int) -> Json:
    """A band behind a row, with an edge that shows also where the band is narrower than a pixel."""
    colour = translucent(band.colour, band.opacity)
    place: Json = {"xref": "x", "yref": f"{axis_name(row)} domain", "y0": 0, "y1": 1, "layer": "below"}
    place |= {"x0": axis_ms(band.start_s), "x1": axis_ms(band.end_s)}
    if band.end_s > band.start_s:
        return {"type": "rect", "fillcolor": colour, "line": {"width": 0.5, "color": colour}} | place
    return {"type": "line", "line": {"width": 1.5, "color": translucent(band.colour, 4 * band.opacity)}} | place


def _band_number(band: Band) -> Json:
    """The number of a band at its start, in the first row."""
    place: Json = {"x": axis_ms(band.start_s), "xref": "x", "xanchor": "left", "y": 1, "yref": "y domain"}
    return place | {"yanchor": "top", "text": band.number, "showarrow": False, "font": {"size": 11}}


def axis_name(row: int) -> str:
    """As plotly.js calls the vertical axis of a row, the first of which is 1."""
    return "y" if row == 1 else f"y{row}"


def _trace(series: Series, row: int) -> Json:
    place: Json = {"xaxis": "x", "yaxis": f"y{row}", "hoverinfo": "skip", "name": series.label}
    points: Json = {"x": [axis_ms(time_s) for time_s in series.times_s.tolist()], "y": short_values(series.values)}
    if series.shape is Shape.BARS:
        width_ms = (series.width_s or 1.0) * 1000
        return (
            {"type": "bar", "width": width_ms, "marker": {"color": series.colour, "line": {"width": 0}}}
            | place
            | points
        )
    if series.shape is Shape.POINTS:
        size = POINT_PIXELS if len(series.values) <= MANY_POINTS else SMALL_POINT_PIXELS
        marker = {"color": series.colour, "size": size, "opacity": series.opacity, "line": {"width": 0}}
        return {"type": "scatter", "mode": "markers", "marker": marker} | place | points
    is_line = series.shape in (Shape.LINE, Shape.FLOOR, Shape.BAND)
    trace: Json = {
        "type": "scatter",
        "mode": "lines",
        "line": {"color": series.colour, "width": _line_width(series.shape), "shape": "linear" if is_line else "hv"},
        "connectgaps": False,
    }
    if series.shape is Shape.AREA:
        trace |= {"fill": "tozeroy", "fillcolor": translucent(series.colour, 0.22)}
    if series.shape is Shape.STACK:
        trace |= {"stackgroup": f"row{row}", "fillcolor": translucent(series.colour, 0.6)}
    if series.shape is Shape.BAND:
        trace |= {"fill": "tonexty", "fillcolor": translucent(series.colour, series.opacity)}
    return trace | place | points


def _line_width(shape: Shape) -> float:
    if shape in (Shape.FLOOR, Shape.BAND):
        return 0
    return 1 if shape in (Shape.AREA, Shape.STACK) else 1.8


def _readout(series: Series, unit: Unit) -> Json:
    """How the page finds and writes the value at an instant."""
    holds = series.shape in (Shape.STEP, Shape.AREA, Shape.STACK)
    width_s = series.width_s if series.width_s is not None else 0.0
    return {"find": "before" if holds else "nearest", "unit": unit.value, "within_ms": width_s * 1000}


def short_values(values: Floats) -> list[float | None]:
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


def limit_line(value: float, axis: str) -> Json:
    """A dashed line across the figure at a value of the y axis `axis`."""
    line = {"width": 1.2, "dash": "dash", "color": REFERENCE}
    return {"type": "line", "xref": "paper", "yref": axis, "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def limit_name(label: str, value: float, axis: str, *, is_log: bool) -> Json:
    """What such a line is called, at its right end."""
    return {
        "text": label,
        "xref": "paper",
        "yref": axis,
        "x": 1,
        "y": math.log10(value) if is_log else value,
        "xanchor": "right",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
        "bgcolor": "#ffffff",
    }
