"""Arrivals by the model of the BurstGPT paper: Gamma gaps with a rate and a shape that change with time."""

from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from loadgen.arrivals.bursts import Burst
from loadgen.arrivals.piecewise import Floats, PiecewiseLinear
from loadgen.arrivals.renewal import draw_renewal, expected_renewal
from loadgen.arrivals.schedule import CURVE_PIECES, Value, over_time
from loadgen.strict_config import StrictModel


class GammaArrivals(StrictModel):
    """Gaps between arrivals are Gamma(alpha, beta): burstier the smaller alpha is (CV = 1/sqrt(alpha); 1 = Poisson).

    Their size is given either as a rate or as beta, which are the same by rate = 1/(alpha beta).

    Source: Wang et al., "BurstGPT", arXiv 2401.17644: Gamma gaps with changing alpha and beta.

    Attributes:
        rate_per_s: arrivals per second.
        beta_s: scale of the gaps, in place of `rate_per_s`.
        alpha: shape of the gaps.
        bursts: each begins after so many requests of this stream.
    """

    process: Literal["gamma"]
    rate_per_s: Value | None = None
    beta_s: Value | None = None
    alpha: Value = 1.0
    bursts: tuple[Burst, ...] = ()

    @model_validator(mode="after")
    def _check_rate(self) -> Self:
        if (self.rate_per_s is None) == (self.beta_s is None):
            raise ValueError("give either rate_per_s or beta_s")
        return self


def draw_gamma(process: GammaArrivals, start_s: float, end_s: float, rng: np.random.Generator) -> Floats:
    """Draw the arrival times (s, sorted) in [start_s, end_s)."""
    return draw_renewal(*_rate_and_alpha(process, start_s, end_s), rng, process.bursts)


def expected_gamma(process: GammaArrivals, start_s: float, end_s: float) -> float:
    """The mean number of arrivals in [start_s, end_s).

    Raises:
        ValueError: the rate, beta or alpha falls too low in that span.
    """
    return expected_renewal(*_rate_and_alpha(process, start_s, end_s), process.bursts)


def _rate_and_alpha(process: GammaArrivals, start_s: float, end_s: float) -> tuple[PiecewiseLinear, PiecewiseLinear]:
    """The rate (1/s) and the Gamma shape over a span."""
    alpha = _at_least(0.01, "alpha", process.alpha, start_s, end_s)
    if process.rate_per_s is not None:
        return _at_least(0.0, "rate_per_s", process.rate_per_s, start_s, end_s), alpha
    assert process.beta_s is not None, "one of the two is given"
    beta_s = _at_least(1e-9, "beta_s", process.beta_s, start_s, end_s)
    edges_s = np.union1d(alpha.edges_s, beta_s.edges_s)
    if not (np.array_equal(alpha.left, alpha.right) and np.array_equal(beta_s.left, beta_s.right)):
        # 1/(alpha beta) is a curve where either moves.
        edges_s = np.union1d(edges_s, np.linspace(start_s, end_s, CURVE_PIECES + 1))
    fine_alpha, fine_beta_s = alpha.split_at(edges_s), beta_s.split_at(edges_s)
    rate_per_s = PiecewiseLinear(
        edges_s, 1 / (fine_alpha.left * fine_beta_s.left), 1 / (fine_alpha.right * fine_beta_s.right)
    )
    return rate_per_s, alpha


def _at_least(lowest: float, what: str, value: Value, start_s: float, end_s: float) -> PiecewiseLinear:
    """The value on the span, which only there shows how low its curve falls."""
    course = over_time(value, start_s, end_s)
    reached = float(min(course.left.min(), course.right.min()))
    if reached < lowest:
        raise ValueError(f"{what} falls to {reached:g}; want at least {lowest:g} at all times")
    return course
