"""How a run met its bursts: from the jump of the load to the decision, the replica, and the SLO held again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadgen.metrics import LatencyPromise, attained_promise, float_column, request_latencies
from loadgen.statistics.bursts import BurstCount, find_bursts_by
from loadgen.statistics.timeline import HOUR_S, MINUTE_S
from loadgen.windows import lost_windows
from testbed.fleet_metrics import target_changes

# The SLO is held again from the first of so many windows in a row in which it is not lost.
_WINDOWS_HELD = 3
# Bursts are looked for as in descriptions of traces: by the minute, against the ten minutes before. A run of less than
# an hour has too few minutes: by 5 s, against the 20 s before.
_SHORT_BIN_S, _SHORT_LEVEL_BINS = 5.0, 4
_MOST_LISTED = 20
# What waits at the end of a burst still fails for so long.
_AFTERMATH_S = 60.0


@dataclass(frozen=True, slots=True)
class BurstResponse:
    """One burst and what the fleet made of it; times count from its onset.

    Attributes:
        onset_s: start of the bin in which the load jumps.
        growth: requests of that bin / of the level before; None = there was nothing before.
        requests, failed: that were scheduled within the burst.
        decided_after_s: the first decision for more replicas, before the next burst; None = none was made.
        ready_after_s: the first replica that was asked for after the onset is ready; None = none before the next burst.
        is_slo_lost: whether the SLO was lost in a window of the burst.
        regained_after_s: the SLO is held again; None = it was not lost, or not regained to the end of the run.
    """

    onset_s: float
    length_s: float
    growth: float | None
    requests: int
    failed: int
    decided_after_s: float | None
    ready_after_s: float | None
    is_slo_lost: bool
    regained_after_s: float | None


@dataclass(frozen=True, slots=True)
class BurstSummary:
    """The bursts of a run.

    Attributes:
        bin_s: length of the bins by which they were found.
        slo_lost, slo_regained: bursts in which the SLO was lost, and of these those after which it was held again.
        failed: requests that were scheduled within bursts and did not end ok.
        decided_after_s, ready_after_s, regained_after_s: medians over the bursts that have one.
        worst: the 20 bursts with most failures (of equals those with most requests), in order of time.
    """

    bin_s: float
    bursts: int
    requests: int
    failed: int
    slo_lost: int
    slo_regained: int
    decided_after_s: float | None
    ready_after_s: float | None
    regained_after_s: float | None
    worst: tuple[BurstResponse, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for summary.json."""
        return asdict(self)


def summarise_bursts(
    records: pd.DataFrame,
    decisions: Sequence[Mapping[str, Any]],
    replicas: pd.DataFrame,
    slos: Mapping[str, LatencyPromise],
    *,
    duration_s: float,
    initial_replicas: int,
    warm_up_s: float = 0.0,
) -> BurstSummary | None:
    """Find the bursts of the offered load and how the fleet answered each; None = the run is too short to have any.

    Those that begin in the first `warm_up_s` do not count.
    """
    scheduled_s = float_column(records, "scheduled_s")
    found = _find_bursts(scheduled_s, duration_s)
    if found is None:
        return None
    bin_s = found.bin_s
    latencies = request_latencies(records)
    is_held = _windows_held(scheduled_s, attained_promise(records, latencies, slos), bin_s)
    ups_s = [time_s for time_s, change in target_changes(decisions, initial_replicas) if change > 0]
    asked_s, ready_s = _starts(replicas)
    failed_s = np.sort(scheduled_s[~latencies.is_ok])
    next_onsets_s = np.append(found.onset_s, np.inf)[1:]
    responses = []
    columns = (found.onset_s, found.lengths_s, found.growths, next_onsets_s)
    for onset_s, length_s, growth, next_s in zip(*(column.tolist() for column in columns), strict=True):
        if onset_s < warm_up_s:
            continue
        is_answer = (asked_s >= onset_s) & (asked_s < next_s)
        is_slo_lost, regained_after_s = _slo(is_held, bin_s, onset_s, length_s)
        responses.append(
            BurstResponse(
                onset_s=onset_s,
                length_s=length_s,
                growth=growth if math.isfinite(growth) else None,
                requests=_count_between(scheduled_s, onset_s, onset_s + length_s),
                failed=_count_between(failed_s, onset_s, onset_s + length_s),
                decided_after_s=_first_after(np.array(ups_s), onset_s, next_s),
                ready_after_s=_first_after(np.sort(ready_s[is_answer]), onset_s, next_s),
                is_slo_lost=is_slo_lost,
                regained_after_s=regained_after_s,
            )
        )
    return _sum_up(responses, bin_s)


def burst_before(bursts: Sequence[Mapping[str, Any]], instant_s: float) -> Mapping[str, Any] | None:
    """The last of the bursts, as in summary.json, that was going on at an instant or had ended shortly before."""
    near = [
        burst for burst in bursts if burst["onset_s"] <= instant_s < burst["onset_s"] + burst["length_s"] + _AFTERMATH_S
    ]
    return max(near, key=lambda burst: float(burst["onset_s"]), default=None)


def _find_bursts(scheduled_s: NDArray[np.float64], duration_s: float) -> BurstCount | None:
    """The bursts of the offered load, by the rule that goes with the run's length."""
    if duration_s < HOUR_S:
        return find_bursts_by(scheduled_s, duration_s, _SHORT_BIN_S, _SHORT_LEVEL_BINS)
    return find_bursts_by(scheduled_s, duration_s, MINUTE_S)


def _sum_up(responses: list[BurstResponse], bin_s: float) -> BurstSummary:
    worst = sorted(responses, key=lambda burst: (-burst.failed, -burst.requests))[:_MOST_LISTED]
    return BurstSummary(
        bin_s=bin_s,
        bursts=len(responses),
        requests=sum(burst.requests for burst in responses),
        failed=sum(burst.failed for burst in responses),
        slo_lost=sum(burst.is_slo_lost for burst in responses),
        slo_regained=sum(burst.regained_after_s is not None for burst in responses),
        decided_after_s=_median([burst.decided_after_s for burst in responses]),
        ready_after_s=_median([burst.ready_after_s for burst in responses]),
        regained_after_s=_median([burst.regained_after_s for burst in responses]),
        worst=tuple(sorted(worst, key=lambda burst: burst.onset_s)),
    )


def _windows_held(scheduled_s: NDArray[np.float64], attained: NDArray[np.bool_], bin_s: float) -> NDArray[np.bool_]:
    """Of each window, whether the SLO is held in it."""
    windows = (scheduled_s / bin_s).astype(np.int64)
    return ~lost_windows(np.bincount(windows, attained), np.bincount(windows))


def _slo(is_held: NDArray[np.bool_], bin_s: float, onset_s: float, length_s: float) -> tuple[bool, float | None]:
    """Whether the SLO is lost in the burst, and how long after the onset it is held again."""
    first, end = round(onset_s / bin_s), round((onset_s + length_s) / bin_s)
    lost = np.flatnonzero(~is_held[first:end])
    if len(lost) == 0:
        return False, None
    held_in_a_row = 0
    for window in range(first + int(lost[0]) + 1, len(is_held)):
        held_in_a_row = held_in_a_row + 1 if is_held[window] else 0
        if held_in_a_row == _WINDOWS_HELD:
            return True, (window + 1 - _WINDOWS_HELD) * bin_s - onset_s
    return True, None


def _starts(replicas: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When each replica that came to be ready was asked for, and when it was ready."""
    starting = replicas[replicas["state"] == "starting"].groupby("replica_id")["start_s"].min()
    ready = replicas[replicas["state"] == "ready"].groupby("replica_id")["start_s"].min()
    both = pd.concat([starting.rename("asked_s"), ready.rename("ready_s")], axis=1, join="inner")
    return both["asked_s"].to_numpy(np.float64), both["ready_s"].to_numpy(np.float64)


def _first_after(instants_s: NDArray[np.float64], start_s: float, end_s: float) -> float | None:
    """How long after `start_s` the first of the sorted instants in [start_s, end_s) is; None = none is there."""
    place = int(np.searchsorted(instants_s, start_s))
    return float(instants_s[place] - start_s) if place < len(instants_s) and instants_s[place] < end_s else None


def _count_between(sorted_s: NDArray[np.float64], start_s: float, end_s: float) -> int:
    return int(np.searchsorted(sorted_s, end_s) - np.searchsorted(sorted_s, start_s))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
