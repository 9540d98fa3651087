"""Records -> how reliable and how fast the service was: averages, percentiles, attainment.

TTFT and E2E count from the scheduled instant, so that a late client cannot hide queueing. TPOT = (E2E - TTFT) / (output
tokens - 1), undefined for one token or none. The p-th percentile is the smallest value that at least p % of the
requests do not exceed: an observed value, defined also where failures count as infinite. Where there is no finite
value, it is None, so that every number can be written as JSON.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.chunk_gaps import TokenGaps, chunk_gaps_s, token_gaps
from loadgen.records import Cause, Phase, Status

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class LatencyPromise(Protocol):
    """What a service promises for a request's first token and for each further one."""

    @property
    def ttft_s(self) -> float:
        """Longest allowed TTFT."""
        ...

    @property
    def tpot_s(self) -> float:
        """Longest allowed TPOT."""
        ...


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Mean and percentiles of one latency; None = none that is finite."""

    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    """What became of the requests of one service, or of all.

    Attributes:
        offered: all requests that are summarised. Whoever summarises a run leaves out those of whose end nobody knows
            (RUN_ENDED, CLIENT_LOST): here they would be failures.
        failure_fraction: share of the offered requests that did not end ok; None = none were offered.
        by_status: requests per status, every status named.
        by_cause: requests per cause, those that occurred.
        attempts: times that they were sent, all together; one that was never sent counts none.
        retried: requests that were sent more than once.
        by_phase: failed requests per phase in which they were, those that occurred; of the others it is not known.
        ttft, tpot, e2e: over the requests that ended ok.
        gap_per_chunk: between chunks of text, over the requests that ended ok and whose chunks' instants were kept.
        gap_per_token: before each token of these requests that does not come with the first chunk: what others call
            ITL. The tokens of a chunk share the gap before it evenly.
        gap_per_token_requests: of so many of them the tokens of each chunk are known ('counted'), of so many only those
            of the whole answer, so that each chunk counts as its mean ('averaged').
        ttft_with_failures, tpot_with_failures, e2e_with_failures: over all offered, a failure counting as infinite.
        requests_per_s, output_tokens_per_s: what ended ok, over the run's length.
        attainment_fraction: share of the offered requests that ended ok within TTFT and TPOT; None where the service
            has no such promise.
        goodput_per_s: such requests per second.
        lateness_p50_s, lateness_p99_s: sent after the scheduled instant by so much: the load generator's own error.
    """

    offered: int
    ok: int
    failure_fraction: float | None
    by_status: Mapping[str, int]
    by_cause: Mapping[str, int]
    attempts: int
    retried: int
    by_phase: Mapping[str, int]
    ttft: LatencySummary
    tpot: LatencySummary
    e2e: LatencySummary
    gap_per_chunk: LatencySummary
    gap_per_token: LatencySummary
    gap_per_token_requests: Mapping[str, int]
    ttft_with_failures: LatencySummary
    tpot_with_failures: LatencySummary
    e2e_with_failures: LatencySummary
    requests_per_s: float | None
    output_tokens_per_s: float | None
    attainment_fraction: float | None
    goodput_per_s: float | None
    lateness_p50_s: float | None
    lateness_p99_s: float | None


@dataclass(frozen=True, slots=True)
class RecordsSummary:
    """A whole run: the total, and each service by its label."""

    duration_s: float
    total: ServiceSummary
    services: Mapping[str, ServiceSummary]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; no NaN, no Infinity."""
        return asdict(self)


def summarise_records(
    records: pa.Table | pd.DataFrame, slos: Mapping[str, LatencyPromise], duration_s: float | None = None
) -> RecordsSummary:
    """Summarise a run.

    Args:
        slos: by service label.
        duration_s: the run's length for all that is per second; by default up to the end of the last request.
    """
    frame = as_frame(records)
    latencies = request_latencies(frame)
    attained = attained_promise(frame, latencies, slos)
    if duration_s is None:
        duration_s = float(frame["finished_s"].max()) if len(frame) else 0.0
    everything = np.ones(len(frame), dtype=bool)
    services = sorted(frame["service"].unique())
    has_promise = all(service in slos for service in services)
    return RecordsSummary(
        duration_s=duration_s,
        total=_summarise(frame, latencies, attained if has_promise else None, everything, duration_s),
        services={
            service: _summarise(
                frame, latencies, attained if service in slos else None, is_value(frame, "service", service), duration_s
            )
            for service in services
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Per request, f64[n]; NaN where undefined. They say something of the service only where `is_ok`."""

    is_ok: Mask
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats


def as_frame(records: pa.Table | pd.DataFrame) -> pd.DataFrame:
    """The records as a pandas frame."""
    return records if isinstance(records, pd.DataFrame) else records.to_pandas()


def float_column(frame: pd.DataFrame, name: str) -> Floats:
    """A column as f64[n], NaN where it is null."""
    return frame[name].to_numpy(dtype=np.float64, na_value=np.nan)


def is_value(frame: pd.DataFrame, name: str, value: str) -> Mask:
    """Where the column holds `value`; a null does not."""
    return (frame[name] == value).fillna(False).to_numpy(dtype=bool)


def request_latencies(frame: pd.DataFrame) -> Latencies:
    """TTFT, TPOT and E2E of each record."""
    scheduled_s = float_column(frame, "scheduled_s")
    ttft_s = float_column(frame, "first_token_s") - scheduled_s
    e2e_s = float_column(frame, "finished_s") - scheduled_s
    gaps = float_column(frame, "output_tokens") - 1
    tpot_s = np.divide(e2e_s - ttft_s, gaps, out=np.full(len(frame), np.nan), where=gaps > 0)
    return Latencies(is_value(frame, "status", Status.OK.value), ttft_s, tpot_s, e2e_s)


def attained_promise(frame: pd.DataFrame, latencies: Latencies, slos: Mapping[str, LatencyPromise]) -> Mask:
    """Which requests ended ok within the promise of their service; one token alone has no TPOT to miss."""
    attained = np.zeros(len(frame), dtype=bool)
    for service, slo in slos.items():
        is_fast = (latencies.ttft_s <= slo.ttft_s) & ~(latencies.tpot_s > slo.tpot_s)
        attained |= is_value(frame, "service", service) & latencies.is_ok & is_fast
    return attained


def _summarise(
    frame: pd.DataFrame, latencies: Latencies, attained: Mask | None, chosen: Mask, duration_s: float
) -> ServiceSummary:
    """Summarise the `chosen` requests."""
    part = frame[chosen]
    offered = int(chosen.sum())
    is_ok = chosen & latencies.is_ok
    ok = int(is_ok.sum())
    failures = offered - ok
    good = None if attained is None else int((attained & chosen).sum())
    gaps = token_gaps(frame[is_ok])
    lateness_s = float_column(part, "sent_s") - float_column(part, "scheduled_s")
    finite_lateness_s = lateness_s[~np.isnan(lateness_s)]
    return ServiceSummary(
        offered=offered,
        ok=ok,
        failure_fraction=_ratio(failures, offered),
        by_status={status.value: int((part["status"] == status.value).sum()) for status in Status},
        by_cause={cause.value: count for cause in Cause if (count := int(is_value(part, "cause", cause.value).sum()))},
        attempts=int(part["attempts"].sum()),
        retried=int((part["attempts"] > 1).sum()),
        by_phase=_counts_by_phase(part),
        ttft=_summary(latencies.ttft_s[is_ok]),
        tpot=_summary(latencies.tpot_s[is_ok]),
        e2e=_summary(latencies.e2e_s[is_ok]),
        gap_per_chunk=_summary(chunk_gaps_s(frame[is_ok])),
        gap_per_token=_summary_of_gaps(gaps),
        gap_per_token_requests={"counted": gaps.counted, "averaged": gaps.averaged},
        ttft_with_failures=_summary(latencies.ttft_s[is_ok], failures),
        tpot_with_failures=_summary(latencies.tpot_s[is_ok], failures),
        e2e_with_failures=_summary(latencies.e2e_s[is_ok], failures),
        requests_per_s=_ratio(ok, duration_s),
        output_tokens_per_s=_ratio(float(float_column(frame, "output_tokens")[is_ok].sum()), duration_s),
        attainment_fraction=None if good is None else _ratio(good, offered),
        goodput_per_s=None if good is None else _ratio(good, duration_s),
        lateness_p50_s=_percentile(finite_lateness_s, 50),
        lateness_p99_s=_percentile(finite_lateness_s, 99),
    )


def _counts_by_phase(part: pd.DataFrame) -> dict[str, int]:
    """Requests per phase; none where the records have no phases."""
    if "phase" not in part:
        return {}
    return {phase.value: count for phase in Phase if (count := int(is_value(part, "phase", phase.value).sum()))}


def _summary_of_gaps(gaps: TokenGaps) -> LatencySummary:
    """Summarise gaps of which each is that before so many tokens."""
    if not len(gaps.gap_s):
        return LatencySummary(None, None, None, None)
    order = np.argsort(gaps.gap_s, kind="stable")
    gap_s, reached = gaps.gap_s[order], np.cumsum(gaps.tokens[order])
    p50_s, p90_s, p99_s = gap_s[np.searchsorted(100 * reached, np.array([50, 90, 99]) * reached[-1])].tolist()
    return LatencySummary(float(gap_s @ gaps.tokens[order]) / float(reached[-1]), p50_s, p90_s, p99_s)


def _ratio(amount: float, whole: float) -> float | None:
    return amount / whole if whole > 0 else None


def _summary(values_s: Floats, failures: int = 0) -> LatencySummary:
    """Summarise the defined values, and `failures` infinite ones."""
    defined = np.concatenate([values_s[~np.isnan(values_s)], np.full(failures, np.inf)])
    mean_s = float(defined.mean()) if len(defined) and not failures else None
    return LatencySummary(mean_s, _percentile(defined, 50), _percentile(defined, 90), _percentile(defined, 99))


def _percentile(values: Floats, level: int) -> float | None:
    """The value of rank ceil(level % of n); None where there is none or it is infinite."""
    if not len(values):
        return None
    value = float(np.sort(values)[percentile_rank(level, np.array([len(values)]))[0]])
    return value if math.isfinite(value) else None


def percentile_rank(level: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the percentile among `counts` sorted values: ceil(level / 100 * count) - 1.

    In whole numbers: in floats 0.07 * 100 is 7.000000000000001, whose ceiling is 8.
    """
    return np.maximum(-(-level * counts // 100) - 1, 0)
