"""Bursts: when the load jumps, for how long it stays up, and how unevenly it fills the hours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc

from loadgen.statistics.spread import Spread, spread
from loadgen.statistics.timeline import DAY_S, HOUR_S, MINUTE_S, bin_counts

_JUMP = 2  # times the level before
_GREAT_JUMP = 5
_LEVEL_BINS = 10
_CHANCE = 1e-4
_BUSIEST = 0.05
_LEAST_HOURS = 20  # of fewer hours the busiest 5 % are none
_LARGEST = 20


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst.

    Attributes:
        start_s: start of the bin in which the load jumps.
        length_s: until the first bin that is back down (see `BurstCount`), or that jumps again.
        requests: those that arrive in it.
        growth: requests of the first bin / of the level before; None = there was nothing before.
    """

    start_s: float
    length_s: float
    requests: int
    growth: float | None


@dataclass(frozen=True, slots=True, eq=False)
class BurstCount:
    """The bursts that show in bins of one length.

    Attributes:
        bin_s: length of a bin; only complete bins count.
        threshold_requests: a bin of a burst holds more than this.
        onsets: bursts in the recording.
        onsets_above_5x: of them, with 5 times the level before (or nothing before).
        per_day: onsets per 24 h.
        length_s: None = no burst.
        requests_fraction: share of all requests that arrives within bursts.
        largest: the 20 bursts with most requests, in order of time.
        onset_s, lengths_s: f64[onsets], when each burst begins and how long it lasts, in order of time.
        growths: f64[onsets], requests of the first bin / of the level before; infinity = there was nothing before.
    """

    bin_s: float
    threshold_requests: float
    onsets: int
    onsets_above_5x: int
    per_day: float
    length_s: Spread | None
    requests_fraction: float
    largest: tuple[Burst, ...]
    onset_s: NDArray[np.float64]
    lengths_s: NDArray[np.float64]
    growths: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bursts:
    """Bursts by the hour and by the minute, and how the requests are shared among the hours.

    By the hour: an onset is an hour with more than twice the requests of the hour before, and more than the mean hour;
    the burst lasts while hours stay above the mean. By the minute: an onset is a minute with more than twice the mean
    of the ten minutes before it and more than the mean minute, so many that a Poisson stream at the higher of these two
    means shows them once in 10,000 minutes; the burst lasts while minutes stay above both.

    Attributes:
        by_hour: None = fewer than two complete hours.
        by_minute: None = fewer than eleven complete minutes.
        hours: complete hours of the recording.
        peak_to_mean: busiest complete hour / mean hour; None = fewer than two complete hours, or nothing in them.
        busiest_hours_fraction: share of the requests in the busiest 5 % of the hours (their number is rounded); None =
            fewer than 20 hours.
        silent_hours_fraction: share of the hours without a request; None = no complete hour.
    """

    by_hour: BurstCount | None
    by_minute: BurstCount | None
    hours: int
    peak_to_mean: float | None
    busiest_hours_fraction: float | None
    silent_hours_fraction: float | None


def find_bursts(arrival_s: NDArray[np.float64], duration_s: float) -> Bursts:
    """Find the bursts by the hour and by the minute."""
    by_hour = bin_counts(arrival_s, duration_s, HOUR_S)
    requests, hours = int(by_hour.sum()), len(by_hour)
    busiest = np.sort(by_hour)[hours - round(hours * _BUSIEST) :] if hours >= _LEAST_HOURS else None
    return Bursts(
        by_hour=_hourly_bursts(by_hour) if hours >= 2 else None,
        by_minute=find_bursts_by(arrival_s, duration_s, MINUTE_S),
        hours=hours,
        peak_to_mean=float(by_hour.max() / by_hour.mean()) if hours >= 2 and requests else None,
        busiest_hours_fraction=float(busiest.sum() / requests) if busiest is not None and requests else None,
        silent_hours_fraction=float(np.mean(by_hour == 0)) if hours else None,
    )


def find_bursts_by(
    arrival_s: NDArray[np.float64], duration_s: float, bin_s: float, level_bins: int = _LEVEL_BINS
) -> BurstCount | None:
    """The bursts that bins of `bin_s` show, by the rule that `Bursts` states for minutes.

    Args:
        level_bins: the level before is the mean of so many bins; None is returned where there are not more than these.
    """
    requests = bin_counts(arrival_s, duration_s, bin_s)
    return _bursts_over_level(requests, bin_s, level_bins) if len(requests) > level_bins else None


def _hourly_bursts(requests: NDArray[np.int64]) -> BurstCount:
    threshold = float(requests.mean())
    is_onset = (requests[1:] > _JUMP * requests[:-1]) & (requests[1:] > threshold)
    onsets = np.flatnonzero(is_onset) + 1
    is_down = requests <= threshold
    is_down[onsets] = True  # where a next burst begins, the one before ends
    ends = np.append(np.flatnonzero(is_down), len(requests))
    found = [(onset, int(ends[np.searchsorted(ends, onset, side="right")])) for onset in onsets.tolist()]
    levels = [float(requests[onset - 1]) for onset, _ in found]
    return _burst_count(HOUR_S, threshold, requests, found, levels)


def _bursts_over_level(requests: NDArray[np.int64], bin_s: float, level_bins: int) -> BurstCount:
    mean = float(requests.mean())
    total = np.concatenate([[0], np.cumsum(requests)])
    level = np.full(len(requests), np.inf)
    level[level_bins:] = (total[level_bins:-1] - total[: -level_bins - 1]) / level_bins
    is_beyond_chance = pdtrc(requests - 1.0, np.maximum(level, mean)) < _CHANCE
    onsets = np.flatnonzero((requests > _JUMP * level) & (requests > mean) & is_beyond_chance)
    found: list[tuple[int, int]] = []
    for onset in onsets.tolist():
        if not found or onset >= found[-1][1]:
            found.append((onset, _first_at_most(requests, onset, max(_JUMP * float(level[onset]), mean))))
    return _burst_count(bin_s, mean, requests, found, [float(level[onset]) for onset, _ in found])


def _first_at_most(requests: NDArray[np.int64], start: int, level: float) -> int:
    """The first bin from `start` on with at most `level` requests, or the number of bins."""
    while start < len(requests):
        piece = np.flatnonzero(requests[start : start + 256] <= level)
        if len(piece):
            return start + int(piece[0])
        start += 256
    return len(requests)


def _burst_count(
    bin_s: float,
    threshold_requests: float,
    requests: NDArray[np.int64],
    found: list[tuple[int, int]],
    levels: list[float],
) -> BurstCount:
    """Sum up bursts, each from bin `first` up to and without bin `end`, with the level before each."""
    total = np.concatenate([[0], np.cumsum(requests)])
    bursts = [
        Burst(
            start_s=first * bin_s,
            length_s=(end - first) * bin_s,
            requests=int(total[end] - total[first]),
            growth=float(requests[first]) / level if level else None,
        )
        for (first, end), level in zip(found, levels, strict=True)
    ]
    largest = sorted(bursts, key=lambda burst: -burst.requests)[:_LARGEST]
    return BurstCount(
        bin_s=bin_s,
        threshold_requests=threshold_requests,
        onsets=len(bursts),
        onsets_above_5x=sum(burst.growth is None or burst.growth > _GREAT_JUMP for burst in bursts),
        per_day=len(bursts) / (len(requests) * bin_s / DAY_S),
        length_s=spread([burst.length_s for burst in bursts]) if bursts else None,
        requests_fraction=sum(burst.requests for burst in bursts) / max(1, int(total[-1])),
        largest=tuple(sorted(largest, key=lambda burst: burst.start_s)),
        onset_s=np.array([burst.start_s for burst in bursts]),
        lengths_s=np.array([burst.length_s for burst in bursts]),
        growths=np.array([np.inf if burst.growth is None else burst.growth for burst in bursts]),
    )
