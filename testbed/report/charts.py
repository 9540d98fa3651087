"""Small charts with axes of their own as plain numbers: what is drawn, what it means, and the same as a table."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from loadgen.statistics.spread import Histogram
from testbed.report.panels import Floats
from testbed.report.time_bins import DAY_S, HOUR_S, MINUTE_S

Ticks = tuple[tuple[float, str], ...]
# Lengths that a person can name, for logarithmic axes.
NAMED_LENGTHS: Ticks = (
    (0.001, "1 ms"),
    (0.01, "10 ms"),
    (0.1, "0.1 s"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (MINUTE_S, "1 min"),
    (10 * MINUTE_S, "10 min"),
    (HOUR_S, "1 h"),
    (6 * HOUR_S, "6 h"),
    (DAY_S, "1 day"),
    (7 * DAY_S, "1 week"),
)
# More of them, where there is room.
BETWEEN: Ticks = (
    (0.003, "3 ms"),
    (0.03, "30 ms"),
    (0.3, "0.3 s"),
    (3.0, "3 s"),
    (30.0, "30 s"),
    (3 * MINUTE_S, "3 min"),
    (30 * MINUTE_S, "30 min"),
    (2 * HOUR_S, "2 h"),
    (12 * HOUR_S, "12 h"),
    (3 * DAY_S, "3 days"),
)
FEW_TICKS = 4


class Mark(StrEnum):
    """How a layer is drawn; the value is the class of its mark in the legend."""

    LINE = "line"
    STEP = "step"  # a value holds from its place to the next
    AREA = "area"  # a step with the ground under it filled
    DASHES = "dashes"
    POINTS = "points"
    MARKED_LINE = "marked"  # a line with its points
    BARS = "bars"


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """f64[n] values over f64[n] places; NaN = nothing to show. An empty label keeps it out of the legend."""

    label: str
    colour: str
    mark: Mark
    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Counts f64[rows, columns] between edges f64[rows + 1] upward and f64[columns + 1] to the right."""

    colour: str
    x_edges: Floats
    y_edges: Floats
    counts: Floats


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title with the unit, and how places on it are named.

    Attributes:
        ticks: (place, name) of each; None = round numbers.
        low, high: what it spans; None = as far as the values reach (from 0 where it is not logarithmic).
        suffix: what follows a number: ' %'.
        is_count: between whole numbers there is nothing to mark.
    """

    title: str
    is_log: bool = False
    ticks: Ticks | None = None
    low: float | None = None
    high: float | None = None
    suffix: str = ""
    is_count: bool = False


@dataclass(frozen=True, slots=True)
class NumberTable:
    """A chart's numbers: the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """One chart.

    Attributes:
        key: names it in the page.
        note: what is counted, in a few words.
        caption: what it means, for somebody who has not seen such a chart.
        limits: horizontal dashed lines: (label, value).
        table: the numbers behind it, or the most telling ones.
    """

    key: str
    title: str
    note: str
    caption: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...] = ()
    heat_map: HeatMap | None = None
    limits: tuple[tuple[str, float], ...] = ()
    table: NumberTable | None = None
    height_pixels: int = 300


@dataclass(frozen=True, slots=True)
class Absent:
    """A chart that has nothing to show, and why."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Section:
    """Charts that belong together, with a sentence or two for all of them, and numbers that no chart shows."""

    title: str
    hint: str
    charts: tuple[Chart, ...]
    absent: tuple[Absent, ...]
    tables: tuple[tuple[str, NumberTable], ...] = ()


def make_section(
    title: str, hint: str, *charts: Chart | Absent, tables: dict[str, NumberTable] | None = None
) -> Section:
    """A section of what can be drawn, which says what cannot."""
    return Section(
        title,
        hint,
        tuple(chart for chart in charts if isinstance(chart, Chart)),
        tuple(chart for chart in charts if isinstance(chart, Absent)),
        tuple((tables or {}).items()),
    )


def length_axis(title: str, low_s: float, high_s: float) -> Axis:
    """A logarithmic axis of lengths of time, with names that a person uses."""
    ticks = tuple(tick for tick in NAMED_LENGTHS if low_s * 0.99 <= tick[0] <= high_s * 1.01)
    if len(ticks) < FEW_TICKS:
        ticks = tuple(tick for tick in sorted(NAMED_LENGTHS + BETWEEN) if low_s * 0.99 <= tick[0] <= high_s * 1.01)
    return Axis(title, is_log=True, ticks=ticks if len(ticks) > 1 else None, suffix=" s")


def shares_per_step(histogram: Histogram) -> Floats:
    """Percent of the values per 10 % of the value, so that bins of different width compare on a logarithmic axis."""
    steps = np.log(histogram.edges[1:] / histogram.edges[:-1]) / math.log(1.1)
    shares: Floats = 100 * histogram.counts / histogram.counts.sum() / steps
    return shares
