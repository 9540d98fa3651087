"""The run in a few sentences of plain words, and what a reader must know before trusting its numbers."""

from dataclasses import dataclass

import numpy as np

from loadgen.records import Cause, Status
from testbed.burst_response import burst_before
from testbed.counted_part import counted_records
from testbed.fleet_metrics import replica_counts
from testbed.report.facts import RunFacts
from testbed.report.number_text import percent, quantity
from testbed.report.panels import Floats
from testbed.report.time_bins import length, moment

# As they read after 'because'.
REASONS: dict[str, str] = {
    Cause.QUEUE_FULL: "the router's queue was full",
    Cause.NO_READY_REPLICA: "no replica was ready",
    Cause.DEADLINE_IN_QUEUE: "the wait at the router was too long",
    Cause.DEADLINE_IN_ENGINE: "the engine did not finish in time",
    Cause.SENT_LATE: "the load generator sent them late",
    Cause.REPLICA_LOST: "the replica was lost",
    Cause.STREAM_CUT: "the stream was cut",
    Cause.CONNECTION: "the connection failed",
    Cause.BAD_STATUS: "the server answered with an error",
    Cause.EMPTY_ANSWER: "the answer was empty",
    Cause.TOO_LONG: "the model's context was too short",
    Cause.GIVEN_UP: "the clients gave up",
    Cause.RUN_ENDED: "the run ended before",
    Cause.CLIENT_LOST: "the load generator lost track",
}
# What comes from more load than the fleet could carry.
OVERLOAD = frozenset(
    {
        Cause.QUEUE_FULL,
        Cause.NO_READY_REPLICA,
        Cause.DEADLINE_IN_QUEUE,
        Cause.DEADLINE_IN_ENGINE,
        Cause.GIVEN_UP,
    }
)
# Failures are called close together when nine of ten lie within a quarter of the run.
CLOSE_SHARE, CLOSE_PART = 0.9, 0.25


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time, and how many of the failures came in it."""

    start_s: float
    end_s: float
    failures: int


def write_verdict(facts: RunFacts) -> str:
    """Say whether the SLO held and when it did not, why requests missed it, and what the fleet did and cost."""
    if facts.total["offered"] == 0:
        return "No request was recorded."
    sentences = (_served(facts), _missed(facts), _fleet(facts))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences if sentence)


def reason_of(cause: str, facts: RunFacts) -> str:
    """Why requests failed, as it reads after 'because'; '' for a cause that is not in the vocabulary."""
    if cause == Cause.QUEUE_FULL and not facts.has_fleet:
        return "the server turned them away"  # who did so there, nobody told
    return REASONS.get(cause, "")


def list_warnings(facts: RunFacts) -> list[str]:
    """What makes the run incomplete or its numbers doubtful, one sentence each."""
    summary, records = facts.summary, facts.results.records
    warnings = []
    if summary.get("cut_short"):
        warnings.append(f"This run was cut short: {summary['cut_short']}")
    warnings.extend(str(problem) for problem in summary.get("problems") or [])
    planned, recorded = summary["planned_requests"], summary["recorded_requests"]
    if recorded != planned:
        warnings.append(f"{recorded:,} of {planned:,} planned requests have a record; a valid run has one for each.")
    if repeated := int(records["request_id"].duplicated().sum()):
        warnings.append(f"{repeated:,} records repeat a request that has one already.")
    lost = summary.get("lost_requests") or {"sent": 0, "not_sent": 0}
    if sum(lost.values()):
        warnings.append(
            f"The load generator lost {sum(lost.values()):,} requests, {lost['sent']:,} of them on their way: a "
            "process of it ended before they had. They are in no figure."
        )
    validity = summary.get("validity") or {"reasons": []}
    warnings.extend(f"This run is not valid: {reason}." for reason in validity["reasons"])
    if facts.fleet and facts.fleet["policy_errors"]:
        warnings.append(f"The policy failed in {facts.fleet['policy_errors']:,} decisions; the target stayed in them.")
    return warnings


def _served(facts: RunFacts) -> str:
    total = facts.total
    requests = f"{total['offered']:,} request" + ("s" if total["offered"] != 1 else "")
    if total["attainment_fraction"] is None:
        return f"{percent(total['ok'] / total['offered'])} of {requests} ended ok (no SLO was set)"
    served = f"{percent(total['attainment_fraction'])} of {requests} met their SLO"
    return "; ".join(part for part in (served, _held(facts)) if part)


def _held(facts: RunFacts) -> str:
    """In how many windows the SLO was lost, and the worst of them."""
    windows = facts.summary.get("windows")
    if not windows or not windows["windows"]:
        return ""
    each = f"window{'s' if windows['windows'] != 1 else ''} of {length(windows['window_s'])}"
    if not windows["slo_lost"]:
        return f"it was held in {'all ' if windows['windows'] > 1 else 'the '}{windows['windows']:,} {each}"
    worst = windows["worst"]
    missed = round((1 - worst["attainment_fraction"]) * worst["offered"])
    at = _at(worst["start_s"], facts)
    burst = burst_before(facts.bursts, worst["start_s"])
    after = "" if burst is None else f" (burst from {_at(burst['onset_s'], facts)} on)"
    return (
        f"it was lost in {windows['slo_lost']:,} of {windows['windows']:,} {each}, at worst at {at}{after}, "
        f"where {missed:,} of {worst['offered']:,} missed it"
    )


def _missed(facts: RunFacts) -> str:
    """Why requests missed their SLO: they failed, or were too slow."""
    windows = facts.summary.get("windows") or {}
    slow = [
        f"{windows[key]:,} {what}"
        for key, what in (
            ("late_first_tokens", "got the first token too late"),
            ("slow_tokens", "got the further tokens too slowly"),
        )
        if windows.get(key)
    ]
    return "; ".join([_failed(facts), *slow])


def _failed(facts: RunFacts) -> str:
    failures = facts.total["offered"] - facts.total["ok"]
    if not failures:
        return "none failed"
    because = _because(facts, failures)
    return ", ".join(part for part in (f"{failures:,} failed", because, _when(facts)) if part)


def _because(facts: RunFacts, failures: int) -> str:
    ranked = sorted(facts.total["by_cause"].items(), key=lambda item: -item[1])
    if not ranked:
        return ""
    cause, count = ranked[0]
    reason = reason_of(cause, facts) or cause
    if count == failures:
        return f"{'all ' if failures > 1 else ''}because {reason}"
    if count > failures / 2 or len(ranked) == 1:
        return f"{count:,} of them because {reason}"
    second, second_count = ranked[1]
    return f"{count:,} because {reason}, {second_count:,} because {reason_of(second, facts) or second}"


def _when(facts: RunFacts) -> str:
    """Where most failures lie in time, if they lie close together."""
    measured, by_cause = counted_records(facts.results), facts.total["by_cause"]
    failed_s = np.sort(measured.loc[measured["status"] != Status.OK, "scheduled_s"].to_numpy(np.float64))
    stretch = closest_stretch(failed_s)
    if stretch.failures == 1:
        return f"at {_at(stretch.start_s, facts)}" if len(failed_s) == 1 else ""
    if stretch.end_s - stretch.start_s > CLOSE_PART * facts.duration_s:
        return ""
    share = "" if stretch.failures == len(failed_s) else f"{stretch.failures:,} of them "
    is_overload = max(by_cause, key=by_cause.__getitem__, default=None) in OVERLOAD
    burst = burst_before(facts.bursts, stretch.start_s) if is_overload else None
    if burst is not None:
        after_s = max(stretch.end_s - burst["onset_s"], 1.0)
        return f"{share}in the {length(after_s)} from the onset of the burst at {_at(burst['onset_s'], facts)} on"
    start, end = _at(stretch.start_s, facts), _at(stretch.end_s, facts)
    return f"{share}at {start}" if start == end else f"{share}between {start} and {end}"


def _at(time_s: float, facts: RunFacts) -> str:
    return moment(time_s, facts.duration_s)


def closest_stretch(instants_s: Floats) -> Stretch:
    """The shortest stretch that holds nine tenths of the sorted instants."""
    needed = max(1, int(np.ceil(CLOSE_SHARE * len(instants_s))))
    lengths_s = instants_s[needed - 1 :] - instants_s[: len(instants_s) - needed + 1]
    first = int(np.argmin(lengths_s))
    if instants_s[-1] - instants_s[0] <= 1.5 * lengths_s[first]:
        return Stretch(float(instants_s[0]), float(instants_s[-1]), len(instants_s))
    return Stretch(float(instants_s[first]), float(instants_s[first + needed - 1]), needed)


def _fleet(facts: RunFacts) -> str:
    if facts.fleet is None:
        return ""
    died = facts.fleet.get("failed_replicas", 0)
    cost = f"held {quantity(facts.fleet['gpu_hours'])} GPU-hours" + (f"; {_replicas(died)} died" if died else "")
    at_start = replica_counts(facts.results.replicas, [0.0]).iloc[0]
    first = int(at_start["ready"] + at_start["starting"])
    peak = int(facts.fleet["peak_ready_replicas"])
    if peak > first:
        return f"the fleet grew from {first} to {peak} replicas and {cost}"
    return f"the fleet did not grow beyond its {_replicas(max(first, peak))} and {cost}"


def _replicas(count: int) -> str:
    return f"{count} replica" + ("s" if count != 1 else "")
