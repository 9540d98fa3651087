"""The charts of a trace's daily and weekly cycle."""

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from testbed.report import palette
from testbed.report.charts import Absent, Axis, Chart, Layer, Mark, NumberTable, Section, make_section
from testbed.report.number_text import NOTHING, percent, quantity
from testbed.report.panels import Floats
from testbed.report.time_bins import length

HOURS_OF_DAY, HOURS_OF_WEEK = 24, 168


def cycle_section(description: TraceDescription) -> Section:
    """The profile of the week (or of the day, of a shorter trace) of each service, and the autocorrelation."""
    profiles = [_profile_chart(label, traffic) for label, traffic in description.services.items()]
    return make_section(
        "Daily and weekly cycle",
        "Does the traffic repeat from day to day and from week to week, so that it can be planned for? A trace "
        "knows no calendar: days and hours count from its start.",
        *profiles,
        _autocorrelation_chart(description),
        tables={"Cycles": _cycle_table(description)},
    )


def _profile_chart(label: str, traffic: TrafficDescription) -> Chart | Absent:
    title = f"An average week of {label}"
    cycles, colour = traffic.periodicity, palette.SERVICES.get(label, palette.OFFERED)
    if cycles.hour_of_day is None or cycles.hour_of_week is None:
        return Absent(title, f"it takes a day or more, and the trace is {length(traffic.duration_s)} long")
    by_week = cycles.hours >= HOURS_OF_WEEK
    profile = cycles.hour_of_week if by_week else cycles.hour_of_day
    weeks = cycles.hours / (HOURS_OF_WEEK if by_week else HOURS_OF_DAY)
    hours = np.arange(len(profile) + 1, dtype=np.float64)
    if by_week:
        axis = Axis("hour of the week", ticks=tuple((24.0 * day, f"day {day + 1}") for day in range(7)), high=168.0)
    else:
        title = f"An average day of {label}"
        axis = Axis("hour of the day", ticks=tuple((float(hour), f"{hour}:00") for hour in range(0, 25, 4)), high=24.0)
    return Chart(
        key=f"profile-{label}",
        title=title,
        note=f"mean requests per hour, over {quantity(weeks, 2)} {'weeks' if by_week else 'days'}; dashed: the mean",
        caption=_profile_caption(traffic, profile, weeks),
        x=axis,
        y=Axis("requests per hour"),
        layers=(Layer("", colour, Mark.AREA, hours, np.append(profile, profile[-1])),),
        limits=(("", float(np.nanmean(profile))),),
        table=_profile_table(cycles.hour_of_day),
    )


def _profile_caption(traffic: TrafficDescription, profile: Floats, cycles: float) -> str:
    busiest, mean = float(np.nanmax(profile)), float(np.nanmean(profile))
    said = f"Its busiest hour has {quantity(busiest / mean, 2)} times the mean hour. " if mean > 0 else ""
    fraction = traffic.periodicity.weekly_fraction
    cycle = "hour of the week"
    if fraction is None:
        fraction, cycle = traffic.periodicity.daily_fraction, "hour of the day"
    if cycles < 2 or fraction is None:
        return said + "With less than two repetitions, this may be chance rather than a cycle."
    regular = "a forecast by the clock works" if fraction >= 0.5 else "most of the traffic does not follow the clock"
    return f"{said}The {cycle} explains {percent(fraction)} of how the hourly counts vary: {regular}."


def _autocorrelation_chart(description: TraceDescription) -> Chart | Absent:
    title = "Autocorrelation of the hourly counts"
    layers = []
    for label, traffic in description.services.items():
        values = traffic.periodicity.autocorrelation
        if values is not None and np.isfinite(values[1:]).sum() >= 2:
            lags = np.arange(1, len(values), dtype=np.float64)
            layers.append(Layer(label, palette.SERVICES.get(label, palette.OFFERED), Mark.LINE, lags, values[1:]))
    if not layers:
        return Absent(title, "it takes several hours whose counts differ")
    longest = max(float(layer.x[-1]) for layer in layers)
    step = 24 * max(1, round(longest / 24 / 7)) if longest > 48 else 6 if longest > 12 else 1
    ticks = tuple(
        (float(lag), f"{lag // 24} d" if step >= 24 else f"{lag} h") for lag in range(step, int(longest) + 1, step)
    )
    return Chart(
        key="autocorrelation",
        title=title,
        note="how like the traffic is to itself so many hours later",
        caption="1 = it repeats exactly, 0 = the one says nothing about the other. Peaks at whole days mean a daily "
        "cycle; a curve that falls within a few hours means bursts that end on their own.",
        x=Axis("lag", ticks=ticks, suffix=" h", low=0.0),
        y=Axis("correlation", low=min(-0.2, *(float(np.nanmin(layer.y)) for layer in layers)), high=1.0),
        layers=tuple(layers),
        limits=(("", 0.0),),
    )


def _cycle_table(description: TraceDescription) -> NumberTable:
    rows = [
        (
            label,
            _number(traffic.periodicity.at_24_h),
            _number(traffic.periodicity.at_168_h),
            percent(traffic.periodicity.daily_fraction),
            percent(traffic.periodicity.weekly_fraction),
        )
        for label, traffic in description.services.items()
        if traffic.periodicity.at_24_h is not None or traffic.periodicity.daily_fraction is not None
    ]
    columns = ("", "correlation a day later", "a week later", "explained by the hour of the day", "of the week")
    return NumberTable(columns, tuple(rows))


def _profile_table(hour_of_day: Floats) -> NumberTable:
    rows = tuple((f"{hour}:00", quantity(float(value))) for hour, value in enumerate(hour_of_day))
    return NumberTable(("hour of the day", "mean requests"), rows)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
