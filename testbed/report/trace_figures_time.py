"""The rows of a trace's figure over time: requests, tokens, failures, and the Gamma fits of its windows."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.gaps import WindowFits, WindowSeries
from testbed.report import palette
from testbed.report.panels import Floats, Panel, Series, Shape, Unit, until_end
from testbed.report.time_bins import length
from testbed.report.trace_figures_bursts import main_bursts

# As many windows of a service as a plot of this width can tell apart.
MOST_POINTS = 1500
# A failed share of fewer requests says little.
LEAST_REQUESTS = 20
MOST_FAILURE_BINS = 400
LOG_FROM_RATIO = 20


def panels_over_time(description: TraceDescription) -> dict[str, Panel | str]:
    """The rows by name; where there is nothing to draw, the reason."""
    rows: dict[str, Panel | str] = {
        f"{label} requests": request_panel(label, traffic, is_lone=len(description.services) == 1)
        for label, traffic in description.services.items()
    }
    rows["tokens"] = token_panel(description.all)
    rows["failures"] = failure_panel(description.all)
    rows |= gamma_panels(description)
    return rows


def request_panel(label: str, traffic: TrafficDescription, *, is_lone: bool) -> Panel:
    """Requests per second of a service, with the onsets of its bursts marked."""
    line = traffic.timeline
    rates = line.requests / line.bin_s
    colour = palette.SERVICES.get(label, palette.OFFERED)
    series = [_per_bin(label, colour, Shape.AREA, rates, line.bin_s, traffic.duration_s)]
    note = f"mean per {length(line.bin_s)}"
    bursts = main_bursts(traffic)
    if bursts is not None and bursts.onsets:
        places = np.minimum(bursts.onset_s // line.bin_s, len(rates) - 1).astype(np.int64)
        # Over the bin that is drawn, or at the onset itself where it can be seen.
        at_s = bursts.onset_s if line.bin_s <= bursts.bin_s else np.asarray((places + 0.5) * line.bin_s)
        series.append(
            Series("burst begins", palette.ONSET, Shape.POINTS, at_s, rates[places], max(line.bin_s, bursts.bin_s))
        )
        note += f"; bursts as seen {'by the hour' if bursts is traffic.bursts.by_hour else 'by the minute'}"
    return Panel(
        title="Requests" if is_lone else f"Requests: {label}",
        axis="requests/s",
        note=note,
        unit=Unit.RATE,
        series=tuple(series),
        height_pixels=130,
    )


def token_panel(traffic: TrafficDescription) -> Panel | str:
    """Prompt and output tokens per second of all requests."""
    line = traffic.timeline
    if not traffic.prompt_tokens + traffic.output_tokens:
        return "the trace has no tokens"
    return Panel(
        title="Tokens",
        axis="tokens/s",
        note=f"by time of arrival, mean per {length(line.bin_s)}",
        unit=Unit.RATE,
        series=(
            _per_bin(
                "prompt", palette.PROMPT, Shape.AREA, line.prompt_tokens / line.bin_s, line.bin_s, traffic.duration_s
            ),
            _per_bin(
                "output", palette.OUTPUT, Shape.STEP, line.output_tokens / line.bin_s, line.bin_s, traffic.duration_s
            ),
        ),
    )


def failure_panel(traffic: TrafficDescription) -> Panel | str:
    """The failed share of the requests, with the hours and days that stick out."""
    if not traffic.failures:
        return "no request failed in the recorded system"
    line = traffic.timeline
    together = -(-len(line.requests) // MOST_FAILURE_BINS)
    starts = np.arange(0, len(line.requests), together)
    requests, failures = np.add.reduceat(line.requests, starts), np.add.reduceat(line.failures, starts)
    share = np.where(requests >= LEAST_REQUESTS, failures / np.maximum(requests, 1), np.nan)
    width_s = line.bin_s * together
    series = []
    if np.isfinite(share).any():
        series.append(_per_bin("failed", palette.FAILED, Shape.AREA, share, width_s, traffic.duration_s))
    note = f"share of requests, per {length(width_s)} with {LEAST_REQUESTS} requests or more"
    outliers = traffic.failure_outliers.by_hour
    if outliers is not None and outliers.worst:
        at_s = np.array([period.start_s + outliers.period_s / 2 for period in outliers.worst])
        fractions = np.array([period.failed_fraction for period in outliers.worst])
        series.append(
            Series("hour far above the usual", palette.STARTING, Shape.POINTS, at_s, fractions, outliers.period_s)
        )
    if not series:
        return f"there are never {LEAST_REQUESTS} requests together to take a share of"
    return Panel("Failures", "% failed", note, Unit.FRACTION, tuple(series), height_pixels=100)


def gamma_panels(description: TraceDescription) -> dict[str, Panel | str]:
    """Shape, scale and CV of the gaps per window of 20 minutes, by service."""
    fits = {
        label: traffic.gaps.by_window
        for label, traffic in description.services.items()
        if traffic.gaps is not None and traffic.gaps.by_window is not None
    }
    if not fits:
        return {"Gamma fits": "no 20 minutes hold 30 gaps between requests whose shape can be seen"}
    duration_s = description.all.duration_s
    return {
        "Gamma shape": _window_panel(
            "Gamma shape alpha", "alpha", Unit.COUNT, fits, lambda series: series.alpha, duration_s, ("Poisson: 1", 1.0)
        ),
        "Gamma scale": _window_panel(
            "Gamma scale beta", "beta", Unit.SECONDS, fits, lambda series: series.beta_s, duration_s, None
        ),
        "CV": _window_panel(
            "CV of the gaps", "CV", Unit.COUNT, fits, lambda series: series.cv, duration_s, ("Poisson: 1", 1.0)
        ),
    }


def _window_panel(
    title: str,
    axis: str,
    unit: Unit,
    fits: Mapping[str, WindowFits],
    values_of: Callable[[WindowSeries], Floats],
    duration_s: float,
    limit: tuple[str, float] | None,
) -> Panel:
    window_s = next(iter(fits.values())).window_s
    every = max(1, math.ceil(max(fit.windows for fit in fits.values()) / MOST_POINTS))
    series = tuple(
        Series(
            label,
            palette.SERVICES.get(label, palette.OFFERED),
            Shape.POINTS,
            np.minimum(fit.series.start_s + window_s / 2, duration_s)[::every],
            values_of(fit.series)[::every],
            window_s * every,
        )
        for label, fit in fits.items()
    )
    drawn = np.concatenate([one.values for one in series])
    drawn = drawn[drawn > 0]
    note = f"per {length(window_s)} with 30 gaps or more" + (f"; one of {every} is drawn" if every > 1 else "")
    return Panel(
        title=title,
        axis=axis,
        note=note,
        unit=unit,
        series=series,
        height_pixels=110,
        is_log=bool(len(drawn)) and float(drawn.max()) > LOG_FROM_RATIO * float(drawn.min()),
        limits=(limit,) if limit else (),
    )


def _per_bin(label: str, colour: str, shape: Shape, values: Floats, bin_s: float, duration_s: float) -> Series:
    """Values of bins as steps. The last bin counts as a whole one, or a sliver of it would look like a burst."""
    starts_s = np.arange(len(values), dtype=np.float64) * bin_s
    times_s, steps = until_end(starts_s, np.asarray(values, dtype=np.float64), duration_s)
    return Series(label, colour, shape, times_s, steps, bin_s)
