"""The bookkeeping of what came in and what the fleet did: counts, samples, forecasts, decisions. No Ray, no clock.

Instants are epoch seconds. Bin k of length bin_s is [k * bin_s, (k + 1) * bin_s), the same for everyone.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoscaler.decision_record import DecisionRecord
from autoscaler.interface import ArrivalHistory, QueueSnapshot
from forecasting.interface import Forecast
from loadgen.records import Phase

Line = TypeVar("Line")


@dataclass(frozen=True, slots=True)
class CutOff:
    """A request that an engine did not bring to its end: its id as the client sent it, and where it was."""

    request_id: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class EngineSample:
    """One line of a replica's report: its load, and what it made in the interval that ends at `time_s`.

    Attributes:
        time_s: epoch seconds.
        output_tokens: made in [time_s - interval_s, time_s).
        looked_up_tokens, found_tokens: of requests admitted in that time, the tokens, and those that the prefix cache
            had; None where there is none.
        gpu_memory_fraction, gpu_utilization_fraction: 0..1; None where there is no NVIDIA GPU.
        cut_off: requests that were cut off since the last report that got through.
    """

    replica_id: str
    time_s: float
    interval_s: float
    running: int
    waiting: int
    kv_cache_fraction: float
    output_tokens: int
    looked_up_tokens: int | None = None
    found_tokens: int | None = None
    gpu_memory_fraction: float | None = None
    gpu_utilization_fraction: float | None = None
    cut_off: tuple[CutOff, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        """Output tokens per second over the interval."""
        return self.output_tokens / self.interval_s if self.interval_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class IngressReport:
    """What the ingress tells the monitor, several times a second.

    Attributes:
        ingress_started_s: names the ingress: while an application is redeployed there are two, and the newer counts.
        sequence: 1, 2, ... since the ingress started; a report that is sent again keeps its number.
        as_of_s: every arrival before this instant is in this report or in an earlier one.
        arrivals: (service label, bin, requests) counted since the last report.
        queued: the router's queue now, by service label.
    """

    ingress_started_s: float
    sequence: int
    as_of_s: float
    arrivals: tuple[tuple[str, int, int], ...]
    queued: Mapping[str, QueueSnapshot]


@dataclass(frozen=True, slots=True, eq=False)
class TrafficView:
    """What the policy's loop pulls once a period: the parts of a snapshot that Serve's controller does not know.

    Attributes:
        as_of_s: when the ingress reported last; -inf = never.
    """

    as_of_s: float
    arrivals: Mapping[str, ArrivalHistory]
    queued: Mapping[str, QueueSnapshot]
    samples: Mapping[str, EngineSample]
    forecast: Mapping[str, Forecast] | None


@dataclass(frozen=True, slots=True)
class Collected:
    """Lines that came since a cursor, and the cursor for the next time.

    Attributes:
        cursor: number of the next decision, and of the next sample.
        lost_lines: lines that were dropped before they were collected (the memory is bounded).
        has_more: there are lines that did not fit in.
    """

    decisions: tuple[DecisionRecord, ...]
    samples: tuple[EngineSample, ...]
    cursor: tuple[int, int]
    lost_lines: int
    has_more: bool = False


class ArrivalCounter:
    """Counts arrivals per service and bin between two reports; used by the ingress."""

    def __init__(self, bin_s: float) -> None:
        self._bin_s = bin_s
        self._counts: dict[tuple[str, int], int] = {}

    def count(self, service: str, now_s: float) -> None:
        """Count one arrival."""
        key = (service, math.floor(now_s / self._bin_s))
        self._counts[key] = self._counts.get(key, 0) + 1

    def take(self) -> tuple[tuple[str, int, int], ...]:
        """The counts since the last call; they are then given away."""
        counts, self._counts = self._counts, {}
        return tuple((service, index, count) for (service, index), count in counts.items())


class BoundedLog(Generic[Line]):
    """The last lines of a log; a line's number never changes, so that a reader can go on where it stopped."""

    def __init__(self, capacity: int) -> None:
        self._lines: deque[Line] = deque(maxlen=capacity)
        self.end = 0  # number of the next line

    def append(self, line: Line) -> None:
        """Add a line; the oldest one is dropped when the log is full."""
        self._lines.append(line)
        self.end += 1

    def since(self, cursor: int) -> tuple[tuple[Line, ...], int, int]:
        """(lines from number `cursor` on, number of the next line, lines dropped in between).

        A cursor beyond the end is one of an earlier log that was lost: the reader gets this one from its start.
        """
        if cursor > self.end:
            cursor = 0
        first = self.end - len(self._lines)
        skip = max(cursor - first, 0)
        return tuple(self._lines)[skip:], self.end, max(first - cursor, 0)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)


class TrafficLog:
    """All that is known of one application's traffic, within bounded memory.

    Args:
        services: labels whose arrivals are kept.
        bin_s: length of a bin.
        kept_bins: complete bins that are kept.
        kept_lines: decisions, and samples of all replicas, that are kept until they are collected.
    """

    def __init__(self, services: Sequence[str], bin_s: float, kept_bins: int, kept_lines: int = 50_000) -> None:
        self.bin_s = bin_s
        self._kept_bins = kept_bins
        self._counts: dict[str, dict[int, int]] = {service: {} for service in services}
        self._first_bin: int | None = None  # the first bin that was counted from its start
        self._as_of_s = -math.inf
        self.ingress_started_s = -math.inf
        self._last_sequence = 0
        self._queued: Mapping[str, QueueSnapshot] = {}
        self._latest_samples: dict[str, EngineSample] = {}
        self._samples: BoundedLog[EngineSample] = BoundedLog(kept_lines)
        self._decisions: BoundedLog[DecisionRecord] = BoundedLog(kept_lines)
        self._forecasts: dict[str, Forecast] = {}

    def start(self, now_s: float, ingress_started_s: float) -> None:
        """This ingress counts from now on: the bin under way is not complete, the next one will be.

        Also after an ingress was lost: what came in while none counted is unknown, so the history starts anew.
        """
        self._first_bin = math.ceil(now_s / self.bin_s)
        self._as_of_s = now_s
        self.ingress_started_s = ingress_started_s
        self._last_sequence = 0
        self._forecasts = {}
        for counts in self._counts.values():
            counts.clear()

    def add_report(self, report: IngressReport) -> None:
        """Take in a report; one that was taken in already, or that another ingress sends, is ignored."""
        if report.ingress_started_s != self.ingress_started_s or report.sequence <= self._last_sequence:
            return
        self._last_sequence = report.sequence
        for service, index, requests in report.arrivals:
            counts = self._counts[service]
            counts[index] = counts.get(index, 0) + requests
        self._as_of_s = max(self._as_of_s, report.as_of_s)
        self._queued = report.queued
        oldest = self._end_bin() - self._kept_bins
        for counts in self._counts.values():
            for index in [index for index in counts if index < oldest]:
                del counts[index]

    def add_sample(self, sample: EngineSample) -> None:
        """Take in a replica's sample."""
        self._samples.append(sample)
        self._latest_samples[sample.replica_id] = sample

    def add_decision(self, decision: DecisionRecord) -> None:
        """Take in a decision of the policy."""
        self._decisions.append(decision)

    def set_forecasts(self, forecasts: Mapping[str, Forecast]) -> None:
        """Replace the forecasts, by service label."""
        self._forecasts = dict(forecasts)

    def arrivals(self, start_s: float = -math.inf) -> dict[str, ArrivalHistory]:
        """The complete bins that start at or after `start_s` and are still kept, by service label."""
        end = self._end_bin()
        if self._first_bin is None or end <= self._first_bin:
            return {}
        first = max(self._first_bin, end - self._kept_bins)
        if start_s > -math.inf:
            first = max(first, round(start_s / self.bin_s))
        return {
            service: ArrivalHistory(first * self.bin_s, self.bin_s, _counts_between(counts, first, end))
            for service, counts in self._counts.items()
        }

    def view(self, now_s: float, history_bins: int, sample_age_s: float) -> TrafficView:
        """What the policy may see now: at most `history_bins` bins, and samples not older than `sample_age_s`."""
        self._latest_samples = {
            replica_id: sample
            for replica_id, sample in self._latest_samples.items()
            if now_s - sample.time_s <= sample_age_s
        }
        return TrafficView(
            as_of_s=self._as_of_s,
            arrivals=self.arrivals((self._end_bin() - history_bins) * self.bin_s),
            queued=dict(self._queued),
            samples=dict(self._latest_samples),
            forecast=dict(self._forecasts) or None,
        )

    def collect(self, cursor: tuple[int, int] = (0, 0), most_lines: int | None = None) -> Collected:
        """Decisions and samples since `cursor`, (0, 0) = all that are kept.

        Args:
            most_lines: so many decisions at most, and so many samples and requests that these tell of; None = all.
        """
        decisions, decisions_end, lost_decisions = self._decisions.since(cursor[0])
        samples, samples_end, lost_samples = self._samples.since(cursor[1])
        taken = decisions[:most_lines], samples[: _samples_within(samples, most_lines)]
        left = len(decisions) - len(taken[0]), len(samples) - len(taken[1])
        next_lines = decisions_end - left[0], samples_end - left[1]
        return Collected(*taken, next_lines, lost_decisions + lost_samples, has_more=any(left))

    def latest_cursor(self) -> tuple[int, int]:
        """From here on come the decision that was made last, and all that is new."""
        return max(self._decisions.end - 1, 0), self._samples.end

    def _end_bin(self) -> int:
        """The first bin that is not complete."""
        return math.floor(self._as_of_s / self.bin_s) if self._as_of_s > -math.inf else 0


def _counts_between(counts: Mapping[int, int], first: int, end: int) -> NDArray[np.float64]:
    """Counts of the bins [first, end), zero where none came."""
    return np.array([counts.get(index, 0) for index in range(first, end)], dtype=np.float64)


def _samples_within(samples: Sequence[EngineSample], most_lines: int | None) -> int | None:
    """How many of the samples come to that many lines, with one for each request that was cut off; at least one."""
    if most_lines is None:
        return None
    lines = accumulate(1 + len(sample.cut_off) for sample in samples)
    return max(sum(1 for _ in takewhile(lambda total: total <= most_lines, lines)), 1)
