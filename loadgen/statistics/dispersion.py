"""How uneven the counts of arrivals are, by the length of the window in which they are counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
