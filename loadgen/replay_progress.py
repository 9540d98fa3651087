"""Where a replay stands, over all its actors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.sender import SenderProgress


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Where a replay stands, over all actors.

    Attributes:
        now_s: seconds since the run's start.
        planned: requests of the trace.
        offered: of these, so far: due by the trace, or (in another mode than open loop) sent.
        sent, finished, ok: so far.
        failed: requests that did not end ok, by cause.
        ttft_p50_s, ttft_p99_s: over the latest requests that ended ok; None = none yet.
        lateness_p99_s: by which one of the latest requests was sent after its instant; None = none yet.
    """

    now_s: float
    planned: int
    offered: int
    sent: int
    finished: int
    ok: int
    failed: Mapping[str, int]
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    lateness_p99_s: float | None


def summarise_progress(
    told: Sequence[SenderProgress], now_s: float, planned: int, arrival_s: NDArray[np.float64] | None
) -> ReplayProgress:
    """Sum up what each actor told last; `arrival_s` (f64[planned], None = not open loop) says what is due by now."""
    failed: Counter[str] = Counter()
    for progress in told:
        failed.update(progress.failed)
    ttft_s = [value for progress in told for value in progress.latest_ttft_s]
    lateness_s = [value for progress in told for value in progress.latest_lateness_s]
    sent = sum(progress.sent for progress in told)
    return ReplayProgress(
        now_s=now_s,
        planned=planned,
        offered=sent if arrival_s is None else int(np.searchsorted(arrival_s, now_s, side="right")),
        sent=sent,
        finished=sum(progress.finished for progress in told),
        ok=sum(progress.ok for progress in told),
        failed=dict(failed),
        ttft_p50_s=float(np.median(ttft_s)) if ttft_s else None,
        ttft_p99_s=float(np.percentile(ttft_s, 99)) if ttft_s else None,
        lateness_p99_s=float(np.percentile(lateness_s, 99)) if lateness_s else None,
    )
