"""The arrival processes that a workload model can name, and the way to each one's functions.

A process is a StrictModel with its name as `process`. Beside it stand draw_<process>(process, start_s, end_s, rng),
which gives sorted arrival times in [start_s, end_s), and expected_<process>(process, start_s, end_s), the mean number
of them, which raises ValueError where the process cannot run over that span.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from loadgen.arrivals.batch_jobs import BatchJobs, draw_batch_jobs, expected_batch_jobs
from loadgen.arrivals.counts import CountArrivals, draw_counts, expected_counts
from loadgen.arrivals.gamma import GammaArrivals, draw_gamma, expected_gamma
from loadgen.arrivals.piecewise import Floats
from loadgen.arrivals.weekly import WeeklyArrivals, draw_weekly, expected_weekly

ArrivalProcess = Annotated[GammaArrivals | CountArrivals | WeeklyArrivals | BatchJobs, Field(discriminator="process")]


def draw_process(process: ArrivalProcess, start_s: float, end_s: float, rng: np.random.Generator) -> Floats:
    """Draw the arrival times (s, sorted) of any process in [start_s, end_s)."""
    match process:
        case GammaArrivals():
            return draw_gamma(process, start_s, end_s, rng)
        case CountArrivals():
            return draw_counts(process, start_s, end_s, rng)
        case WeeklyArrivals():
            return draw_weekly(process, start_s, end_s, rng)
        case BatchJobs():
            return draw_batch_jobs(process, start_s, end_s, rng)


def expected_arrivals(process: ArrivalProcess, start_s: float, end_s: float) -> float:
    """The mean number of arrivals of any process in [start_s, end_s).

    Raises:
        ValueError: the process cannot run over that span.
    """
    match process:
        case GammaArrivals():
            return expected_gamma(process, start_s, end_s)
        case CountArrivals():
            return expected_counts(process, start_s, end_s)
        case WeeklyArrivals():
            return expected_weekly(process, start_s, end_s)
        case BatchJobs():
            return expected_batch_jobs(process, start_s, end_s)
