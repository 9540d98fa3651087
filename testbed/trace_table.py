"""A trace's description for the terminal: a table with a column for each kind of traffic, and what it means."""

from collections.abc import Callable

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from loadgen.statistics.describe_rates import RateDescription, RateSeriesDescription
from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.gaps import WindowFits
from testbed.report.number_text import NOTHING, failure_percent, percent, quantity
from testbed.report.time_bins import length
from testbed.report.trace_verdict import write_trace_verdict

_MOST_COLUMNS = 3
_MOST_LABELS = 2
_MOST_NAMES = 6

_ROWS: tuple[tuple[str, Callable[[TrafficDescription], str]], ...] = (
    ("requests", lambda traffic: f"{traffic.requests:,}"),
    ("prompt tokens", lambda traffic: f"{traffic.prompt_tokens:,}"),
    ("  p50 / p99", lambda traffic: _levels(traffic.prompt_lengths.quantiles)),
    ("output tokens", lambda traffic: f"{traffic.output_tokens:,}"),
    ("  p50 / p99", lambda traffic: _levels(traffic.output_lengths.quantiles)),
    ("  humps at", lambda traffic: _humps(traffic)),
    ("failed", lambda traffic: f"{traffic.failures:,}"),
    ("  of the requests", lambda traffic: failure_percent(traffic.failed_fraction)),
    ("  hours far above usual", lambda traffic: _failure_hours(traffic)),
    ("requests/s", lambda traffic: quantity(traffic.mean_rate_per_s)),
    ("  in the busiest 10 s", lambda traffic: quantity(traffic.peak_rate_per_s)),
    ("busiest hour / mean hour", lambda traffic: quantity(traffic.bursts.peak_to_mean)),
    ("  busiest 5 % of hours hold", lambda traffic: percent(traffic.bursts.busiest_hours_fraction)),
    ("  hours above twice the last", lambda traffic: _onsets(traffic)),
    ("5-min doublings a workday", lambda traffic: quantity(traffic.doublings.within_5_min.per_workday)),
    ("CV of the gaps (Poisson: 1)", lambda traffic: _cv(traffic)),
    ("  median within 20 min", lambda traffic: _of_windows(traffic, lambda fits: fits.cv.median)),
    ("  Gamma alpha within 20 min", lambda traffic: _of_windows(traffic, lambda fits: fits.alpha.median)),
    ("Fano factor of a minute", lambda traffic: _fano(traffic, 60.0)),
    ("correlation a day later", lambda traffic: quantity(traffic.periodicity.at_24_h)),
    ("  a week later", lambda traffic: quantity(traffic.periodicity.at_168_h)),
)

_RATE_ROWS: tuple[tuple[str, Callable[[RateDescription], str]], ...] = (
    ("requests", lambda rates: f"{rates.requests:,}"),
    ("bins not recorded", lambda rates: f"{rates.missing_bins:,}" if rates.missing_bins else ""),
    ("requests/s", lambda rates: quantity(rates.mean_rate_per_s)),
    ("  in the busiest bin", lambda rates: quantity(rates.peak_rate_per_s)),
    ("busiest bin / mean bin", lambda rates: quantity(rates.peak_to_mean)),
    ("  busiest 5 % of bins hold", lambda rates: percent(rates.busiest_bins_fraction)),
    ("bins without a request", lambda rates: percent(rates.silent_bins_fraction)),
    ("correlation a day later", lambda rates: quantity(rates.periodicity.at_24_h) if rates.periodicity else ""),
    ("  a week later", lambda rates: quantity(rates.periodicity.at_168_h) if rates.periodicity else ""),
)
_RATES_MEANING = (
    "Counts per bin of {bin}: what happens within a bin, and the tokens, are not known. A workload model turns them "
    "into requests (arrivals: {{process: counts, ...}}; docs/traffic.md)."
)


def description_table(description: TraceDescription) -> Group:
    """The description as a table and a few sentences; a row that nothing is known for is left out."""
    columns = {"all": description.all} | _columns(description)
    rows = [(label, [cell(traffic) for traffic in columns.values()]) for label, cell in _ROWS]
    table = _table(_title(description), list(columns), rows)
    models = "" if columns.keys() & description.models.keys() else _models(description)
    return Group(table, Text(" ".join([models, *write_trace_verdict(description)]).strip()))


def rates_table(description: RateSeriesDescription) -> Group:
    """The description of a rate series as a table, with those of its labels that bring most requests."""
    most = sorted(description.labels.items(), key=lambda item: -item[1].requests)[:_MOST_LABELS]
    columns = {"all": description.all} | dict(most)
    title = f"{description.name}: {length(description.all.duration_s)}"
    table = _table(
        title, list(columns), [(name, [cell(rates) for rates in columns.values()]) for name, cell in _RATE_ROWS]
    )
    left_out = len(description.labels) - len(most)
    more = f"{left_out} further labels are in --json. " if left_out else ""
    return Group(table, Text(more + _RATES_MEANING.format(bin=length(description.bin_s))))


def _table(title: str, columns: list[str], rows: list[tuple[str, list[str]]]) -> Table:
    """A table; a row that nothing is known for is left out."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for label, cells in rows:
        if any(text not in ("", NOTHING) for text in cells):
            table.add_row(label, *cells)
    return table


def _title(description: TraceDescription) -> str:
    return f"{description.name}: {length(description.all.duration_s)}"


def _columns(description: TraceDescription) -> dict[str, TrafficDescription]:
    """The services, or else the models: what differs from all and leaves room on a screen of 80 columns."""
    if len(description.services) > 1:
        return description.services
    return description.models if 1 < len(description.models) <= _MOST_COLUMNS else {}


def _models(description: TraceDescription) -> str:
    """The models in a sentence, those with most requests first."""
    models = sorted(description.models.items(), key=lambda item: -item[1].requests)
    named = [
        f"{name} {traffic.requests:,} ({failure_percent(traffic.failed_fraction)} failed)"
        for name, traffic in models[:_MOST_NAMES]
    ]
    more = f" and {len(models) - _MOST_NAMES} more" if len(models) > _MOST_NAMES else ""
    return f"Requests by model: {', '.join(named)}{more}." if len(models) > 1 else ""


def _levels(quantiles: dict[str, float]) -> str:
    return " / ".join(f"{quantiles[level]:,.0f}" for level in ("p50", "p99") if level in quantiles)


def _humps(traffic: TrafficDescription) -> str:
    return ", ".join(f"{mode.tokens:,.0f}" for mode in traffic.output_lengths.modes)


def _failure_hours(traffic: TrafficDescription) -> str:
    found = traffic.failure_outliers.by_hour
    return f"{found.outliers} of {found.periods:,}" if found is not None and traffic.failures else ""


def _onsets(traffic: TrafficDescription) -> str:
    found = traffic.bursts.by_hour
    return "" if found is None else f"{found.onsets:,}"


def _cv(traffic: TrafficDescription) -> str:
    if traffic.gaps is None:
        return ""
    return "times too coarse" if traffic.gaps.alpha is None else quantity(traffic.gaps.cv)


def _of_windows(traffic: TrafficDescription, value: Callable[[WindowFits], float]) -> str:
    fits = None if traffic.gaps is None else traffic.gaps.by_window
    return "" if fits is None else quantity(value(fits))


def _fano(traffic: TrafficDescription, window_s: float) -> str:
    found = dict(zip(traffic.dispersion.window_s.tolist(), traffic.dispersion.fano.tolist(), strict=True))
    return quantity(found.get(window_s))
