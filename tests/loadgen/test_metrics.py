"""Figures against numbers worked out by hand."""

import json
from collections import namedtuple
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.metrics import summarise_records
from loadgen.records import RECORD_SCHEMA, Cause, Status
from loadgen.time_series import time_series

Slo = namedtuple("Slo", "ttft_s tpot_s")


def table(*rows: dict[str, Any]) -> pa.Table:
    """Records from the fields that matter to a test; the others are those of a request that took no time."""
    records = []
    for number, row in enumerate(rows):
        due_s = row.get("scheduled_s", 0.0)
        plain = {
            "request_id": number,
            "service": "api",
            "model": "m",
            "prompt_tokens": 1,
            "output_tokens": 1,
            "scheduled_s": due_s,
            "sent_s": due_s,
            "first_token_s": due_s,
            "finished_s": due_s,
            "status": "ok",
            "replica_id": None,
            "cause": None,
            "error": None,
            "attempts": 1,
        }
        records.append({**plain, **row})
    return pa.Table.from_pylist(records, schema=RECORD_SCHEMA)


def failed(cause: Cause, status: Status = Status.FAILED, **row: Any) -> dict[str, Any]:
    return {"status": status.value, "cause": cause.value, "first_token_s": None, "output_tokens": 0, **row}


# Two API requests and two conversations over 10 s. A: TTFT 1, E2E 5, 5 tokens, TPOT (5 - 1) / 4 = 1.
# B: TTFT 2, E2E 4, 3 tokens, TPOT (4 - 2) / 2 = 1. C: one token after 0.5 s, no TPOT. D: rejected.
A = {"scheduled_s": 0.0, "sent_s": 0.1, "first_token_s": 1.0, "finished_s": 5.0, "output_tokens": 5}
B = {"scheduled_s": 6.0, "sent_s": 6.3, "first_token_s": 8.0, "finished_s": 10.0, "output_tokens": 3}
C = {"service": "conversation", "scheduled_s": 2.0, "sent_s": 2.2, "first_token_s": 2.5, "finished_s": 2.5}
D = failed(Cause.QUEUE_FULL, Status.REJECTED, service="conversation", scheduled_s=3.0, sent_s=3.4, finished_s=3.4)
RUN = table(A, B, C, D)
SLOS = {"api": Slo(1.5, 1.0), "conversation": Slo(1.0, 0.2)}


def test_totals_by_hand() -> None:
    total = summarise_records(RUN, SLOS).total
    assert (total.offered, total.ok, total.failure_fraction) == (4, 3, 0.25)
    assert total.by_status == {"ok": 3, "rejected": 1, "timed_out": 0, "failed": 0, "cancelled": 0}
    assert total.by_cause == {"queue_full": 1}
    assert total.by_phase == {}, "of no failure it is known where the request was"
    assert total.requests_per_s == pytest.approx(3 / 10)
    assert total.output_tokens_per_s == pytest.approx((5 + 3 + 1) / 10)


def test_failures_are_counted_by_phase_where_it_is_known() -> None:
    late = failed(Cause.DEADLINE_IN_ENGINE, Status.TIMED_OUT)
    summary = summarise_records(table(A, D, late | {"phase": "prefill"}, late | {"phase": "prefill"}, late), SLOS)
    assert summary.total.by_phase == {"prefill": 2}
    assert summary.services["conversation"].by_phase == {}
    old = table(A, D).drop_columns("phase")
    assert summarise_records(old, SLOS).total.by_phase == {}


def test_attempts_are_counted_by_service_and_a_request_that_was_never_sent_has_none() -> None:
    never = failed(Cause.CLIENT_LOST, Status.CANCELLED, attempts=0)
    summary = summarise_records(table(A | {"attempts": 3}, B, C | {"attempts": 2}, D | {"attempts": 4}, never), SLOS)
    assert (summary.total.attempts, summary.total.retried) == (3 + 1 + 2 + 4 + 0, 3)
    assert (summary.services["api"].attempts, summary.services["api"].retried) == (4, 1)


def test_latencies_by_hand() -> None:
    total = summarise_records(RUN, SLOS).total
    assert total.ttft.mean_s == pytest.approx((1 + 2 + 0.5) / 3)
    assert (total.ttft.p50_s, total.ttft.p90_s, total.ttft.p99_s) == (1.0, 2.0, 2.0)
    assert total.e2e.mean_s == pytest.approx((5 + 4 + 0.5) / 3)
    assert total.e2e.p50_s == 4.0
    assert (total.tpot.mean_s, total.tpot.p50_s, total.tpot.p99_s) == (1.0, 1.0, 1.0)  # C has one token: no TPOT


def test_a_failure_counts_as_infinitely_late() -> None:
    total = summarise_records(RUN, SLOS).total
    # TTFT 0.5, 1, 2, infinite: the 2nd of 4 is the median, the 4th the 90th percentile.
    assert total.ttft_with_failures.p50_s == 1.0
    assert total.ttft_with_failures.p90_s is None
    assert total.ttft_with_failures.mean_s is None
    assert total.e2e_with_failures.p50_s == 4.0


def test_attainment_is_over_all_offered_and_needs_both_ttft_and_tpot() -> None:
    summary = summarise_records(RUN, SLOS)
    assert summary.services["api"].attainment_fraction == 1 / 2  # B's TTFT is 2 > 1.5
    assert summary.services["conversation"].attainment_fraction == 1 / 2  # C has no TPOT to miss, D failed
    assert summary.total.attainment_fraction == 2 / 4
    assert summary.total.goodput_per_s == pytest.approx(2 / 10)
    slow = summarise_records(RUN, {**SLOS, "api": Slo(1.5, 0.99)})
    assert slow.services["api"].attainment_fraction == 0.0  # A's TPOT is 1 > 0.99


def test_a_service_without_a_promise_has_no_attainment_and_so_has_the_total() -> None:
    summary = summarise_records(RUN, {"api": SLOS["api"]})
    assert summary.services["conversation"].attainment_fraction is None
    assert summary.total.attainment_fraction is None
    assert summary.services["api"].attainment_fraction == 0.5


def test_lateness_is_the_load_generators_own() -> None:
    total = summarise_records(RUN, SLOS).total
    assert total.lateness_p50_s == pytest.approx(0.2)  # of 0.1, 0.2, 0.3, 0.4
    assert total.lateness_p99_s == pytest.approx(0.4)


def test_services_are_summarised_apart() -> None:
    services = summarise_records(RUN, SLOS).services
    assert {label: service.offered for label, service in services.items()} == {"api": 2, "conversation": 2}
    assert services["api"].failure_fraction == 0.0
    assert services["conversation"].ttft.p50_s == 0.5


def test_a_cancelled_request_counts_as_failed() -> None:
    unsent = failed(Cause.CLIENT_LOST, Status.CANCELLED, sent_s=None)
    total = summarise_records(table(A, unsent), SLOS).total
    assert (total.failure_fraction, total.attainment_fraction) == (0.5, 0.5)
    assert total.lateness_p99_s == pytest.approx(0.1)  # of the one that was sent


def test_the_given_length_of_the_run_sets_what_is_per_second() -> None:
    assert summarise_records(RUN, SLOS, duration_s=30.0).total.requests_per_s == pytest.approx(3 / 30)


@pytest.mark.parametrize("rows", [[], [failed(Cause.CONNECTION)], [A], [C], [D, failed(Cause.RUN_ENDED, sent_s=None)]])
def test_every_summary_is_plain_json(rows: list[dict[str, Any]]) -> None:
    summary = summarise_records(table(*rows), SLOS).as_json()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_frame_and_a_table_give_the_same() -> None:
    assert summarise_records(RUN.to_pandas(), SLOS) == summarise_records(RUN, SLOS)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=120))
def test_percentiles_are_those_of_numpys_inverted_cdf(ttfts_s: list[float]) -> None:
    records = table(*({"first_token_s": ttft_s, "finished_s": ttft_s} for ttft_s in ttfts_s))
    ttft = summarise_records(records, SLOS).total.ttft
    expected = [float(np.percentile(ttfts_s, level, method="inverted_cdf")) for level in (50, 90, 99)]
    assert [ttft.p50_s, ttft.p90_s, ttft.p99_s] == expected
    assert time_series(records, 1.0, 1.0)[["ttft_p50_s", "ttft_p90_s", "ttft_p99_s"]].iloc[0].tolist() == expected


def test_a_series_by_hand() -> None:
    series = time_series(RUN, bin_s=4.0, duration_s=10.0)
    assert series["start_s"].tolist() == [0.0, 4.0, 8.0]
    assert series["offered"].tolist() == [3, 1, 0]
    assert series["ok"].tolist() == [2, 1, 0]  # by when they were due
    assert series["completed"].tolist() == [1, 1, 0]  # C at 2.5, A at 5; B at 10 is outside [0, 10)
    assert series["failed_queue_full"].tolist() == [1, 0, 0]
    assert series["failed_stream_cut"].tolist() == [0, 0, 0]
    assert series["ttft_p50_s"].tolist()[:2] == [0.5, 2.0]
    assert np.isnan(series["ttft_p50_s"].iloc[2])
    assert series["e2e_p99_s"].tolist()[:2] == [5.0, 4.0]
    # On their way in [0, 4): A 3.9 s, C 0.3 s, D 0 s; in [4, 8): A 1 s, B 1.7 s; in [8, 10): B 2 s of 2.
    assert series["in_flight"].tolist() == pytest.approx([(3.9 + 0.3) / 4, (1 + 1.7) / 4, 1.0])
    # A's 5 tokens from 1 to 5 s: 3.75 before 4 s. C's one at 2.5 s. B's 3 from 8 to 10 s.
    assert series["output_tokens_per_s"].tolist() == pytest.approx([(3.75 + 1) / 4, 1.25 / 4, 3 / 2])


rows = st.builds(
    lambda due_s, late_s, wait_s, stream_s, tokens, ok: {
        "scheduled_s": due_s,
        "sent_s": due_s + late_s,
        "first_token_s": due_s + late_s + wait_s,
        "finished_s": due_s + late_s + wait_s + stream_s,
        "output_tokens": tokens,
        **({} if ok else {"status": "failed", "cause": "stream_cut"}),
    },
    st.floats(0, 50),
    st.floats(0, 1),
    st.floats(0, 20),
    st.floats(0, 20) | st.just(0.0),
    st.integers(1, 500),
    st.booleans(),
)


@given(st.lists(rows, max_size=30), st.floats(0.3, 30))
def test_a_series_loses_no_request_no_token_and_no_second(requests: list[dict[str, Any]], bin_s: float) -> None:
    series = time_series(table(*requests), bin_s, duration_s=100.0)
    widths_s = np.diff([*series["start_s"], 100.0])
    assert series["offered"].sum() == len(requests)
    assert series["ok"].sum() + series["failed_stream_cut"].sum() == len(requests)
    assert series["completed"].sum() == series["ok"].sum()
    tokens = sum(request["output_tokens"] for request in requests)
    assert (series["output_tokens_per_s"] * widths_s).sum() == pytest.approx(tokens, abs=1e-6)
    busy_s = sum(request["finished_s"] - request["sent_s"] for request in requests)
    assert (series["in_flight"] * widths_s).sum() == pytest.approx(busy_s, abs=1e-6)


def test_an_empty_run_has_a_series_of_zeros() -> None:
    series = time_series(table(), 1.0, 3.0)
    assert series["offered"].tolist() == [0, 0, 0]
    assert series["in_flight"].tolist() == [0.0, 0.0, 0.0]
