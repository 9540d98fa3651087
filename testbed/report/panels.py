"""The rows of the report's figure as plain numbers: what is drawn, in which unit, and what a row says about itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Shape(StrEnum):
    """How a series is drawn. In steps, a value holds from its instant to the next."""

    LINE = "line"
    STEP = "step"
    AREA = "area"  # a step with the ground under it filled
    STACK = "stack"  # steps on top of each other
    BARS = "bars"  # bars on top of each other
    POINTS = "points"
    FLOOR = "floor"  # the lower edge of a band; drawn as nothing
    BAND = "band"  # filled down to the series before it


class Unit(StrEnum):
    """What a value counts, so that it can be written for a person."""

    RATE = "rate"
    COUNT = "count"
    SECONDS = "seconds"
    FRACTION = "fraction"


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line, area or stack: f64[n] values at the f64[n] instants; NaN = nothing to show.

    `width_s` is the length of a bin where values belong to bins; `label` '' keeps it out of the legend.
    """

    label: str
    colour: str
    shape: Shape
    times_s: Floats
    values: Floats
    width_s: float | None = None
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time that is shaded in a row; one without length is drawn as a line.

    Attributes:
        label: what the key of the figure calls all that are like it.
        number: stands at its start; '' = nothing does.
    """

    label: str
    colour: str
    start_s: float
    end_s: float
    opacity: float
    number: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One row of the figure.

    Attributes:
        axis: title of the vertical axis, with its unit.
        note: what one point stands for, in a few words.
        limits: horizontal dashed lines: (label, value).
        bands: what is shaded behind the series; None = what is shaded in all rows.
    """

    title: str
    axis: str
    note: str
    unit: Unit
    series: tuple[Series, ...]
    height_pixels: int = 120
    is_log: bool = False
    top: float | None = None
    limits: tuple[tuple[str, float], ...] = ()
    bands: tuple[Band, ...] | None = None


def promises_in(promises_s: Mapping[str, float], lowest_s: float, highest_s: float) -> tuple[tuple[str, float], ...]:
    """Limits for promised latencies, by service, that lie near values between these; equal ones are one line."""
    by_value: dict[float, list[str]] = {}
    for label, promise_s in promises_s.items():
        if 0.5 * lowest_s < promise_s < 1.5 * highest_s:
            by_value.setdefault(promise_s, []).append(label)
    return tuple((f"promised to {' and '.join(labels)}", promise_s) for promise_s, labels in by_value.items())


def until_end(starts_s: Floats, values: Floats, end_s: float) -> tuple[Floats, Floats]:
    """Steps with the last one drawn out to `end_s`."""
    if not len(starts_s):
        return starts_s, values
    return np.append(starts_s, max(end_s, float(starts_s[-1]))), np.append(values, values[-1])


def steps_with_gaps(starts_s: Floats, values: Floats, end_s: float) -> tuple[Floats, Floats]:
    """Steps that end where a gap begins: a line that only begins there would not be seen."""
    times_s, values = until_end(starts_s, values, end_s)
    is_gap = np.isnan(values[1:]) & ~np.isnan(values[:-1])
    places = np.flatnonzero(is_gap) + 1
    return np.insert(times_s, places, times_s[places]), np.insert(values, places, values[places - 1])


def steps_of_bins(label: str, colour: str, shape: Shape, values: Floats, bin_s: float, end_s: float) -> Series:
    """Values of bins from 0 on as steps. The last one counts as whole, or a sliver of it would look like a burst."""
    starts_s = np.arange(len(values), dtype=np.float64) * bin_s
    return Series(label, colour, shape, *until_end(starts_s, values, end_s), bin_s)
