"""The axes of the figure: what they span, where their ticks are, and how a tick is written.

Time is a date axis, since that gives ticks at round minutes and hours at every zoom; the run starts at the first of a
January (UTC), and the labels show the time since then.
"""

import math
from typing import Any

import numpy as np

from testbed.report.panels import Panel, Shape, Unit
from testbed.report.time_bins import DAY_S, HOUR_S

Json = dict[str, Any]
# 2001-01-01. Not 1970: plotly.js takes a number of up to four digits for a year.
START_MS = 978_307_200_000
MOST_TICKS = 5


def axis_ms(time_s: float) -> int:
    """An instant of the run on the axis."""
    return START_MS + round(time_s * 1000)


def time_axis(duration_s: float, rows: int) -> Json:
    """The axis of all rows, with its labels under the last one."""
    return _clock_axis(duration_s) | {
        "range": [START_MS, axis_ms(max(duration_s, 1.0))],
        "minallowed": START_MS,
        "maxallowed": axis_ms(max(duration_s, 1.0)),
        "anchor": f"y{rows}",
        "domain": [0, 1],
        "title": {"text": f"time since the start ({_clock_unit(duration_s)})", "standoff": 6},
        "showgrid": True,
        "ticks": "outside",
        "ticklen": 4,
    }


def time_axis_on_top(duration_s: float) -> Json:
    """The same labels over the first row, so that the upper half of a long page has them too."""
    return _clock_axis(duration_s) | {
        "matches": "x",
        "side": "top",
        "anchor": "free",
        "position": 1,
        "showgrid": False,
    }


def _clock_axis(duration_s: float) -> Json:
    day = "day %-j, " if duration_s >= DAY_S else ""
    seconds = "%-M:%S" if duration_s < HOUR_S else f"{day}%-H:%M:%S"
    minutes = "%-M:%S" if duration_s < HOUR_S else f"{day}%-H:%M"
    return {
        "type": "date",
        "zeroline": False,
        "nticks": 7 if day else 10,
        "tickformatstops": [
            {"dtickrange": [None, 999], "value": f"{seconds}.%L"},
            {"dtickrange": [1000, 59_999], "value": seconds},
            {"dtickrange": [60_000, 86_399_999], "value": minutes},
            {"dtickrange": [86_400_000, None], "value": "day %-j"},
        ],
    }


def _clock_unit(duration_s: float) -> str:
    if duration_s < HOUR_S:
        return "m:ss"
    return "h:mm" if duration_s < DAY_S else "day, h:mm"


def value_axis(panel: Panel, domain: list[float]) -> Json:
    """A row's own axis; `domain` is its place in the drawing, 0..1 from below."""
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
    """0 and at most five round numbers up to `high`, at least one above 0; whole numbers where things are counted."""
    if not high > 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(high / MOST_TICKS))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10, 20) if high / (magnitude * factor) <= MOST_TICKS)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    return [index * step for index in range(max(1, math.floor(high / step)) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around [low, high]; with 3, 30, 300 between where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 3) if len(powers) < MOST_TICKS else (1,)
    return [step * 10.0**power for power in powers for step in steps]


def format_tick(value: float, unit: Unit) -> str:
    """A value as the axis shows it: '250 ms', '10 s', '50 %', '1,200'."""
    if unit is Unit.SECONDS:
        return f"{value * 1000:g} ms" if 0 < value < 1 else f"{value:g} s"
    if unit is Unit.FRACTION:
        return f"{value * 100:g}"
    return f"{value:,.12g}"
