"""A chart as a Plotly figure and as the entries of its legend. Plain dictionaries, as plotly.js takes them."""

import math

import numpy as np

from testbed.report.axes import Json, log_ticks, round_ticks
from testbed.report.charts import Axis, Chart, HeatMap, Layer, Mark
from testbed.report.figures import LegendEntry, limit_line, limit_name, short_values
from testbed.report.palette import translucent

# Room for axis titles and tick labels, in pixels.
MARGIN = {"t": 14, "b": 46, "l": 68, "r": 18, "pad": 0}


def draw_chart(chart: Chart) -> Json:
    """The figure: `data` and `layout`."""
    data = [_trace(layer, chart) for layer in chart.layers]
    if chart.heat_map is not None:
        data.append(_heat_trace(chart.heat_map, chart))
    layout: Json = {
        "height": chart.height_pixels,
        "margin": MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#1b1f24", "bordercolor": "#1b1f24", "font": {"color": "#ffffff", "size": 12}},
        "dragmode": False,
        "bargap": 0.15,
        "font": {"family": "inherit", "size": 12},
        "xaxis": _axis(chart.x, *_extent(chart, of_x=True)) | {"ticks": "outside", "ticklen": 4, "tickangle": 0},
        "yaxis": _axis(chart.y, *_extent(chart, of_x=False)),
        "shapes": [limit_line(value, "y") for _, value in chart.limits],
        "annotations": [limit_name(label, value, "y", is_log=chart.y.is_log) for label, value in chart.limits],
    }
    return {"data": data, "layout": layout}


def legend(chart: Chart) -> tuple[LegendEntry, ...]:
    """The names of the layers; a lone one needs none, the title says it."""
    named = [
        LegendEntry(layer.label, layer.colour, layer.mark.value, place)
        for place, layer in enumerate(chart.layers)
        if layer.label
    ]
    return tuple(named) if len(named) > 1 else ()


def _trace(layer: Layer, chart: Chart) -> Json:
    trace: Json = {
        "name": layer.label,
        "x": short_values(layer.x),
        "y": short_values(layer.y),
        "hovertemplate": f"{layer.label}<br>{_hover(chart)}<extra></extra>".removeprefix("<br>"),
    }
    if layer.mark is Mark.BARS:
        return trace | {"type": "bar", "marker": {"color": translucent(layer.colour, 0.75), "line": {"width": 0}}}
    trace |= {"type": "scatter", "mode": "lines", "connectgaps": False}
    if layer.mark is Mark.POINTS:
        return trace | {"mode": "markers", "marker": {"color": layer.colour, "size": 5, "opacity": 0.8}}
    line: Json = {"color": layer.colour, "width": 1.8}
    if layer.mark is Mark.MARKED_LINE:
        trace |= {"mode": "lines+markers", "marker": {"color": layer.colour, "size": 5}}
    if layer.mark is Mark.DASHES:
        line |= {"dash": "dash", "width": 1.4}
    if layer.mark in (Mark.STEP, Mark.AREA):
        line |= {"shape": "hv"}
    if layer.mark is Mark.AREA:
        trace |= {"fill": "tozeroy", "fillcolor": translucent(layer.colour, 0.18)}
    return trace | {"line": line}


def _heat_trace(heat_map: HeatMap, chart: Chart) -> Json:
    """Darker is more; the scale is logarithmic, since a few cells hold most. Empty cells stay clear."""
    is_empty = heat_map.counts <= 0
    shade = np.where(is_empty, np.nan, np.log10(np.where(is_empty, 1.0, heat_map.counts)))
    return {
        "type": "heatmap",
        "x": short_values(heat_map.x_edges),
        "y": short_values(heat_map.y_edges),
        "z": [short_values(row) for row in shade],
        "customdata": heat_map.counts.astype(int).tolist(),
        "colorscale": [[0, translucent(heat_map.colour, 0.12)], [1, heat_map.colour]],
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": f"{_hover(chart)}<br>%{{customdata:,}} requests<extra></extra>",
    }


def _hover(chart: Chart) -> str:
    return f"{chart.x.title}: %{{x:,.4~g}}{chart.x.suffix}<br>{chart.y.title}: %{{y:,.4~g}}{chart.y.suffix}"


def _extent(chart: Chart, *, of_x: bool) -> tuple[float, float]:
    """The lowest and highest place on an axis that is drawn on; only what is above 0 where it is logarithmic."""
    axis = chart.x if of_x else chart.y
    places = [layer.x if of_x else layer.y for layer in chart.layers]
    if chart.heat_map is not None:
        places.append(chart.heat_map.x_edges if of_x else chart.heat_map.y_edges)
    if not of_x:
        places.append(np.array([value for _, value in chart.limits], dtype=np.float64))
    values = np.concatenate(places) if places else np.empty(0)
    values = values[np.isfinite(values) & ((values > 0) | (not axis.is_log))]
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)
    return (low if axis.low is None else axis.low), (high if axis.high is None else axis.high)


def _axis(axis: Axis, low: float, high: float) -> Json:
    drawn: Json = {
        "fixedrange": True,
        "title": {"text": axis.title, "standoff": 6},
        "zeroline": False,
        "showgrid": True,
        "ticks": "",
        "tickmode": "array",
    }
    if axis.is_log:
        places = [*log_ticks(low, high)]
        drawn |= {"type": "log", "range": [math.log10(low) - 0.03, math.log10(max(high, low * 1.01)) + 0.03]}
    else:
        bottom = axis.low if axis.low is not None else min(low, 0.0)
        top = max(high, bottom + 1e-9)
        places = _linear_ticks(bottom, top, whole=axis.is_count)
        drawn |= {"type": "linear", "range": [bottom, top + (0 if axis.high is not None else 0.05 * (top - bottom))]}
    ticks = axis.ticks or tuple((place, _name(place) + axis.suffix) for place in places)
    return drawn | {"tickvals": [place for place, _ in ticks], "ticktext": [name for _, name in ticks]}


def _name(place: float) -> str:
    """A number on an axis: '0.5', '1,000', '10 to the -5'."""
    if 0 < place < 0.001:
        return f"10<sup>{round(math.log10(place))}</sup>" if math.log10(place).is_integer() else ""
    return f"{place:,.6g}"


def _linear_ticks(bottom: float, top: float, *, whole: bool) -> list[float]:
    """Round numbers from `bottom` to `top`."""
    if bottom >= 0:
        return [place for place in round_ticks(top, whole=whole) if place >= bottom]
    step = round_ticks(max(top, -bottom), whole=False)[1]
    return [index * step for index in range(math.ceil(bottom / step), math.floor(top / step) + 1)]
