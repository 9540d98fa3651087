"""The rows of the figure that windows tell: who missed the SLO and why, token latency, throughput."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from loadgen.metrics import LatencyPromise
from loadgen.windows import HELD_FRACTION
from testbed.report import palette
from testbed.report.number_text import percent
from testbed.report.panels import Floats, Panel, Series, Shape, Unit, promises_in, steps_with_gaps, until_end
from testbed.report.time_bins import length

PANEL_PIXELS = 80
# The kinds of requests that missed the SLO: column, name, colour.
MISSED = (
    ("failed", "failed (R)", palette.FAILED),
    ("late_first_tokens", "first token late", palette.LATE),
    ("slow_tokens", "further tokens slow", palette.SLOW),
)


def missed_panel(windows: pd.DataFrame, window_s: float, duration_s: float) -> Panel | str:
    """Shares of the requests that failed or were too slow, on top of each other; above the line the SLO is lost."""
    has_promise = not windows["attained"].isna().any()
    kinds = [kind for kind in MISSED if windows[kind[0]].sum() > 0]
    if not kinds:
        return "no request missed it" if has_promise else "no request failed, and no SLO was set"
    offered = np.maximum(_floats(windows["offered"]), 1)
    starts_s = _floats(windows["start_s"])
    limit = 1 - HELD_FRACTION
    return Panel(
        title="Missed SLO" if has_promise else "Failure rate (R)",
        axis="% missed" if has_promise else "% failed",
        note=f"of those that arrived, per {length(window_s)}; failed = failure rate R",
        unit=Unit.FRACTION,
        series=tuple(
            Series(label, colour, Shape.STACK, *until_end(starts_s, _floats(windows[key]) / offered, duration_s))
            for key, label, colour in kinds
        ),
        height_pixels=PANEL_PIXELS,
        limits=((f"lost above {percent(limit)}", limit),) if has_promise else (),
    )


def token_latency_panel(
    windows: pd.DataFrame, window_s: float, duration_s: float, slos: Mapping[str, LatencyPromise]
) -> Panel | str:
    """The mean TPOT of each window; promises that lie in the picture are drawn as lines."""
    means_s = _floats(windows["tpot_mean_s"])
    if not np.isfinite(means_s).any():
        return "no answer had two tokens"
    times_s, values_s = steps_with_gaps(_floats(windows["start_s"]), means_s, duration_s)
    return Panel(
        title="Token latency (L)",
        axis="mean TPOT",
        note=f"of requests that ended ok, by time of arrival, per {length(window_s)}",
        unit=Unit.SECONDS,
        series=(Series("mean TPOT", palette.P50, Shape.STEP, times_s, values_s, window_s),),
        height_pixels=PANEL_PIXELS,
        limits=promises_in({label: slo.tpot_s for label, slo in slos.items()}, 0.0, float(np.nanmax(means_s))),
    )


def throughput_panel(windows: pd.DataFrame, window_s: float, duration_s: float) -> Panel | str:
    """Output tokens per second of the requests that ended ok, as they came."""
    rates = _floats(windows["output_tokens_per_s"])
    if not rates.any():
        return "no token was answered"
    starts_s = _floats(windows["start_s"])
    return Panel(
        title="Throughput (P)",
        axis="tokens/s",
        note=f"output of requests that ended ok, as it came, per {length(window_s)}",
        unit=Unit.RATE,
        series=(
            Series("output tokens", palette.OUTPUT, Shape.AREA, *until_end(starts_s, rates, duration_s), window_s),
        ),
        height_pixels=PANEL_PIXELS,
    )


def _floats(values: pd.Series) -> Floats:
    return np.asarray(values, dtype=np.float64)
