"""Records -> how the service did over time: one row per window of the run."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.metrics import Floats, as_frame, float_column, is_value, percentile_rank, request_latencies
from loadgen.records import Cause

# What lasts less than this is taken as an instant: spread evenly over its time it would have too steep a slope to be
# summed exactly.
_INSTANT_S = 1e-3


def time_series(
    records: pa.Table | pd.DataFrame,
    bin_s: float,
    duration_s: float,
    percentiles_of: Collection[str] = ("ttft", "e2e"),
) -> pd.DataFrame:
    """The run as a series: one row per window [start_s, start_s + bin_s), the last one cut at `duration_s`.

    Percentiles take most of the time: those of `percentiles_of` alone are worked out.

    By the scheduled instant of the requests: offered, ok, failed_<cause> for every cause; ttft_p50_s and so on,
    e2e_p50_s and so on, over those that ended ok (NaN = none). By the time at which it happened: completed (requests
    that ended ok in the window), in_flight (mean number of requests on their way), output_tokens_per_s (each request's
    tokens spread evenly from its first token to its end, also those of requests that failed later). What lies outside
    [0, duration_s) is in no window.
    """
    frame = as_frame(records)
    bins = max(1, math.ceil(duration_s / bin_s - 1e-9))
    edges_s = np.minimum(np.arange(bins + 1) * bin_s, duration_s)
    latencies = request_latencies(frame)
    is_ok = latencies.is_ok
    scheduled_bin = window_of(float_column(frame, "scheduled_s"), edges_s)
    columns: dict[str, NDArray[Any]] = {
        "start_s": edges_s[:-1],
        "offered": count_per_window(scheduled_bin, bins),
        "ok": count_per_window(scheduled_bin[is_ok], bins),
        "completed": count_per_window(window_of(float_column(frame, "finished_s")[is_ok], edges_s), bins),
    }
    for cause in Cause:
        columns[f"failed_{cause.value}"] = count_per_window(scheduled_bin[is_value(frame, "cause", cause.value)], bins)
    columns["in_flight"] = _in_flight_s(frame, edges_s) / np.diff(edges_s)
    columns["output_tokens_per_s"] = _tokens(frame, edges_s) / np.diff(edges_s)
    for name, values_s in (("ttft", latencies.ttft_s), ("e2e", latencies.e2e_s)):
        if name not in percentiles_of:
            continue
        for level in (50, 90, 99):
            columns[f"{name}_p{level}_s"] = _percentile_per_bin(scheduled_bin[is_ok], values_s[is_ok], level, bins)
    return pd.DataFrame(columns)


def window_of(instants_s: Floats, edges_s: Floats) -> NDArray[np.int64]:
    """The window of each instant; the number of windows where it is in none."""
    bins = len(edges_s) - 1
    index = np.searchsorted(edges_s, instants_s, side="right") - 1
    return np.where(index < 0, bins, index).astype(np.int64)


def count_per_window(index: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """How often each of `bins` windows occurs in `index`; what is in no window is not counted."""
    return np.bincount(index, minlength=bins + 1)[:bins]


def _percentile_per_bin(index: NDArray[np.int64], values: Floats, level: int, bins: int) -> Floats:
    """One percentile of `values` per window; NaN where it has none."""
    is_defined = ~np.isnan(values)
    index, values = index[is_defined], values[is_defined]
    ordered = values[np.lexsort((values, index))]
    counts = count_per_window(index, bins)
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    result = np.full(bins, np.nan)
    is_filled = counts > 0
    result[is_filled] = ordered[firsts[is_filled] + percentile_rank(level, counts[is_filled])]
    return result


def _in_flight_s(frame: pd.DataFrame, edges_s: Floats) -> Floats:
    """Request-seconds on their way in each window."""
    sent_s, finished_s = float_column(frame, "sent_s"), float_column(frame, "finished_s")
    is_sent = ~np.isnan(sent_s)
    return spread_evenly(sent_s[is_sent], finished_s[is_sent], (finished_s - sent_s)[is_sent], edges_s)


def _tokens(frame: pd.DataFrame, edges_s: Floats) -> Floats:
    """Output tokens in each window."""
    first_token_s, finished_s = float_column(frame, "first_token_s"), float_column(frame, "finished_s")
    starts_s = np.where(np.isnan(first_token_s), finished_s, first_token_s)
    return spread_evenly(starts_s, finished_s, float_column(frame, "output_tokens"), edges_s)


def spread_evenly(starts_s: Floats, ends_s: Floats, amounts: Floats, edges_s: Floats) -> Floats:
    """How much falls into each window when each amount is spread evenly over [start, end).

    What comes until t, over all, is the sum of slope * (t - start) for each that has started, less the sum of
    slope * (t - end) for each that has ended.
    """
    bins = len(edges_s) - 1
    lengths_s = ends_s - starts_s
    is_long = lengths_s >= _INSTANT_S
    slopes = amounts[is_long] / lengths_s[is_long]
    spread = np.diff(_ramps(starts_s[is_long], slopes, edges_s) - _ramps(ends_s[is_long], slopes, edges_s))
    at_once = np.bincount(window_of(ends_s[~is_long], edges_s), weights=amounts[~is_long], minlength=bins + 1)[:bins]
    return np.asarray(spread + at_once, dtype=np.float64)


def _ramps(knees_s: Floats, slopes: Floats, at_s: Floats) -> Floats:
    """The sum of slope * max(0, t - knee), at each t."""
    order = np.argsort(knees_s, kind="stable")
    slope_sums = np.concatenate([[0.0], np.cumsum(slopes[order])])
    moment_sums = np.concatenate([[0.0], np.cumsum((slopes * knees_s)[order])])
    passed = np.searchsorted(knees_s[order], at_s, side="right")
    return np.asarray(at_s * slope_sums[passed] - moment_sums[passed], dtype=np.float64)
