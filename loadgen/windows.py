"""Records -> R, L and P of the BurstGPT paper, and whether the SLO was held, in each window of a run.

Source: arXiv 2401.17644 (BurstGPT), evaluation of serving systems: failure rate R, token latency L, throughput P.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.metrics import (
    Floats,
    Latencies,
    LatencyPromise,
    Mask,
    as_frame,
    attained_promise,
    float_column,
    request_latencies,
)
from loadgen.statistics.timeline import DAY_S, HOUR_S, MINUTE_S
from loadgen.time_series import count_per_window, spread_evenly, window_of

# The SLO is held in a window of which at least this share of the requests attains it.
HELD_FRACTION = 0.9
SHORT_WINDOW_S = 5.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Window:
    """One window [start_s, end_s) of a run; attributes as the columns of `windowed_metrics`, None for NaN."""

    start_s: float
    end_s: float
    offered: int
    failed: int
    failure_fraction: float | None
    tpot_mean_s: float | None
    output_tokens_per_s: float
    attainment_fraction: float | None


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """The windows of a run in a few numbers; its averages are those of `summarise_records`.

    Attributes:
        windows: those in which requests were scheduled; the others tell nothing of the SLO.
        slo_lost: of these, how many lost it; None = a service promises nothing.
        slo_lost_fraction: None also where there are no such windows.
        late_first_tokens, slow_tokens: requests of the whole run, as the columns; with the failed ones, all that missed
            the SLO.
        worst: the window with most requests that missed their SLO (without an SLO: that failed); None = none did.
    """

    window_s: float
    windows: int
    slo_lost: int | None
    slo_lost_fraction: float | None
    late_first_tokens: int | None
    slow_tokens: int | None
    worst: Window | None

    def as_json(self) -> dict[str, Any]:
        """Plain values for summary.json."""
        return asdict(self)


def default_window_s(duration_s: float) -> float:
    """5 s in a run of less than an hour, a minute in one of less than a day, else an hour."""
    if duration_s < HOUR_S:
        return SHORT_WINDOW_S
    return MINUTE_S if duration_s < DAY_S else HOUR_S


def windowed_metrics(
    records: pa.Table | pd.DataFrame,
    slos: Mapping[str, LatencyPromise],
    *,
    window_s: float,
    end_s: float,
    start_s: float = 0.0,
) -> pd.DataFrame:
    """One row per window from `start_s` on; the last one holds `end_s`, or the last request or answer if that is later.

    Columns: start_s, end_s. By the scheduled instant of the requests: offered, failed, failure_fraction (R), answered
    (ended ok with two tokens or more), tpot_mean_s (L: the mean TPOT of these), attained and attainment_fraction, and
    of those that ended ok but missed the SLO late_first_tokens and slow_tokens (TTFT kept, TPOT missed). By the time at
    which they came: output_tokens_per_s (P: the tokens of requests that ended ok, spread evenly from the first token to
    the end of each). NaN where there is nothing to divide by, and for the SLO where a service has none.

    Failures and tokens over all windows are those of the run; so are R weighted by offered, L weighted by answered,
    and P weighted by the windows' lengths, over the run's.
    """
    frame = as_frame(records)
    latencies = request_latencies(frame)
    is_ok = latencies.is_ok
    scheduled_s, finished_s = float_column(frame, "scheduled_s"), float_column(frame, "finished_s")
    last_s = max(end_s, float(scheduled_s.max(initial=0.0)), float(finished_s[is_ok].max(initial=0.0)))
    edges_s = _edges_s(start_s, last_s, window_s)
    windows = len(edges_s) - 1
    window = window_of(scheduled_s, edges_s)
    offered = count_per_window(window, windows)
    failed = count_per_window(window[~is_ok], windows)
    has_tpot = is_ok & ~np.isnan(latencies.tpot_s)
    answered = count_per_window(window[has_tpot], windows)
    tpot_sum_s = np.bincount(window[has_tpot], latencies.tpot_s[has_tpot], minlength=windows + 1)[:windows]
    attained, late, slow = (
        np.full(windows, np.nan) if chosen is None else count_per_window(window[chosen], windows).astype(np.float64)
        for chosen in _kept_and_missed(frame, latencies, slos)
    )
    return pd.DataFrame(
        {
            "start_s": edges_s[:-1],
            "end_s": edges_s[1:],
            "offered": offered,
            "failed": failed,
            "answered": answered,
            "attained": attained,
            "late_first_tokens": late,
            "slow_tokens": slow,
            "failure_fraction": _shares(failed, offered),
            "tpot_mean_s": _shares(tpot_sum_s, answered),
            "output_tokens_per_s": _tokens(frame, is_ok, edges_s) / window_s,
            "attainment_fraction": _shares(attained, offered),
        }
    )


def _edges_s(start_s: float, last_s: float, window_s: float) -> Floats:
    """The edges of windows from `start_s` on; the last edge is the first after `last_s`."""
    most = math.floor((max(last_s, start_s) - start_s) / window_s) + 3
    edges_s = np.asarray(start_s + np.arange(most) * window_s, np.float64)
    return edges_s[: np.searchsorted(edges_s, max(last_s, start_s), side="right") + 1]


def _kept_and_missed(
    frame: pd.DataFrame, latencies: Latencies, slos: Mapping[str, LatencyPromise]
) -> tuple[Mask | None, Mask | None, Mask | None]:
    """Which requests attain the SLO, got their first token late, or further ones too slowly; None = no SLO is set."""
    if not set(frame["service"].unique()) <= set(slos):
        return None, None, None
    is_attained = attained_promise(frame, latencies, slos)
    promised_s = frame["service"].map({service: slo.ttft_s for service, slo in slos.items()}).to_numpy(np.float64)
    is_late = latencies.is_ok & (latencies.ttft_s > promised_s)
    return is_attained, is_late, latencies.is_ok & ~is_attained & ~is_late


def lost_windows(attained: NDArray[np.number], offered: NDArray[np.integer]) -> Mask:
    """Of each window, whether fewer than `HELD_FRACTION` of its requests attain the SLO; one without any loses none."""
    return np.asarray(attained < HELD_FRACTION * offered - _ROUNDING, dtype=np.bool_)


def summarise_windows(windows: pd.DataFrame, window_s: float) -> WindowSummary:
    """Sum up the rows of `windowed_metrics`."""
    offered, attained = windows["offered"].to_numpy(), windows["attained"].to_numpy()
    has_promise = not np.isnan(attained).any()
    missed = offered - attained if has_promise else windows["failed"].to_numpy()
    lost = int(lost_windows(attained, offered).sum()) if has_promise else None
    used = int((offered > 0).sum())
    return WindowSummary(
        window_s=window_s,
        windows=used,
        slo_lost=lost,
        slo_lost_fraction=lost / used if lost is not None and used else None,
        late_first_tokens=int(windows["late_first_tokens"].sum()) if has_promise else None,
        slow_tokens=int(windows["slow_tokens"].sum()) if has_promise else None,
        worst=_window(windows.iloc[int(np.argmax(missed))]) if missed.max(initial=0) > 0 else None,
    )


def _window(row: pd.Series) -> Window:
    return Window(
        start_s=float(row["start_s"]),
        end_s=float(row["end_s"]),
        offered=int(row["offered"]),
        failed=int(row["failed"]),
        failure_fraction=_number(row["failure_fraction"]),
        tpot_mean_s=_number(row["tpot_mean_s"]),
        output_tokens_per_s=float(row["output_tokens_per_s"]),
        attainment_fraction=_number(row["attainment_fraction"]),
    )


def _tokens(frame: pd.DataFrame, is_ok: Mask, edges_s: Floats) -> Floats:
    """Output tokens of requests that ended ok in each window."""
    first_token_s, finished_s = (float_column(frame, name)[is_ok] for name in ("first_token_s", "finished_s"))
    starts_s = np.where(np.isnan(first_token_s), finished_s, first_token_s)
    tokens = spread_evenly(starts_s, finished_s, float_column(frame, "output_tokens")[is_ok], edges_s)
    return np.maximum(tokens, 0.0)


def _shares(parts: NDArray[np.number], wholes: NDArray[np.integer]) -> Floats:
    """Parts / wholes; NaN where there is no whole."""
    shares: Floats = np.divide(parts, wholes, out=np.full(len(wholes), np.nan), where=wholes > 0)
    return shares


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
