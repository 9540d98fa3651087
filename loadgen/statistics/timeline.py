"""What arrived when: the recording cut into bins, coarse enough to be drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.trace import Trace

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0

_BINS_S = (1.0, 10.0, MINUTE_S, 10 * MINUTE_S, HOUR_S, 6 * HOUR_S, DAY_S)
_MOST_BINS = 3000

# A recording of 0.3 s holds three bins of 0.1 s, though 0.3 / 0.1 is 2.9999999999999996.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What arrived in each bin, by the time of arrival; bin i is [i * bin_s, (i + 1) * bin_s).

    Attributes:
        bin_s: 1 s, 10 s, 1 min, 10 min, 1 h, 6 h or 1 day: the shortest that gives 3000 bins at most (beyond 3000 days,
            1 day). The same for every part of a trace.
        requests, failures, prompt_tokens, output_tokens: i64[bins]. The recording may end within the last bin.
    """

    bin_s: float
    requests: NDArray[np.int64]
    failures: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


def draw_timeline(trace: Trace) -> Timeline:
    """Count what arrived, by bins that a plot can show."""
    bin_s = next((bin_s for bin_s in _BINS_S if trace.duration_s <= bin_s * _MOST_BINS), _BINS_S[-1])
    index = (trace.arrival_s / bin_s).astype(np.int64)
    bins = max(1, int(np.ceil(trace.duration_s / bin_s - _ROUNDING)))

    def count(weights: NDArray[np.number] | None = None) -> NDArray[np.int64]:
        return np.bincount(np.minimum(index, bins - 1), weights, minlength=bins).astype(np.int64)

    return Timeline(
        bin_s=bin_s,
        requests=count(),
        failures=count(trace.output_tokens == 0),
        prompt_tokens=count(trace.prompt_tokens),
        output_tokens=count(trace.output_tokens),
    )


def complete_bins(duration_s: float, bin_s: float) -> int:
    """How many bins of this length the recording holds to their end."""
    return int(duration_s / bin_s + _ROUNDING)


def bin_counts(arrival_s: NDArray[np.float64], duration_s: float, bin_s: float) -> NDArray[np.int64]:
    """The arrivals in each complete bin, i64[bins]; those after the last one are left out."""
    bins = complete_bins(duration_s, bin_s)
    index = (arrival_s[: np.searchsorted(arrival_s, bins * bin_s)] / bin_s).astype(np.int64)
    return np.bincount(np.minimum(index, bins - 1), minlength=bins)


def busy_bin_counts(arrival_s: NDArray[np.float64], bin_s: float) -> NDArray[np.int64]:
    """The arrivals in each bin that has any, in order of time: short bins of a long recording take no memory."""
    index = np.floor(arrival_s / bin_s)
    firsts = np.flatnonzero(index[1:] != index[:-1]) + 1
    return np.diff(firsts, prepend=0, append=len(arrival_s)) if len(arrival_s) else firsts
