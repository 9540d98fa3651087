"""Seasonal: the profile of past seasons (days, as a rule), moved to the present level."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.residuals import ResidualForecaster, setting

# The share of the season's mean that is added to profile and level before one is divided by the other. Without it a
# few requests at a usually empty hour would blow up the forecast, and a zero in the profile would stay a zero in the
# middle of a burst. Loss at 0.9 on BurstGPT's hours and minutes: within 3 % from 0.02 to 0.3, up to 9 % worse at 1.
_OFFSET_FRACTION = 0.1


@dataclass(kw_only=True, eq=False)
class Seasonal(ResidualForecaster):
    """The usual count at that time of the season, scaled by how busy it is now, with quantiles of its own past errors.

    The profile is an exponentially weighted mean of past seasons at the same phase, averaged over neighbouring phases.
    Until one full season is known it is last value with the same `window_bins`.

    Attributes:
        season_bins: bins in a season: 1440 for a day of minutes.
        window_bins: recent bins that tell how busy it is now. Longer than last value's, since the profile follows the
            day: loss at 0.9 with 6, 12, 30 is 362, 335, 324 ten minutes ahead on BurstGPT tokens per minute.
        scale_by_level: False = the profile alone, whatever happens now.
        season_weight: weight of the latest season in the profile (a plain mean until that many are known).
        smoothing_fraction: the profile at a phase is the mean over that share of the season to either side of it;
            single bins are noise (BurstGPT minutes, 4 days known: loss at 0.9 of the profile alone 379 with 0,
            351 with 0.01, 351 with 0.02).
    """

    season_bins: int = setting(1440, at_least=2, at_most=10_000_000)
    window_bins: int = setting(12, at_least=1, at_most=100_000)
    scale_by_level: bool = True
    season_weight: float = setting(0.3, at_least=0.01, at_most=1.0)
    smoothing_fraction: float = setting(0.01, at_least=0.0, at_most=0.25)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._side_bins = int(self.smoothing_fraction * self.season_bins)
        self._raw = np.zeros(self.season_bins)
        self._smooth = np.zeros(self.season_bins)
        self._recent: deque[float] = deque(maxlen=self.window_bins)
        self._recent_usual: deque[float] = deque(maxlen=self.window_bins)

    def _learn(self, count: float) -> None:
        seasons, phase = divmod(self._observed_bins, self.season_bins)
        self._recent.append(count)
        if seasons > 0:
            self._recent_usual.append(float(self._smooth[phase]))
        self._raw[phase] += max(self.season_weight, 1.0 / (seasons + 1)) * (count - self._raw[phase])
        if seasons > 0:
            # The latest phase whose neighbours on both sides are now up to date; until then it keeps its old mean.
            middle = phase - self._side_bins
            around = np.arange(middle - self._side_bins, phase + 1) % self.season_bins
            self._smooth[middle % self.season_bins] = self._raw[around].mean()
        elif phase == self.season_bins - 1:
            self._start_profile()

    def _start_profile(self) -> None:
        """Smooth the first full season, and read from it what was usual in the recent bins."""
        side = self._side_bins
        wrapped = np.pad(self._raw, side, mode="wrap")
        sums = np.concatenate(([0.0], np.cumsum(wrapped)))
        width = 2 * side + 1
        # A difference of running sums can fall below 0 by a rounding error.
        self._smooth[:] = np.maximum((sums[width:] - sums[:-width]) / width, 0.0)
        recent_phases = np.arange(-len(self._recent), 0) % self.season_bins
        self._recent_usual.extend(self._smooth[recent_phases].tolist())

    def _points(self, bins: int) -> NDArray[np.float64]:
        level = sum(self._recent) / len(self._recent) if self._recent else 0.0
        if self._observed_bins < self.season_bins:
            return np.full(bins, level)
        phases = (self._observed_bins + np.arange(bins)) % self.season_bins
        usual: NDArray[np.float64] = self._smooth[phases]
        if not self.scale_by_level:
            return usual
        offset = _OFFSET_FRACTION * float(self._smooth.mean())
        usual_level = sum(self._recent_usual) / len(self._recent_usual) + offset
        if usual_level == 0.0:  # never anything yet: there is no profile to scale
            return np.full(bins, level)
        points: NDArray[np.float64] = np.maximum((usual + offset) * (level + offset) / usual_level - offset, 0.0)
        return points
