"""Bursts that a number of requests sets off, whenever that number is reached."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from loadgen.arrivals.piecewise import Floats, PiecewiseLinear
from loadgen.strict_config import Positive, StrictModel


class RateBurst(StrictModel):
    """From the arrival with this number on (the first is 1), the rate is `factor` times as high for `duration_s`."""

    kind: Literal["rate"]
    after_requests: PositiveInt
    factor: Positive
    duration_s: Positive


class ShapeBurst(StrictModel):
    """After this arrival the gaps' CV rises in a line to its peak over so many requests, and falls back over as many.

    The gaps are Gamma(1/CV**2, beta) with the beta that holds where the burst begins; so they shrink as the CV grows,
    and the rate rises with its square.

    Source: the burst event of Wang et al., "BurstGPT", arXiv 2401.17644, as their experiment's code has it:
    github.com/HPMLL/BurstGPT, example/ForwardEnd2end/profile_server/server.py, commit 620bdbe (from a CV of 2 to one of
    64 and back over 200 requests each, with beta constant).
    """

    kind: Literal["shape"]
    after_requests: PositiveInt
    rise_requests: PositiveInt
    peak_cv: Annotated[float, Field(gt=0, le=1000)]


Burst = Annotated[RateBurst | ShapeBurst, Field(discriminator="kind")]


def with_rate_burst(rate_per_s: PiecewiseLinear, start_s: float, burst: RateBurst) -> PiecewiseLinear:
    """The rate with a burst that begins at this instant."""
    end_s = min(start_s + burst.duration_s, float(rate_per_s.edges_s[-1]))
    edges_s = np.union1d(rate_per_s.edges_s, [start_s, end_s])
    pieces = rate_per_s.split_at(edges_s)
    factor = np.where((edges_s[:-1] >= start_s) & (edges_s[:-1] < end_s), burst.factor, 1.0)
    return PiecewiseLinear(edges_s, pieces.left * factor, pieces.right * factor)


def shapes_of_burst(burst: ShapeBurst, alpha: float) -> Floats:
    """The Gamma shape of each gap of a burst that begins where the shape is `alpha`, f64[2 rise_requests]."""
    up = np.arange(burst.rise_requests) / burst.rise_requests
    raised = np.concatenate([up, 1.0 - up])
    cv = alpha**-0.5 + (burst.peak_cv - alpha**-0.5) * raised
    shapes: Floats = cv**-2.0
    return shapes
