"""The numbers that a trace may hold."""

import math
from typing import Any

INT32_MAX = 2**31 - 1

LATEST = 1e15
"""No time or rate is greater (10^15): up to it, a float tells whole seconds apart."""


def within(column: Any, high: float = math.inf) -> bool:
    """Whether all values of a pyarrow column that are not null are from 0 to `high`; NaN is not."""
    array = column.drop_null().to_numpy() if column.null_count else column.to_numpy()
    return len(array) == 0 or bool(array.min() >= 0 and array.max() <= high)
