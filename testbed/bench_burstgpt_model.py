"""How close the model of BurstGPT is to BurstGPT: the hours of many draws beside the real ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from loadgen.errors import InputError
from loadgen.fit_burstgpt import FittedTraffic, fit_hourly
from loadgen.rate_series import RateSeries, read_rate_series
from loadgen.shipped_workloads import find_workload
from loadgen.workload import Stream, WorkloadModel, draw_trace, read_workload_model
from testbed.hourly_measures import MEASURES, HourlyTraffic, hourly_traffic, week_profile

MODEL_NAME = "model_of_burstgpt"
LABELS = ("conversation", "api")
LEAST_CORRELATION = 0.9
HOLD_OUT_FROM_DAY = 30

PUBLISHED: dict[str, float] = {
    "requests": 1_429_737,
    "conversation_requests": 154_219,
    "busiest_hours_fraction": 0.42,
    "peak_to_mean": 34,
    "api_silent_fraction": 0.43,
    "onsets_above_2x": 124,
    "onsets_above_5x": 56,
}
"""The 61 days of BurstGPT_1.csv, as counted from the full file; see docs/model_of_burstgpt.md."""

Report = Callable[[int, int, str], None]
"""Told how many of how many draws are done, and of what."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure, real and drawn.

    Attributes:
        name, title, in_fit, is_target, places: as in `Measure`.
        real: of the real hours.
        low, median, high: 5th, 50th and 95th percentile of the draws.
    """

    name: str
    title: str
    in_fit: str
    is_target: bool
    places: int
    real: float
    low: float
    median: float
    high: float

    @property
    def is_inside(self) -> bool:
        """Whether the real value lies between the percentiles."""
        return self.low <= self.real <= self.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Draws of a model beside real hours.

    Attributes:
        title: which hours.
        rows: one per measure.
        profile_correlations: of every draw's conversation hour-of-week profile with the real one; empty = not known.
    """

    title: str
    rows: tuple[Row, ...]
    profile_correlations: tuple[float, ...]

    @property
    def targets_met(self) -> bool:
        """Whether all targets lie inside and every profile correlates above 0.9."""
        inside = all(row.is_inside for row in self.rows if row.is_target)
        return inside and all(value > LEAST_CORRELATION for value in self.profile_correlations)

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = {row.name: asdict(row) | {"is_inside": row.is_inside} for row in self.rows}
        correlations = list(self.profile_correlations)
        return {"targets_met": self.targets_met, "rows": rows, "profile_correlations": correlations}


def read_hourly_counts(path: Path) -> RateSeries:
    """Read requests per hour of conversation and API; whole days of them.

    Raises:
        InputError: the file is unreadable, not hourly, has gaps, or covers less than a week.
    """
    series = read_rate_series(path)
    hours = len(series.of("conversation")) // 24 * 24
    whole_days = replace(series, requests=series.requests[:, :hours])
    traffic = hours_of(whole_days)
    if series.bin_s != 3600.0 or hours < 168 or np.isnan(traffic.all).any():
        raise InputError(f"{path}: want requests per hour without gaps, over at least a week")
    return whole_days


def hours_of(series: RateSeries) -> HourlyTraffic:
    """The hours of a series with conversation and API requests."""
    return HourlyTraffic(*(series.of(label) for label in LABELS))


def bench_burstgpt_model(counts: Path | None, seeds: int, hold_out: bool, report: Report) -> tuple[Comparison, ...]:
    """Compare the shipped model with the published totals and, where counts are given, with those.

    Raises:
        InputError: the counts cannot be used, or a hold-out is asked for without any.
    """
    if counts is None and hold_out:
        raise InputError("a hold-out wants real counts; give --counts")
    series = None if counts is None else read_hourly_counts(counts)
    model = read_workload_model(find_workload(MODEL_NAME))
    draws = draw_hours(model, seeds, report)
    comparisons = [compare_with_published(draws)]
    if series is not None:
        comparisons.insert(0, compare_with_counts(draws, hours_of(series)))
        if hold_out:
            comparisons.append(compare_hold_out(model, series, seeds, report))
    return tuple(comparisons)


def draw_hours(model: WorkloadModel, seeds: int, report: Report) -> list[HourlyTraffic]:
    """The hours of the draws with seeds 0, 1, ..."""
    drawn = []
    for seed in range(seeds):
        report(seed, seeds, "drawing")
        drawn.append(hourly_traffic(draw_trace(model, np.random.default_rng(seed))))
    return drawn


def compare_with_counts(draws: Sequence[HourlyTraffic], real: HourlyTraffic, title: str = "") -> Comparison:
    """The first days of the draws beside real counts of as many days.

    Raises:
        InputError: the draws are shorter than the counts.
    """
    days = len(real.api) // 24
    if days * 24 > len(draws[0].api):
        raise InputError(f"the counts cover {days} days, the model only {len(draws[0].api) // 24}")
    draws = [hours.days(0, days) for hours in draws]
    profile = week_profile(real.conversation)
    correlations = [float(np.corrcoef(week_profile(draw.conversation), profile)[0, 1]) for draw in draws]
    rows = _rows(draws, {measure.name: measure.of(real) for measure in MEASURES})
    return Comparison(title or f"days 0-{days - 1}", tuple(rows), tuple(correlations))


def compare_with_published(draws: Sequence[HourlyTraffic]) -> Comparison:
    """The draws of 61 days beside what is published of BurstGPT_1."""
    rows = [row for row in _rows(draws, PUBLISHED) if row.name in PUBLISHED]
    return Comparison("61 days, published", tuple(rows), ())


def compare_hold_out(model: WorkloadModel, series: RateSeries, seeds: int, report: Report) -> Comparison:
    """Days 30 on, under the model whose arrivals are fitted to days 0-29 alone.

    Raises:
        InputError: the counts cover less than a week after day 30.
    """
    days = series.requests.shape[1] // 24
    if days < HOLD_OUT_FROM_DAY + 7:
        raise InputError(f"{series.name}: covers {days} days; a hold-out wants {HOLD_OUT_FROM_DAY + 7} or more")
    known = replace(series, requests=series.requests[:, : HOLD_OUT_FROM_DAY * 24])
    fitted = _with_arrivals(model, fit_hourly(known, lambda stage: report(0, seeds, f"fitting days 0-29: {stage}")))
    draws = [drawn.days(HOLD_OUT_FROM_DAY, days) for drawn in draw_hours(fitted, seeds, report)]
    real = hours_of(series).days(HOLD_OUT_FROM_DAY, days)
    return compare_with_counts(draws, real, f"days 30-{days - 1}, fitted to days 0-29")


def _with_arrivals(model: WorkloadModel, fitted: FittedTraffic) -> WorkloadModel:
    """The model with other arrivals of its three fitted streams, and without the scheduled jobs."""
    arrivals = (fitted.visits, fitted.trials, fitted.jobs)
    streams: list[Stream] = [
        stream.model_copy(update={"arrivals": process})
        for stream, process in zip(model.streams[:3], arrivals, strict=True)
    ]
    streams[0] = streams[0].model_copy(update={"sessions": fitted.sessions})
    streams[2] = streams[2].model_copy(update={"start_s": fitted.jobs_from_s})
    return model.model_copy(update={"streams": tuple(streams)})


def _rows(draws: Sequence[HourlyTraffic], real: Mapping[str, float]) -> list[Row]:
    rows = []
    for measure in MEASURES:
        low, median, high = np.percentile([measure.of(draw) for draw in draws], [5, 50, 95])
        texts = (measure.name, measure.title, measure.in_fit, measure.is_target, measure.places)
        rows.append(Row(*texts, float(real.get(measure.name, np.nan)), float(low), float(median), float(high)))
    return rows


def comparison_table(comparison: Comparison) -> Table:
    """The rows of a comparison for the terminal."""
    table = Table(
        title=f"model of BurstGPT: {comparison.title}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0)
    )
    table.add_column("", no_wrap=True)
    for title in ("real", "5 %", "median", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("fitted")
    for row in comparison.rows:
        values = [f"{value:,.{row.places}f}" for value in (row.real, row.low, row.median, row.high)]
        table.add_row(row.title, *values, "in" if row.is_inside else "OUT", row.in_fit, style=_style(row))
    if comparison.profile_correlations:
        low, median, high = np.percentile(comparison.profile_correlations, [5, 50, 95])
        lowest = min(comparison.profile_correlations)
        verdict = "in" if lowest > LEAST_CORRELATION else "OUT"
        values = [f"{value:.3f}" for value in (low, median, high)]
        table.add_row("correlation of the weeks", "", *values, verdict, "yes", style="bold")
    return table


def conclusion(comparisons: Sequence[Comparison], seeds: int) -> str:
    """What the figures mean, in one sentence for each comparison."""
    sentences = []
    for comparison in comparisons:
        outside = [row.title.strip() for row in comparison.rows if not row.is_inside]
        low_profiles = sum(value <= LEAST_CORRELATION for value in comparison.profile_correlations)
        known = len(comparison.rows)
        sentence = (
            f"{comparison.title}: {known - len(outside)} of {known} real values lie where 90 % of {seeds} draws do"
        )
        sentence += f"; outside: {', '.join(outside)}" if outside else ""
        sentence += f"; {low_profiles} draws have another week" if low_profiles else ""
        sentences.append(sentence + ".")
    return "\n".join(sentences)


def _style(row: Row) -> str | None:
    return "bold" if row.is_target else None
