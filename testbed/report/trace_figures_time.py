"""The rows of a trace's figure over time: requests, tokens, failures, and the Gamma fits of its windows."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.gaps import WindowFits, WindowSeries
from testbed.report import palette
from testbed.report.number_text import failure_percent
from testbed.report.panels import Floats, Panel, Series, Shape, Unit, steps_of_bins
from testbed.report.time_bins import bins_over, length
from testbed.report.trace_figures_bursts import main_bursts
from testbed.report.trace_figures_failures import failure_panel

# As many windows of a service as a plot of this width can tell apart.
MOST_POINTS = 1500
# Bins are wide enough for so many requests on average, but there are about so many however few the requests are.
REQUESTS_PER_BIN, LEAST_BINS = 10, 60
LOG_FROM_RATIO = 20
# What lies farther from the median than by this factor is drawn at the edge, or it would press all others together.
FAR_FACTOR = 30


def panels_over_time(description: TraceDescription) -> dict[str, Panel | str]:
    """The rows by name; where there is nothing to draw, the reason."""
    rows: dict[str, Panel | str] = {
        f"{label} requests": request_panel(label, traffic, is_lone=len(description.services) == 1)
        for label, traffic in description.services.items()
    }
    rows["tokens"] = token_panel(description.all)
    rows["failures"] = failure_panel(description)
    rows |= gamma_panels(description)
    return rows


def request_panel(label: str, traffic: TrafficDescription, *, is_lone: bool) -> Panel:
    """Requests per second of a service, with the onsets of its bursts marked."""
    width_s, (counts,) = _readable_bins(traffic, traffic.timeline.requests)
    rates = counts / width_s
    colour = palette.SERVICES.get(label, palette.OFFERED)
    series = [steps_of_bins(label, colour, Shape.AREA, rates, width_s, traffic.duration_s)]
    note = f"mean per {length(width_s)}"
    bursts = main_bursts(traffic)
    if bursts is not None and bursts.onsets:
        places = np.minimum(bursts.onset_s // width_s, len(rates) - 1).astype(np.int64)
        # Over the bin that is drawn, or at the onset itself where it can be seen.
        at_s = bursts.onset_s if width_s <= bursts.bin_s else np.asarray((places + 0.5) * width_s)
        within_s = max(width_s, bursts.bin_s)
        series.append(Series("burst begins", palette.ONSET, Shape.POINTS, at_s, rates[places], within_s))
        note += f"; bursts as seen {'by the hour' if bursts is traffic.bursts.by_hour else 'by the minute'}"
    title = "Requests" if is_lone else f"Requests: {label}"
    return Panel(title, "requests/s", note, Unit.RATE, tuple(series), height_pixels=130)


def token_panel(traffic: TrafficDescription) -> Panel | str:
    """Prompt and output tokens per second of all requests."""
    if not traffic.prompt_tokens + traffic.output_tokens:
        return "the trace has no tokens"
    line, end_s = traffic.timeline, traffic.duration_s
    width_s, (prompt, output) = _readable_bins(traffic, line.prompt_tokens, line.output_tokens)
    return Panel(
        title="Tokens",
        axis="tokens/s",
        note=f"by time of arrival, mean per {length(width_s)}",
        unit=Unit.RATE,
        series=(
            steps_of_bins("prompt", palette.PROMPT, Shape.AREA, prompt / width_s, width_s, end_s),
            steps_of_bins("output", palette.OUTPUT, Shape.STEP, output / width_s, width_s, end_s),
        ),
    )


def _readable_bins(traffic: TrafficDescription, *counts: NDArray[np.int64]) -> tuple[float, list[Floats]]:
    """So many bins of the timeline together that most hold several requests: their width, and the sums."""
    line, duration_s = traffic.timeline, traffic.duration_s
    wanted_s = min(duration_s * REQUESTS_PER_BIN / max(traffic.requests, 1), duration_s / LEAST_BINS)
    width_s = bins_over(duration_s, least_width_s=max(wanted_s, line.bin_s), most_bins=len(line.requests)).width_s
    together = max(1, round(width_s / line.bin_s))
    starts = np.arange(0, len(line.requests), together)
    return line.bin_s * together, [np.add.reduceat(values, starts).astype(np.float64) for values in counts]


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
    values = np.concatenate([values_of(fit.series) for fit in fits.values()])
    middle = float(np.median(values))
    low, high = middle / FAR_FACTOR, middle * FAR_FACTOR
    series = tuple(
        Series(
            label,
            palette.SERVICES.get(label, palette.OFFERED),
            Shape.POINTS,
            np.minimum(fit.series.start_s + window_s / 2, duration_s)[::every],
            np.clip(values_of(fit.series)[::every], low, high),
            window_s * every,
        )
        for label, fit in fits.items()
    )
    note = f"per {length(window_s)} with 30 gaps or more"
    if every > 1:
        note += f"; one of {every} is drawn"
    if far := np.mean((values < low) | (values > high)):
        note += f"; {failure_percent(float(far))} lie beyond, drawn at the edge"
    drawn = np.concatenate([one.values for one in series])
    return Panel(
        title=title,
        axis=axis,
        note=note,
        unit=unit,
        series=series,
        height_pixels=110,
        is_log=float(drawn.max()) > LOG_FROM_RATIO * float(drawn.min()) > 0,
        limits=(limit,) if limit else (),
    )
