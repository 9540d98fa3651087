"""How often the request volume doubles within minutes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from loadgen.statistics.timeline import DAY_S, MINUTE_S, bin_counts, complete_bins

_WEEK_DAYS = 7
_CHANCE = 1e-3


@dataclass(frozen=True, slots=True)
class DoublingCount:
    """How often one bin holds at least twice the requests of the bin before it, which holds at least one.

    Attributes:
        bin_s: the recording is cut into bins of this length from its start; only complete bins count.
        pairs: neighbouring bins compared.
        doublings: of them, in the whole recording.
        per_workday: mean over the workdays; None = not one complete day.
        beyond_chance: doublings that a steady rate would show in fewer than one of 1000 pairs of as many requests.
        beyond_chance_per_workday: their mean over the workdays; None = not one complete day.
    """

    bin_s: float
    pairs: int
    doublings: int
    per_workday: float | None
    beyond_chance: int
    beyond_chance_per_workday: float | None


@dataclass(frozen=True, slots=True)
class Doublings:
    """Doublings from 5 minutes to the next 5 and from 10 to the next 10.

    Attributes:
        workdays: complete days that count as workdays.
        weekend_known: a trace knows no calendar: the weekend is the two neighbouring days of the week with the fewest
            requests. It takes two complete weeks to see it; with less, every complete day counts as a workday.
        within_5_min, within_10_min: the counts.
    """

    workdays: int
    weekend_known: bool
    within_5_min: DoublingCount
    within_10_min: DoublingCount


@dataclass(frozen=True, slots=True, eq=False)
class Workdays:
    """Which complete days of a recording are workdays: is_workday bool[days]; `weekend_known` as in `Doublings`."""

    is_workday: NDArray[np.bool_]
    weekend_known: bool


def find_workdays(arrival_s: NDArray[np.float64], duration_s: float) -> Workdays:
    """Tell workdays from weekends by the traffic: the weekend is the quietest pair of neighbouring days of the week.

    Days and weeks count from the start of the recording. Of each day of the week the median over the complete weeks
    counts, so that a holiday moves nothing.
    """
    requests = bin_counts(arrival_s, duration_s, DAY_S)
    weeks = len(requests) // _WEEK_DAYS
    if weeks < 2:
        return Workdays(np.ones(len(requests), dtype=np.bool_), weekend_known=False)
    typical = np.median(requests[: weeks * _WEEK_DAYS].reshape(weeks, _WEEK_DAYS), axis=0)
    first = int(np.argmin(typical + np.roll(typical, -1)))
    day_of_week = np.arange(len(requests)) % _WEEK_DAYS
    is_weekend = (day_of_week == first) | (day_of_week == (first + 1) % _WEEK_DAYS)
    return Workdays(~is_weekend, weekend_known=True)


def count_doublings(arrival_s: NDArray[np.float64], duration_s: float, workdays: Workdays) -> Doublings:
    """Count how often the volume doubles from one bin to the next.

    Source: Wang et al., "BurstGPT", arXiv 2401.17644, counts 65 doublings of ChatGPT's request volume within 5 minutes
    and 38 within 10 on an average workday. Neighbouring bins are the reading of "within" under which the longer time
    can give fewer; that it gives these very numbers on the authors' file is not verified.
    """
    return Doublings(
        workdays=int(np.count_nonzero(workdays.is_workday)),
        weekend_known=workdays.weekend_known,
        within_5_min=_count_doublings(arrival_s, duration_s, 5 * MINUTE_S, workdays.is_workday),
        within_10_min=_count_doublings(arrival_s, duration_s, 10 * MINUTE_S, workdays.is_workday),
    )


def _count_doublings(
    arrival_s: NDArray[np.float64], duration_s: float, bin_s: float, is_workday: NDArray[np.bool_]
) -> DoublingCount:
    requests = bin_counts(arrival_s, duration_s, bin_s)
    before, after = requests[:-1], requests[1:]
    is_doubling = (before > 0) & (after >= 2 * before)
    # At a steady rate each request of a pair falls into either bin with probability 1/2.
    is_beyond_chance = is_doubling & (bdtrc(after - 1, before + after, 0.5) < _CHANCE)
    return DoublingCount(
        bin_s=bin_s,
        pairs=len(before),
        doublings=int(np.count_nonzero(is_doubling)),
        per_workday=_per_workday(is_doubling, bin_s, is_workday),
        beyond_chance=int(np.count_nonzero(is_beyond_chance)),
        beyond_chance_per_workday=_per_workday(is_beyond_chance, bin_s, is_workday),
    )


def _per_workday(is_doubling: NDArray[np.bool_], bin_s: float, is_workday: NDArray[np.bool_]) -> float | None:
    """Doublings per workday; one belongs to the day of its second bin."""
    if not is_workday.any():
        return None
    day = (np.flatnonzero(is_doubling) + 1) // complete_bins(DAY_S, bin_s)
    day = day[day < len(is_workday)]
    return float(np.count_nonzero(is_workday[day]) / np.count_nonzero(is_workday))
