"""A trace's page as text: key figures, the table of services and models, the periods in which failures stick out."""

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from testbed.report.number_text import NOTHING, failure_percent, percent, quantity
from testbed.report.tables import Row, Tile
from testbed.report.time_bins import MINUTE_S, length

COLUMNS = (
    "requests", "of all", "rate", "peak rate", "prompt tokens", "mean prompt", "output tokens", "mean output",
    "failed",
)  # fmt: skip


def key_figures(description: TraceDescription) -> list[Tile]:
    """The tiles: size and rate first, then what makes it hard to serve."""
    traffic = description.all
    number, _, unit = length(traffic.duration_s).partition(" ")
    ratio = traffic.peak_rate_per_s / traffic.mean_rate_per_s if traffic.mean_rate_per_s else None
    fits = None if traffic.gaps is None else traffic.gaps.by_window
    bursts = traffic.bursts
    failed, _, percent_sign = failure_percent(traffic.failed_fraction).partition(" ")
    return [
        Tile("Requests", f"{traffic.requests:,}", "", _kinds(description)),
        Tile("Duration", number, unit),
        Tile("Mean rate", quantity(traffic.mean_rate_per_s), "/s", "requests per second"),
        Tile(
            "Peak rate",
            quantity(traffic.peak_rate_per_s),
            "/s",
            f"in the busiest 10 s: {quantity(ratio)}x the mean",
        ),
        Tile(
            "Busiest hour",
            NOTHING if bursts.peak_to_mean is None else f"{quantity(bursts.peak_to_mean)}x",
            "",
            f"the mean; {percent(bursts.silent_hours_fraction)} of the hours are silent"
            if bursts.hours >= 2
            else "too short to say",
        ),
        Tile("Prompt tokens", short(traffic.prompt_tokens), "", f"mean {quantity(traffic.prompt_lengths.mean_tokens)}"),
        Tile("Output tokens", short(traffic.output_tokens), "", f"mean {quantity(traffic.output_lengths.mean_tokens)}"),
        Tile("Failed", failed, percent_sign, f"{traffic.failures:,} in the recorded system"),
        Tile(
            "CV of the gaps",
            quantity(None if fits is None else fits.cv.median),
            "",
            "median of 20-minute windows" if fits is not None else "too few gaps, or times too coarse",
        ),
        _restlessness(traffic),
    ]


def _restlessness(traffic: TrafficDescription) -> Tile:
    """Doublings per workday; of a trace without a whole day, how uneven the minutes are."""
    doublings = traffic.doublings.within_5_min
    if doublings.per_workday is not None:
        return Tile("Doublings in 5 min", quantity(doublings.per_workday), "", "per workday")
    at_minute = np.flatnonzero(traffic.dispersion.window_s == MINUTE_S)
    if len(at_minute) and np.isfinite(fano := float(traffic.dispersion.fano[at_minute[0]])):
        return Tile("Fano factor", quantity(fano), "", "variance / mean per minute; Poisson: 1")
    return Tile("Doublings in 5 min", NOTHING, "", "too short to say")


def short(count: int) -> str:
    """A large number in three digits: '23.4 M'."""
    for size, name in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if count >= size:
            return f"{quantity(count / size)}{name}"
    return f"{count:,}"


def traffic_table(description: TraceDescription) -> list[Row]:
    """A row for each service with its models below, then all with the models below."""
    rows = []
    total = description.all
    if len(description.services) > 1:
        for label, traffic in description.services.items():
            rows.append(Row(label, _cells(traffic, total)))
            models = description.services_by_model.get(label, {})
            rows.extend(Row(name, _cells(part, total), "sub") for name, part in models.items() if len(models) > 1)
    lone = next(iter(description.services), "all")
    rows.append(Row("all" if len(description.services) != 1 else lone, _cells(total, total)))
    models = description.models
    rows.extend(Row(name, _cells(part, total), "sub") for name, part in models.items() if len(models) > 1)
    return rows


def _cells(traffic: TrafficDescription, total: TrafficDescription) -> tuple[str, ...]:
    return (
        f"{traffic.requests:,}",
        percent(traffic.requests / total.requests) if total.requests else NOTHING,
        quantity(traffic.mean_rate_per_s),
        quantity(traffic.peak_rate_per_s),
        short(traffic.prompt_tokens),
        quantity(traffic.prompt_lengths.mean_tokens),
        short(traffic.output_tokens),
        quantity(traffic.output_lengths.mean_tokens),
        f"{traffic.failures:,} ({failure_percent(traffic.failed_fraction)})",
    )


def _kinds(description: TraceDescription) -> str:
    """What they are, in a few words."""
    services, models = description.services, description.models
    if len(services) > 1:
        return ", ".join(
            f"{percent(part.requests / description.all.requests)} {label}" for label, part in services.items()
        )
    names = ", ".join(list(models)[:3])
    return f"{next(iter(services), '')}{f', {names}' if names and names != 'unknown' else ''}"
