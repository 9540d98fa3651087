"""The daily and the weekly cycle of the hourly counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Periodicity:
    """Cycles in the requests per complete hour. Hours count from the start of the recording, not from midnight.

    What needs a longer recording than there is, or counts that vary, is None.

    Attributes:
        hours: complete hours of the recording.
        autocorrelation: f64[lags + 1], the correlation of the counts with those `lag` hours later, lag 0 (always 1) up
            to 336 h (two weeks) or half of the recording; NaN where either part does not vary. Needs 2 h.
        at_24_h, at_168_h: the autocorrelation a day and a week later. Need 48 h and 336 h.
        hour_of_day: f64[24], mean requests in each hour of the day. Needs 24 h.
        hour_of_week: f64[168], mean requests in each hour of the week; NaN in those that the recording does not cover.
            Needs 24 h.
        daily_fraction: share of the counts' variance that the hour of the day explains, adjusted for the 24 means that
            noise would explain too; 0 to 1. Needs 48 h.
        weekly_fraction: the same of the hour of the week, so the daily cycle included. Needs 336 h.
    """

    hours: int
    autocorrelation: NDArray[np.float64] | None
    at_24_h: float | None
    at_168_h: float | None
    hour_of_day: NDArray[np.float64] | None
    hour_of_week: NDArray[np.float64] | None
    daily_fraction: float | None
    weekly_fraction: float | None
