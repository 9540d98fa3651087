"""What arrived when: the recording cut into bins, coarse enough to be drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
