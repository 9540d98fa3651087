"""The failures of a trace: their share over time, and the hours and days that stick out, by service."""

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.failures import FailureOutliers
from testbed.report import palette
from testbed.report.charts import NumberTable, Section, make_section
from testbed.report.number_text import failure_percent, quantity
from testbed.report.panels import Panel, Series, Shape, Unit, steps_of_bins
from testbed.report.time_bins import DAY_S, length, moment

# A failed share of fewer requests says little.
LEAST_REQUESTS = 20
MOST_BINS = 400
MOST_PERIODS = 10

Found = list[tuple[str, FailureOutliers]]


def failure_panel(description: TraceDescription) -> Panel | str:
    """The failed share of each service's requests, with the hours that stick out."""
    if not description.all.failures:
        return "no request failed in the recorded system"
    is_lone = len(description.services) == 1
    line = description.all.timeline
    together = -(-len(line.requests) // MOST_BINS)
    series = []
    for label, traffic in description.services.items():
        share = _failed_share(traffic, together)
        if np.isfinite(share).any():
            colour = palette.FAILED if is_lone else palette.SERVICES.get(label, palette.OFFERED)
            shape = Shape.AREA if is_lone else Shape.STEP
            name = "failed" if is_lone else label
            series.append(steps_of_bins(name, colour, shape, share, line.bin_s * together, traffic.duration_s))
    worst = [(period, found.period_s) for _, found in _outliers(description, by_day=False) for period in found.worst]
    if worst:
        at_s = np.array([period.start_s + period_s / 2 for period, period_s in worst])
        fractions = np.array([period.failed_fraction for period, _ in worst])
        name = "hour far above the usual"
        series.append(Series(name, palette.STARTING, Shape.POINTS, at_s, fractions, worst[0][1]))
    if not series:
        return f"there are never {LEAST_REQUESTS} requests together to take a share of"
    note = f"share of requests, per {length(line.bin_s * together)} with {LEAST_REQUESTS} or more"
    return Panel("Failures", "% failed", note, Unit.FRACTION, tuple(series), height_pixels=100)


def failure_section(description: TraceDescription) -> Section:
    """The days and hours in which far more requests of a service failed than usual."""
    tables = {
        f"{name} with far more failures than usual": _outlier_table(found, description.all.duration_s)
        for name, found in (
            ("Hours", _outliers(description, by_day=False)),
            ("Days", _outliers(description, by_day=True)),
        )
        if found
    }
    return make_section("Failures", " ".join(_failure_sentences(description)), tables=tables)


def _failed_share(traffic: TrafficDescription, together: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Failed share per so many bins of the timeline; NaN where there are too few requests."""
    starts = np.arange(0, len(traffic.timeline.requests), together)
    requests = np.add.reduceat(traffic.timeline.requests, starts)
    failures = np.add.reduceat(traffic.timeline.failures, starts)
    return np.where(requests >= LEAST_REQUESTS, failures / np.maximum(requests, 1), np.nan)


def _outliers(description: TraceDescription, *, by_day: bool) -> Found:
    """By service, those that have any."""
    found = []
    for label, traffic in description.services.items():
        outliers = traffic.failure_outliers.by_day if by_day else traffic.failure_outliers.by_hour
        if outliers is not None and outliers.outliers:
            found.append((label, outliers))
    return found


def _failure_sentences(description: TraceDescription) -> list[str]:
    traffic = description.all
    if not traffic.failures:
        return ["No request failed in the recorded system: each has output tokens."]
    said = [
        f"{traffic.failures:,} of {traffic.requests:,} requests have no output: they failed in the recorded system "
        f"({failure_percent(traffic.failed_fraction)})."
    ]
    if traffic.failure_outliers.by_hour is None:
        return [*said, "The trace is too short to compare its hours."]
    found = _outliers(description, by_day=False)
    if not found:
        return [*said, "They are spread as evenly as chance has it: no hour sticks out."]
    said.extend(
        f"In {outliers.outliers:,} of {outliers.periods:,} hours, more {label} requests failed than chance allows; "
        f"outside these hours, {failure_percent(outliers.usual_fraction)} of them fail."
        for label, outliers in found
    )
    return said


def _outlier_table(found: Found, duration_s: float) -> NumberTable:
    """The periods with most failures beyond the expected ones."""
    periods = [(label, period) for label, outliers in found for period in outliers.worst]
    worst = sorted(periods, key=lambda item: item[1].expected_failures - item[1].failures)[:MOST_PERIODS]
    rows = tuple(
        (
            f"{moment(period.start_s, duration_s)}, {label}",
            f"{period.requests:,}",
            f"{period.failures:,}",
            failure_percent(period.failed_fraction),
            quantity(period.expected_failures),
        )
        for label, period in worst
    )
    begins = "day from" if found[0][1].period_s == DAY_S else "hour from"
    return NumberTable((begins, "requests", "failed", "failure rate", "expected at the usual rate"), rows)
