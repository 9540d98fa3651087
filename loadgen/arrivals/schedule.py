"""A parameter of a workload model: a constant, or a schedule by which it changes with time."""

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from loadgen.arrivals.piecewise import PiecewiseLinear
from loadgen.strict_config import Positive, StrictModel

CURVE_PIECES = 200  # a curve is drawn as so many straight lines: within 1/200**2 of its range

Instant = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Point(StrictModel):
    """A value at an instant of the model's time."""

    at_s: Instant
    value: FiniteFloat


class Schedule(StrictModel):
    """A value over time: before the first point it is the first value, after the last point the last.

    steps: each value holds until the next point. linear: the straight line between two points. quadratic: the
    parabola through three points. piecewise: straight lines from each point to the next.
    """

    interpolation: Literal["steps", "linear", "quadratic", "piecewise"]
    points: Annotated[tuple[Point, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        times = [point.at_s for point in self.points]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"points are at {times} s; want them in order of time, each instant once")
        wanted = {"linear": 2, "quadratic": 3}.get(self.interpolation, len(times))
        if len(times) != wanted:
            raise ValueError(f"a {self.interpolation} schedule goes through {wanted} points, got {len(times)}")
        return self


def _kind_of_value(value: object) -> str:
    """A mapping is meant as a schedule, all else as a number: so an error is told for what was meant."""
    return "schedule" if isinstance(value, (dict, Schedule)) else "constant"


Value = Annotated[
    Annotated[Positive, Tag("constant")] | Annotated[Schedule, Tag("schedule")], Discriminator(_kind_of_value)
]


def over_time(value: Value, start_s: float, end_s: float) -> PiecewiseLinear:
    """The constant or the schedule on [start_s, end_s)."""
    if not isinstance(value, Schedule):
        return PiecewiseLinear(np.array([start_s, end_s]), np.array([value]), np.array([value]))
    at_s = np.array([point.at_s for point in value.points])
    values = np.array([point.value for point in value.points])
    within_s = at_s[(at_s > start_s) & (at_s < end_s)]
    if value.interpolation == "quadratic":
        within_s = np.union1d(within_s, np.linspace(start_s, end_s, CURVE_PIECES + 1)[1:-1])
    edges_s = np.concatenate([[start_s], within_s, [end_s]])
    if value.interpolation == "steps":
        held = values[np.maximum(np.searchsorted(at_s, edges_s[:-1], side="right") - 1, 0)]
        return PiecewiseLinear(edges_s, held, held)
    if value.interpolation == "quadratic":
        parabola = np.polyfit(at_s - at_s[0], values, 2)
        corners = np.polyval(parabola, np.clip(edges_s, at_s[0], at_s[-1]) - at_s[0])
    else:
        corners = np.interp(edges_s, at_s, values)
    return PiecewiseLinear(edges_s, corners[:-1], corners[1:])
