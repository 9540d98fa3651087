"""A trace's description as a table for the terminal: a column for all of it, each service, each model."""

from collections.abc import Callable

from rich.table import Table

from loadgen.statistics.describe import TraceDescription, TrafficDescription

_ROWS: tuple[tuple[str, Callable[[TrafficDescription], str]], ...] = (
    ("requests", lambda traffic: f"{traffic.requests:,}"),
    ("failed in the recorded system", lambda traffic: f"{traffic.failures:,} ({traffic.failed_fraction:.2%})"),
    ("prompt tokens", lambda traffic: f"{traffic.prompt_tokens:,}"),
    ("  p50 / p95 / p99", lambda traffic: _levels(traffic.prompt_quantiles)),
    ("output tokens", lambda traffic: f"{traffic.output_tokens:,}"),
    ("  p50 / p95 / p99", lambda traffic: _levels(traffic.output_quantiles)),
    ("mean requests/s", lambda traffic: f"{traffic.mean_rate_per_s:.4g}"),
    ("peak requests/s (10 s)", lambda traffic: f"{traffic.peak_rate_per_s:.4g}"),
    ("CV of the gaps (Poisson: 1)", lambda traffic: "" if traffic.gaps is None else f"{traffic.gaps.cv:.3g}"),
    ("Gamma shape alpha", lambda traffic: _alpha(traffic)),
    ("  per 20 min: median (low, high)", lambda traffic: _alpha_by_window(traffic)),
)


def description_table(description: TraceDescription) -> Table:
    """The description as a table."""
    kinds = ", ".join([*description.services, *description.models])
    title = f"{description.name}: {description.duration_s:,.0f} s ({kinds})"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    columns = {"all": description.all}
    for parts in (description.services, description.models):
        if len(parts) > 1:  # a single part is the same as all
            columns |= parts
    for name in columns:
        table.add_column(name, justify="right")
    for label, cell in _ROWS:
        table.add_row(label, *(cell(traffic) for traffic in columns.values()))
    return table


def _levels(quantiles: dict[str, float]) -> str:
    """Three quantiles; empty where there is nothing to take them of."""
    return " / ".join(f"{quantiles[level]:,.0f}" for level in ("p50", "p95", "p99") if level in quantiles)


def _alpha(traffic: TrafficDescription) -> str:
    if traffic.gaps is None:
        return ""
    return "times too coarse" if traffic.gaps.alpha is None else f"{traffic.gaps.alpha:.3g}"


def _alpha_by_window(traffic: TrafficDescription) -> str:
    if traffic.gaps is None or traffic.gaps.by_window is None:
        return ""
    alpha = traffic.gaps.by_window.alpha
    return f"{alpha.median:.3g} ({alpha.low:.3g}, {alpha.high:.3g})"
