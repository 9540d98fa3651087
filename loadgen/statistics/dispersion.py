"""How uneven the counts of arrivals are, by the length of the window in which they are counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.timeline import busy_bin_counts, complete_bins

_WINDOWS_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 10_800.0, 21_600.0, 86_400.0)
_LEAST_WINDOWS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Dispersion:
    """Fano factors: variance / mean of the requests per window; 1 = Poisson at that scale, more = bursts.

    Attributes:
        window_s: f64[k], ascending: 1 s to 1 day as far as the recording holds ten complete windows, none below the
            tick of the times.
        fano: f64[k]; NaN (JSON: null) where the complete windows hold no request.
    """

    window_s: NDArray[np.float64]
    fano: NDArray[np.float64]


def measure_dispersion(arrival_s: NDArray[np.float64], duration_s: float, resolution_s: float) -> Dispersion:
    """Measure the Fano factor for windows from 1 s to 1 day."""
    windows_s = [
        window_s
        for window_s in _WINDOWS_S
        if window_s >= resolution_s and complete_bins(duration_s, window_s) >= _LEAST_WINDOWS
    ]
    return Dispersion(
        window_s=np.array(windows_s, dtype=np.float64),
        fano=np.array([_fano_factor(arrival_s, duration_s, window_s) for window_s in windows_s], dtype=np.float64),
    )


def _fano_factor(arrival_s: NDArray[np.float64], duration_s: float, window_s: float) -> float:
    windows = complete_bins(duration_s, window_s)
    counts = busy_bin_counts(arrival_s[: np.searchsorted(arrival_s, windows * window_s)], window_s)
    requests = float(counts.sum())
    if requests == 0:
        return float("nan")
    squares = float(np.square(counts, dtype=np.float64).sum())
    variance = (squares - requests**2 / windows) / (windows - 1)
    return variance / (requests / windows)
