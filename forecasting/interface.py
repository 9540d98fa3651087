"""What a forecaster is told and what it answers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """Quantiles of a count per bin for one service, ahead of the moment of issue.

    Attributes:
        issued_at_s: end of the last observed bin; bin 0 of `values` is [issued_at_s, issued_at_s + bin_s).
        bin_s: length of a bin.
        levels: f64[q], increasing, each in (0, 1).
        values: f64[q, h], counts per bin, >= 0, non-decreasing along the levels (quantiles do not cross).
    """

    issued_at_s: float
    bin_s: float
    levels: NDArray[np.float64]
    values: NDArray[np.float64]


class Forecaster(Protocol):
    """Learns one series of counts bin by bin and answers with quantiles ahead. It has no clock.

    Made by `forecasting.registry.make_forecaster(name, bin_s=..., levels=..., start_s=..., **params)`.
    """

    bin_s: float
    levels: tuple[float, ...]

    def observe(self, counts: NDArray[np.float64]) -> None:
        """Take in the next complete bins, f64[n], oldest first; a bin is given exactly once."""
        ...

    def forecast(self, bins: int) -> Forecast:
        """Forecast the next `bins` bins after the last one observed (values: f64[q, bins])."""
        ...
