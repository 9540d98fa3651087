"""Time for people: round bin widths that keep a series short, and instants as m:ss, h:mm:ss or day and time."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
# Widths that a person can count in: each divides a minute, an hour or a day.
ROUND_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
MOST_BINS = 600
ONE_OF = {MINUTE_S: "1 min", HOUR_S: "1 h", DAY_S: "1 day"}


@dataclass(frozen=True, slots=True)
class TimeBins:
    """Bins of equal width from the run's start: bin i is [i * width_s, (i + 1) * width_s)."""

    width_s: float
    count: int

    @property
    def starts_s(self) -> Floats:
        """f64[count]."""
        return np.arange(self.count, dtype=np.float64) * self.width_s

    @property
    def centres_s(self) -> Floats:
        """f64[count]."""
        return self.starts_s + self.width_s / 2

    def index_of(self, instants_s: Floats) -> NDArray[np.int64]:
        """The bin of each instant; what lies outside goes to the first or last bin, so that nothing is lost."""
        indices = np.floor_divide(instants_s, self.width_s).astype(np.int64)
        clipped: NDArray[np.int64] = np.clip(indices, 0, self.count - 1)
        return clipped

    def count_of(self, instants_s: Floats) -> NDArray[np.int64]:
        """How many of the instants fall into each bin."""
        return np.bincount(self.index_of(instants_s), minlength=self.count)


def bins_over(duration_s: float, *, least_width_s: float = 1.0, most_bins: int = MOST_BINS) -> TimeBins:
    """Cover [0, duration_s] with the narrowest round bins: about `most_bins` at most, none under `least_width_s`.

    An instant at `duration_s` is inside: the last of 60 s in bins of 1 s is bin 60.
    """
    wanted_s = max(duration_s / most_bins, least_width_s)
    width_s = next((float(width) for width in ROUND_WIDTHS_S if width >= wanted_s), None)
    if width_s is None:
        width_s = math.ceil(wanted_s / DAY_S) * DAY_S
    return TimeBins(width_s, math.floor(duration_s / width_s) + 1)


def bins_holding(requests: int, duration_s: float, *, per_bin: int, least_bins: int) -> TimeBins:
    """Cover the run with bins wide enough for `per_bin` requests on average, so that they show more than noise.

    There are about `least_bins` of them however few the requests are, where a second is short enough for that.
    """
    wanted_s = min(duration_s * per_bin / max(requests, 1), duration_s / least_bins)
    return bins_over(duration_s, least_width_s=max(wanted_s, 1.0))


def instant(time_s: float) -> str:
    """An instant as a clock shows it: '0:25', '1:02:05', or 'day 3, 4:10' where a run lasts longer than a day.

    Days count from 1, as on the figure's axis.
    """
    minutes, rest_s = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    if time_s < HOUR_S:
        return f"{minutes}:{rest_s:02d}"
    if time_s < DAY_S:
        return f"{hours}:{minutes:02d}:{rest_s:02d}"
    days, hours = divmod(hours, 24)
    return f"day {days + 1}, {hours}:{minutes:02d}"


def moment(time_s: float, duration_s: float) -> str:
    """An instant of a recording of that length: with its day where there are several, on the first one too."""
    return instant(time_s) if duration_s <= DAY_S or time_s >= DAY_S else f"day 1, {instant(time_s + DAY_S)[7:]}"


def length(duration_s: float) -> str:
    """A length in one unit: '12 s', '1 min', '4.5 min', '3.2 h', '121 days'."""
    if duration_s in ONE_OF:
        return ONE_OF[duration_s]
    if duration_s < 2 * MINUTE_S:
        return f"{duration_s:.0f} s" if duration_s >= 10 else f"{duration_s:.2g} s"
    if duration_s < 2 * HOUR_S:
        return f"{duration_s / MINUTE_S:.3g} min"
    if duration_s < 2 * DAY_S:
        return f"{duration_s / HOUR_S:.3g} h"
    return f"{duration_s / DAY_S:.3g} days"
