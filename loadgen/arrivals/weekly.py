"""Arrivals with the rhythm of a week: people at work, at home, asleep."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from loadgen.arrivals.piecewise import Floats, PiecewiseLinear
from loadgen.arrivals.renewal import draw_renewal
from loadgen.arrivals.schedule import Value, over_time
from loadgen.strict_config import NonNegative, StrictModel

_HOUR_S = 3600.0
DAY_S = 86400.0
_DAYS, _HOURS = 7, 24

_HourWeights = Annotated[tuple[NonNegative, ...], Field(min_length=_HOURS, max_length=_HOURS)]


class HourOfWeek(StrictModel):
    """How much of a week's traffic falls in each of its hours; only proportions matter.

    An hour's share is its day's share of the week times the hour's share of such a day. 7 + 2 x 24 numbers instead of
    168, which a few weeks of counts do not tell apart from noise.

    Attributes:
        day_weights: one per day, the first for the day on which the model's time begins, at 0:00.
        days_off: those days, counted from 0, that go by `day_off_hour_weights`.
        workday_hour_weights, day_off_hour_weights: one per hour of the day.
    """

    day_weights: Annotated[tuple[NonNegative, ...], Field(min_length=_DAYS, max_length=_DAYS)]
    days_off: tuple[Annotated[int, Field(ge=0, lt=_DAYS)], ...] = ()
    workday_hour_weights: _HourWeights
    day_off_hour_weights: _HourWeights

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        for name in ("day_weights", "workday_hour_weights", "day_off_hour_weights"):
            if not sum(getattr(self, name)) > 0:
                raise ValueError(f"{name} are all 0; want at least one above")
        return self

    def relative_rates(self) -> Floats:
        """The rate in each hour of the week over the week's mean rate, f64[168]."""
        workday, day_off = (
            np.array(hours) / np.mean(hours) for hours in (self.workday_hour_weights, self.day_off_hour_weights)
        )
        days = np.array(self.day_weights) / np.mean(self.day_weights)
        return np.concatenate([days[day] * (day_off if day in self.days_off else workday) for day in range(_DAYS)])


class WeeklyArrivals(StrictModel):
    """A rate that repeats every week, at a level that may change over the weeks.

    Attributes:
        per_day: arrivals a day, in the mean over a week.
        profile: the rhythm of the week.
        alpha: shape of the gaps: 1 = Poisson, smaller = burstier.
    """

    process: Literal["weekly"]
    per_day: Value
    profile: HourOfWeek
    alpha: Annotated[float, Field(ge=0.01, le=1e4)] = 1.0


def draw_weekly(process: WeeklyArrivals, start_s: float, end_s: float, rng: np.random.Generator) -> Floats:
    """Draw the arrival times (s, sorted) in [start_s, end_s)."""
    rate_per_s = weekly_rate(process.per_day, process.profile, start_s, end_s)
    return draw_renewal(rate_per_s, over_time(process.alpha, start_s, end_s), rng)


def expected_weekly(process: WeeklyArrivals, start_s: float, end_s: float) -> float:
    """The mean number of arrivals in [start_s, end_s).

    Raises:
        ValueError: `per_day` falls below 0 in that span.
    """
    return float(weekly_rate(process.per_day, process.profile, start_s, end_s).integral()[-1])


def weekly_rate(per_day: Value, profile: HourOfWeek | None, start_s: float, end_s: float) -> PiecewiseLinear:
    """The rate (1/s) over a span, in pieces of an hour at most; without a profile all hours are alike.

    Raises:
        ValueError: `per_day` falls below 0.
    """
    level = over_time(per_day, start_s, end_s)
    lowest = float(min(level.left.min(), level.right.min()))
    if lowest < 0:
        raise ValueError(f"per_day falls to {lowest:g}; want at least 0 at all times")
    first, last = int(start_s // _HOUR_S) + 1, int(np.ceil(end_s / _HOUR_S))
    edges_s = np.union1d(level.edges_s, _HOUR_S * np.arange(first, last))
    level = level.split_at(edges_s)
    hour = ((edges_s[:-1] + edges_s[1:]) / 2 // _HOUR_S).astype(np.int64)
    relative = np.ones(_DAYS * _HOURS) if profile is None else profile.relative_rates()
    factor = relative[hour % len(relative)] / DAY_S
    return PiecewiseLinear(edges_s, level.left * factor, level.right * factor)
