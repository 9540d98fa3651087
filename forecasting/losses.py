"""How wrong a forecast was: plain functions of what came and what was said, arrays of one shape, mean over all.

`actual` and forecasts are in the series' own unit (requests per bin, tokens per bin), and so are the losses.
"""

import numpy as np
from numpy.typing import NDArray


def pinball(actual: NDArray[np.float64], quantile: NDArray[np.float64], level: float) -> float:
    """Mean pinball loss of quantile forecasts at `level`: what comes on top costs `level`, what is missing 1 - level.

    Its minimum is at the true quantile.

    Source: Koenker and Bassett, "Regression Quantiles", Econometrica 46 (1978), the check function.
    """
    return float(np.mean(pinball_losses(actual, quantile, level)))


def pinball_losses(
    actual: NDArray[np.float64], quantile: NDArray[np.float64], level: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """The pinball loss of each forecast, before any averaging; arguments are broadcast."""
    above = actual - quantile
    losses: NDArray[np.float64] = np.maximum(level * above, (level - 1.0) * above)
    return losses


def coverage(actual: NDArray[np.float64], quantile: NDArray[np.float64]) -> float:
    """Share of outcomes that the quantile covered (actual <= quantile), 0..1.

    A calibrated forecast covers its level, or more where the outcomes pile up on one value, such as 0.
    """
    return float(np.mean(actual <= quantile))


def wape(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Weighted absolute percentage error as a share: the sum of absolute errors per unit of what came.

    Where nothing came at all it is 0 for a forecast of exactly nothing, else infinite.
    """
    error = float(np.sum(np.abs(actual - predicted)))
    total = float(np.sum(np.abs(actual)))
    if total == 0.0:
        return 0.0 if error == 0.0 else float("inf")
    return error / total


def interval_score(
    actual: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64], level: float
) -> float:
    """Mean interval score of central intervals meant to cover `level`: width, plus a fine for each miss.

    The fine is 2 / (1 - level) per unit by which the outcome lies outside: 20 at a level of 0.9.

    Source: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102 (2007), eq. 43.
    """
    fine = 2.0 / (1.0 - level)
    below = np.maximum(lower - actual, 0.0)
    above = np.maximum(actual - upper, 0.0)
    return float(np.mean((upper - lower) + fine * (below + above)))
