"""Bursts: when the load jumps, for how long it stays up, and how unevenly it fills the hours."""

from dataclasses import dataclass

from loadgen.statistics.spread import Spread


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


@dataclass(frozen=True, slots=True)
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
    """

    bin_s: float
    threshold_requests: float
    onsets: int
    onsets_above_5x: int
    per_day: float
    length_s: Spread | None
    requests_fraction: float
    largest: tuple[Burst, ...]


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
