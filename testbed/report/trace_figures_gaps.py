"""The charts of how arrivals are spaced: gaps against the Gamma model, Fano factors."""

from dataclasses import replace

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from testbed.report import palette
from testbed.report.charts import Absent, Axis, Chart, Layer, Mark, NumberTable, Section, length_axis, make_section
from testbed.report.number_text import NOTHING, latency, percent, quantity
from testbed.report.time_bins import length

# Such a tick or a finer one is that of the numbers, not of a clock.
LEAST_RESOLUTION_S = 1e-6
# Gaps this many times shorter than the longest are below what any server notices.
DRAWN_RANGE = 1e6


def gap_section(description: TraceDescription) -> Section:
    """How arrivals are spaced: the fits in numbers, QQ plots, Fano factors."""
    charts = [_quantile_chart(label, traffic) for label, traffic in description.services.items()]
    return make_section(
        "Burstiness",
        "The BurstGPT paper models the gaps between requests as Gamma distributed, with a shape alpha and a scale "
        "beta that are fitted anew every 20 minutes: alpha = 1 is a Poisson stream, a smaller alpha is burstier, a "
        "larger one more regular; the CV (standard deviation / mean) of such gaps is 1/sqrt(alpha). 95 % of true "
        "Gamma windows pass the KS test; of windows with thousands of gaps it refuses many for differences that do "
        "not matter, so look at the distance and at the plots too.",
        *charts,
        _fano_chart(description),
        tables={"Gamma fits": _fit_table(description)},
    )


def _quantile_chart(label: str, traffic: TrafficDescription) -> Chart | Absent:
    title = f"Gaps of {label} against the Gamma model"
    gaps = traffic.gaps
    if gaps is None:
        return Absent(title, "there are too few requests to speak of gaps between them")
    colour = palette.SERVICES.get(label, palette.OFFERED)
    layers = []
    if gaps.quantiles is not None:
        pairs = gaps.quantiles
        layers.append(Layer("one Gamma for all", palette.REFERENCE, Mark.POINTS, pairs.model_s, pairs.observed_s))
    if gaps.by_window is not None:
        pairs = gaps.by_window.quantiles
        layers.append(Layer("fitted per 20 minutes", colour, Mark.POINTS, pairs.model_s, pairs.observed_s))
    values = np.concatenate([[], *(np.concatenate([layer.x, layer.y]) for layer in layers)])
    values = values[values > 0]
    if not len(values):
        return Absent(title, "the times are too coarse to show the shape of the gaps")
    high = float(values.max())
    low = max(float(values.min()), high / DRAWN_RANGE)
    ends = np.array([low, high])
    tick = f" Gaps under {latency(low)} are not drawn." if low > values.min() else ""
    if gaps.resolution_s > LEAST_RESOLUTION_S:
        tick = f" Times are recorded to {latency(gaps.resolution_s)}; gaps of 0 are not drawn."
    return Chart(
        key=f"quantiles-{label}",
        title=title,
        note="QQ plot: quantiles of the gaps",
        caption="On the diagonal, the model has gaps of just the observed lengths. All gaps together have a CV of "
        f"{quantity(gaps.cv)} and an alpha of {quantity(gaps.alpha)}.{tick}",
        x=replace(length_axis("gap in the model", low, high), low=low, high=high),
        y=replace(length_axis("gap observed", low, high), low=low, high=high),
        layers=(*layers, Layer("as it should be", palette.REFERENCE, Mark.DASHES, ends, ends)),
    )


def _fit_table(description: TraceDescription) -> NumberTable:
    columns = (
        "", "windows", "KS distance", "pass the KS test", "alpha median (range)", "beta median", "CV median",
        "alpha moves by (by chance)",
    )  # fmt: skip
    rows = tuple(_fit_row(label, traffic) for label, traffic in description.services.items())
    return NumberTable(columns, tuple(row for row in rows if row))


def _fit_row(label: str, traffic: TrafficDescription) -> tuple[str, ...]:
    fits = None if traffic.gaps is None else traffic.gaps.by_window
    if fits is None:
        return ()
    drift = NOTHING
    if fits.drift is not None:
        drift = f"{_factor(fits.drift.median_absolute_log_change)} ({_factor(fits.drift.by_chance)})"
    return (
        label,
        f"{fits.windows:,}" + (f" ({fits.hidden_windows:,} too coarse)" if fits.hidden_windows else ""),
        quantity(fits.ks_distance.median, 2),
        percent(fits.not_rejected_fraction),
        f"{quantity(fits.alpha.median)} ({quantity(fits.alpha.low, 2)} to {quantity(fits.alpha.high, 2)})",
        latency(fits.beta_s.median),
        quantity(fits.cv.median),
        drift,
    )


def _factor(log_change: float) -> str:
    """A change of the logarithm as a factor: '1.8x'."""
    return f"{quantity(float(np.exp(log_change)))}x"


def _fano_chart(description: TraceDescription) -> Chart | Absent:
    title = "Fano factor by window"
    layers = []
    for label, traffic in description.services.items():
        spread = traffic.dispersion
        if np.isfinite(spread.fano).any():
            colour = palette.SERVICES.get(label, palette.OFFERED)
            layers.append(Layer(label, colour, Mark.LINE, spread.window_s, spread.fano))
    if not layers:
        return Absent(title, "it takes a recording of ten seconds or more")
    first, last = (float(end) for end in (layers[0].x[0], layers[0].x[-1]))
    rows = tuple(
        (length(float(window_s)), *(quantity(_finite(float(layer.y[place]))) for layer in layers))
        for place, window_s in enumerate(layers[0].x)
    )
    return Chart(
        key="fano",
        title=title,
        note="variance / mean of the requests per window",
        caption="1 = Poisson: counts vary as chance has it, and pooling more traffic smooths it. A rising line "
        "means that whole minutes and hours are busy or quiet together, which no short queue can even out.",
        x=length_axis("length of the window", first, last),
        y=Axis("variance / mean", is_log=True),
        layers=tuple(layers),
        limits=(("Poisson", 1.0),),
        table=NumberTable(("window", *(layer.label for layer in layers)), rows),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
