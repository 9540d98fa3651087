"""What the hours of a trace look like: measures of conversation and API requests per hour."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.trace import Service, Trace

Floats = NDArray[np.float64]

_HOUR_S = 3600.0
_DAY_HOURS, _WEEK_HOURS = 24, 168
_BURST_REQUESTS = 1000
_SCRIPTED = (1366, 1025)


@dataclass(frozen=True, slots=True, eq=False)
class HourlyTraffic:
    """Requests per hour, f64[hours] each, from a midnight on, whole days."""

    conversation: Floats
    api: Floats

    @property
    def all(self) -> Floats:
        """Requests of both services."""
        return self.conversation + self.api

    def days(self, first: int, end: int) -> "HourlyTraffic":
        """The days first to end - 1."""
        hours = slice(first * _DAY_HOURS, end * _DAY_HOURS)
        return HourlyTraffic(self.conversation[hours], self.api[hours])


def hourly_traffic(trace: Trace) -> HourlyTraffic:
    """Count the requests of a trace by hour and service; the hours after its last whole day are left out."""
    hours = int(trace.duration_s // (_DAY_HOURS * _HOUR_S)) * _DAY_HOURS
    counts = [
        np.bincount((trace.arrival_s[trace.service == service] // _HOUR_S).astype(np.int64), minlength=hours)[:hours]
        for service in (Service.CONVERSATION, Service.API)
    ]
    return HourlyTraffic(*(count.astype(np.float64) for count in counts))


def busiest_hours_fraction(requests: Floats) -> float:
    """The share of the requests that comes in the busiest 5 % of the hours."""
    busiest = np.sort(requests)[::-1][: round(0.05 * len(requests))]
    return float(busiest.sum() / requests.sum())


def onsets(requests: Floats, times: float) -> float:
    """Hours with more than so many times the requests of the hour before, and more than 1,000."""
    return float(np.sum((requests[1:] > times * requests[:-1]) & (requests[1:] > _BURST_REQUESTS)))


def week_profile(requests: Floats) -> Floats:
    """The mean requests in each hour of the week, f64[168]."""
    return np.array([requests[hour::_WEEK_HOURS].mean() for hour in range(_WEEK_HOURS)])


def autocorrelation(requests: Floats, lag_hours: int) -> float:
    """Pearson's correlation of an hour with the one so many hours later."""
    return float(np.corrcoef(requests[lag_hours:], requests[:-lag_hours])[0, 1])


def fano(requests: Floats, bin_hours: int) -> float:
    """Variance over mean of the requests in bins of so many hours: 1 for a constant Poisson stream."""
    bins = requests[: len(requests) // bin_hours * bin_hours].reshape(-1, bin_hours).sum(axis=1)
    return float(bins.var() / bins.mean())


def longest_run_hours(is_so: NDArray[np.bool_]) -> float:
    """The most hours in a row of which something holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_so, [False]])))
    return float(np.max(edges[1::2] - edges[::2], initial=0))


def day_cv(requests: Floats) -> float:
    """Standard deviation over mean of the requests of a day."""
    days = requests.reshape(-1, _DAY_HOURS).sum(axis=1)
    return float(days.std() / days.mean())


def scripted_hours(requests: Floats) -> float:
    """Hours that hold an exact multiple of 1,366 or 1,025 requests."""
    return float(sum(np.sum((requests > 0) & (requests % size == 0)) for size in _SCRIPTED))


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that sums up some days of hourly traffic.

    Attributes:
        name: its key.
        title: what it is, in a table.
        of: computes it.
        in_fit: 'yes': the fit sees it; 'alike': the fit sees something close to it; 'no'.
        is_target: the model must show it; otherwise it is a check.
        places: decimal places that say enough.
    """

    name: str
    title: str
    of: Callable[[HourlyTraffic], float]
    in_fit: str = "no"
    is_target: bool = False
    places: int = 2


MEASURES = (
    Measure(
        "busiest_hours_fraction",
        "share in busiest 5 % of h",
        lambda hours: busiest_hours_fraction(hours.all),
        "alike",
        True,
        3,
    ),
    Measure("peak_to_mean", "busiest / mean hour", lambda hours: hours.all.max() / hours.all.mean(), "no", True, 1),
    Measure(
        "api_silent_fraction",
        "share of API-silent hours",
        lambda hours: float(np.mean(hours.api == 0)),
        "alike",
        True,
        3,
    ),
    Measure("onsets_above_2x", "onsets above 2x", lambda hours: onsets(hours.all, 2), "no", True, 0),
    Measure("onsets_above_5x", "onsets above 5x", lambda hours: onsets(hours.all, 5), places=0),
    Measure("requests", "requests", lambda hours: hours.all.sum(), "yes", places=0),
    Measure("conversation_requests", "  conversation", lambda hours: hours.conversation.sum(), "yes", places=0),
    Measure("day_cv", "CV of days", lambda hours: day_cv(hours.all), "alike"),
    Measure("api_day_cv", "  API", lambda hours: day_cv(hours.api), "alike"),
    Measure("conversation_day_cv", "  conversation", lambda hours: day_cv(hours.conversation), "alike", places=3),
    Measure("autocorrelation_1_h", "autocorrelation 1 h", lambda hours: autocorrelation(hours.all, 1), "alike"),
    Measure("autocorrelation_24_h", "autocorrelation 24 h", lambda hours: autocorrelation(hours.all, 24)),
    Measure("autocorrelation_168_h", "autocorrelation 168 h", lambda hours: autocorrelation(hours.all, 168)),
    Measure(
        "conversation_autocorrelation_24_h",
        "  conversation 24 h",
        lambda hours: autocorrelation(hours.conversation, 24),
        "alike",
        places=3,
    ),
    Measure(
        "conversation_autocorrelation_168_h",
        "  conversation 168 h",
        lambda hours: autocorrelation(hours.conversation, 168),
        "alike",
        places=3,
    ),
    Measure("fano_1_h", "Fano factor of hours", lambda hours: fano(hours.all, 1), "alike", places=0),
    Measure("fano_1_day", "Fano factor of days", lambda hours: fano(hours.all, 24), "alike", places=0),
    Measure("conversation_fano_1_day", "  conversation", lambda hours: fano(hours.conversation, 24), "alike", places=0),
    Measure(
        "longest_api_silence_h", "longest API silence (h)", lambda hours: longest_run_hours(hours.api == 0), places=0
    ),
    Measure("longest_api_run_h", "longest API run (h)", lambda hours: longest_run_hours(hours.api > 0), places=0),
    Measure("scripted_hours", "hours of n x 1,366 / 1,025", lambda hours: scripted_hours(hours.api), places=0),
)
"""An onset is an hour with more than so many times the requests of the hour before, and more than 1,000."""
