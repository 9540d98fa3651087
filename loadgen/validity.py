"""Whether a run was sent as planned: if not, its latencies speak of the load generator as much as of the server."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from loadgen.metrics import Floats, as_frame, float_column, is_value
from loadgen.records import Cause, Status
from loadgen.standstill import TOLERATED_S, Standstill

# What is late by this much is late for a person who waits for a first token.
LIMIT_LATENESS_P99_S = TOLERATED_S
# Of a run, in which what is due is done later than that: as for requests, so for the reading of their answers.
LIMIT_STANDSTILL_FRACTION = 0.01
# A client that sends late sends in bursts, or evens bursts out: either makes another traffic of it.
LIMIT_CV_CHANGE_FRACTION = 0.05
_LEAST_GAPS = 20  # fewer tell nothing of a coefficient of variation


@dataclass(frozen=True, slots=True)
class Validity:
    """How a run was sent, against its plan.

    Attributes:
        lateness_p99_s: of the requests that were sent; None = none was.
        planned_cv, sent_cv: coefficient of variation of the gaps between scheduled, and between actual, instants of the
            requests that were sent; None = too few gaps.
        not_sent: requests of the plan that were not sent, as far as is known, although nobody ended the run.
        unseen_ends: requests that were sent, and whose process ended before they did.
        standstill_fraction: share of the run in which what was due in a sender's event loop was done late; None = not
            known, as of runs that were killed.
        longest_standstill_s: of a sender's event loop, at a stretch.
        reasons: one sentence for each limit that is passed; empty = the run is valid.
    """

    lateness_p99_s: float | None
    planned_cv: float | None
    sent_cv: float | None
    not_sent: int
    unseen_ends: int
    standstill_fraction: float | None
    longest_standstill_s: float | None
    reasons: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether the run says something of the server alone."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """Plain values for summary.json."""
        return {"is_valid": self.is_valid, **asdict(self), "reasons": list(self.reasons)}


def judge_validity(
    records: pa.Table | pd.DataFrame, standstill: Standstill | None = None, run_s: float = 0.0
) -> Validity:
    """Hold the instants at which requests were sent against those at which the plan has them.

    Args:
        standstill: of the senders' event loops, over a run of `run_s`; None = not known.
    """
    frame = as_frame(records)
    scheduled_s, sent_s = float_column(frame, "scheduled_s"), float_column(frame, "sent_s")
    is_sent = ~np.isnan(sent_s)
    given_up = (frame["status"] == Status.CANCELLED) & (frame["cause"] == Cause.RUN_ENDED)
    not_sent = int((~is_sent & ~given_up.to_numpy(dtype=bool)).sum())
    unseen_ends = int((is_sent & is_value(frame, "cause", Cause.CLIENT_LOST.value)).sum())
    lateness_s = sent_s[is_sent] - scheduled_s[is_sent]
    lateness_p99_s = float(np.percentile(lateness_s, 99)) if len(lateness_s) else None
    planned_cv, sent_cv = gap_cv(scheduled_s[is_sent]), gap_cv(sent_s[is_sent])
    reasons = []
    if lateness_p99_s is not None and lateness_p99_s > LIMIT_LATENESS_P99_S:
        reasons.append(
            f"1 % of the requests were sent more than {1000 * lateness_p99_s:.0f} ms late "
            f"(limit {1000 * LIMIT_LATENESS_P99_S:.0f} ms): the load generator could not keep up"
        )
    if planned_cv and sent_cv is not None and abs(sent_cv / planned_cv - 1) > LIMIT_CV_CHANGE_FRACTION:
        reasons.append(
            f"the gaps between requests vary by a CV of {sent_cv:.2f} as sent, of {planned_cv:.2f} as planned "
            f"(limit {100 * LIMIT_CV_CHANGE_FRACTION:.0f} % apart): another traffic was sent than asked for"
        )
    if not_sent:
        reasons.append(f"{not_sent:,} requests were not sent as far as is known: the process that had them ended first")
    if unseen_ends:
        reasons.append(
            f"the ends of {unseen_ends:,} requests were not seen: the process that had sent them ended first"
        )
    standstill_fraction = standstill.late_s / run_s if standstill and run_s > 0 else None
    longest_s = standstill.longest_s if standstill else None
    if standstill_fraction is not None and standstill_fraction > LIMIT_STANDSTILL_FRACTION:
        reasons.append(
            f"the load generator itself stood still, for {longest_s:.1f} s at a stretch and "
            f"{100 * standstill_fraction:.1f} % of the run (limit {100 * LIMIT_STANDSTILL_FRACTION:.0f} %): what came "
            "meanwhile it saw too late"
        )
    return Validity(
        lateness_p99_s,
        planned_cv,
        sent_cv,
        not_sent,
        unseen_ends,
        standstill_fraction,
        longest_s,
        tuple(reasons),
    )


def failed_requests(records: pa.Table | pd.DataFrame) -> dict[str, int]:
    """Requests that did not end ok: `by_schedule`, their deadlines from the scheduled instants, and `by_send`.

    A request stays open for its whole time from the sending, so that both are counts and neither is a bound.
    """
    frame = as_frame(records)
    failed = int((~is_value(frame, "status", Status.OK.value)).sum())
    return {"by_schedule": failed, "by_send": failed - int(is_value(frame, "cause", Cause.SENT_LATE.value).sum())}


def gap_cv(instants_s: Floats) -> float | None:
    """Standard deviation / mean of the gaps between instants; None = too few, or all at once."""
    gaps_s = np.diff(np.sort(instants_s))
    return float(gaps_s.std() / gaps_s.mean()) if len(gaps_s) >= _LEAST_GAPS and gaps_s.mean() > 0 else None
