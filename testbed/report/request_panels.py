"""The rows of the figure that records tell: load, time to the first token, failures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from loadgen.metrics import LatencyPromise
from loadgen.records import Cause
from loadgen.time_series import time_series
from testbed.report import palette
from testbed.report.panels import Floats, Panel, Series, Shape, Unit, promises_in, steps_of_bins, steps_with_gaps
from testbed.report.time_bins import TimeBins, bins_holding, length

QUANTILES = (("p50", palette.P50), ("p90", palette.P90), ("p99", palette.P99))
REQUESTS_PER_PERCENTILE = 30
LOG_FROM_RATIO = 20


def request_series(records: pd.DataFrame, bins: TimeBins, percentiles_of: tuple[str, ...] = ()) -> pd.DataFrame:
    """The metrics' series in the figure's bins, one row each."""
    return time_series(records, bins.width_s, bins.width_s * bins.count, percentiles_of)


def load_panel(series: pd.DataFrame, bins: TimeBins, duration_s: float) -> Panel | str:
    """Requests per second that arrived and that ended ok, or why there is nothing to draw."""
    if not series["offered"].any():
        return "no requests were recorded"
    offered_per_s, served_per_s = (_array(series[name]) / bins.width_s for name in ("offered", "completed"))
    return Panel(
        title="Load",
        axis="requests/s",
        note=f"per {length(bins.width_s)}; served = ended ok, counted at its end",
        unit=Unit.RATE,
        series=(
            steps_of_bins("offered", palette.OFFERED, Shape.AREA, offered_per_s, bins.width_s, duration_s),
            steps_of_bins("served", palette.SERVED, Shape.STEP, served_per_s, bins.width_s, duration_s),
        ),
    )


def latency_panel(records: pd.DataFrame, duration_s: float, slos: Mapping[str, LatencyPromise]) -> Panel | str:
    """Percentiles of TTFT over the time of arrival; promised limits that lie in the picture are drawn as lines."""
    bins = bins_holding(len(records), duration_s, per_bin=REQUESTS_PER_PERCENTILE, least_bins=30)
    series = request_series(records, bins, ("ttft",))
    values = series[[f"ttft_{name}_s" for name, _ in QUANTILES]].to_numpy(np.float64)
    if not np.isfinite(values).any():
        return "no request got its answer"
    present = set(records["service"].unique())
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    return Panel(
        title="Time to first token",
        axis="TTFT",
        note=f"requests that ended ok, by time of arrival, per {length(bins.width_s)}",
        unit=Unit.SECONDS,
        series=tuple(
            Series(
                name, colour, Shape.STEP, *steps_with_gaps(bins.starts_s, values[:, index], duration_s), bins.width_s
            )
            for index, (name, colour) in enumerate(QUANTILES)
        ),
        height_pixels=140,
        is_log=highest > LOG_FROM_RATIO * max(lowest, 1e-4),
        limits=promises_in({label: slo.ttft_s for label, slo in slos.items() if label in present}, lowest, highest),
    )


def failure_panel(series: pd.DataFrame, bins: TimeBins) -> Panel | str:
    """Failed requests by cause over the time of arrival, the most frequent cause at the bottom."""
    counts = {cause.value: _array(series[f"failed_{cause.value}"]) for cause in Cause}
    counts["unknown"] = _array(series["offered"] - series["ok"]) - sum(counts.values())
    occurred = sorted((cause for cause in counts if counts[cause].any()), key=lambda cause: -int(counts[cause].sum()))
    if not occurred:
        return "no request failed"
    return Panel(
        title="Failures by cause",
        axis="requests",
        note=f"by time of arrival, per {length(bins.width_s)}",
        unit=Unit.COUNT,
        series=tuple(
            Series(
                cause.replace("_", " "),
                palette.colour_of_cause(cause),
                Shape.BARS,
                bins.centres_s,
                counts[cause],
                bins.width_s,
            )
            for cause in occurred
        ),
        height_pixels=90,
    )


def in_flight(series: pd.DataFrame, bins: TimeBins, duration_s: float) -> Series:
    """Requests on their way as the client saw it: mean per bin."""
    label, mean = "on their way (client)", _array(series["in_flight"])
    return steps_of_bins(label, palette.OFFERED, Shape.AREA, mean, bins.width_s, duration_s)


def _array(values: pd.Series) -> Floats:
    return np.asarray(values, dtype=np.float64)
