"""Windows against numbers worked out by hand, and against the totals of the run."""

import json
import math
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.metrics import summarise_records
from loadgen.windows import Window, default_window_s, lost_windows, summarise_windows, windowed_metrics

Slo = namedtuple("Slo", "ttft_s tpot_s")
SLOS = {"api": Slo(1.0, 0.5), "conversation": Slo(1.0, 0.5)}


def records_of(*rows: tuple[float, float, float, int, str], service: str = "api") -> pd.DataFrame:
    """(scheduled, first token, end, output tokens, status) of each request; columns as summarise_records needs."""
    columns = ["scheduled_s", "first_token_s", "finished_s", "output_tokens", "status"]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[:3], np.float64))
    return frame.assign(service=service, sent_s=frame["scheduled_s"], cause=pd.NA, attempts=1)


# Windows of 10 s. In the first two requests: TPOT 4 / 4 = 1 (too slow), and 0.2 / 2 = 0.1 (kept). In the second a
# failure that ends in the third, and nothing else. In the third a request of one token, kept. None in the fourth.
RUN = records_of(
    (0.0, 1.0, 5.0, 5, "ok"),
    (8.0, 8.8, 9.0, 3, "ok"),
    (15.0, math.nan, 29.0, 0, "timed_out"),
    (20.0, 20.5, 20.5, 1, "ok"),
)


def test_windows_by_hand() -> None:
    table = windowed_metrics(RUN, SLOS, window_s=10.0, end_s=35.0)
    assert table["start_s"].tolist() == [0, 10, 20, 30]
    assert table["end_s"].tolist() == [10, 20, 30, 40]
    assert table["offered"].tolist() == [2, 1, 1, 0]
    assert table["failed"].tolist() == [0, 1, 0, 0]
    assert table["attained"].tolist() == [1, 0, 1, 0]
    assert table["slow_tokens"].tolist() == [1, 0, 0, 0], "TTFT 1 s is kept, TPOT 1 s is not"
    assert table["late_first_tokens"].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(table["failure_fraction"], [0, 1, 0, math.nan])
    np.testing.assert_allclose(table["tpot_mean_s"], [0.55, math.nan, math.nan, math.nan])
    np.testing.assert_allclose(table["output_tokens_per_s"], [0.8, 0, 0.1, 0], atol=1e-12)
    np.testing.assert_allclose(table["attainment_fraction"], [0.5, 0, 1, math.nan])


def test_a_failure_belongs_to_the_window_in_which_it_was_scheduled() -> None:
    table = windowed_metrics(RUN, SLOS, window_s=10.0, end_s=35.0)
    assert table.loc[table["failed"] > 0, "start_s"].tolist() == [10.0], "it ended at 29 s"


def test_tokens_belong_to_the_windows_in_which_they_came() -> None:
    long_answer = records_of((5.0, 8.0, 28.0, 40, "ok"), (5.0, 8.0, 28.0, 40, "failed"))
    table = windowed_metrics(long_answer, SLOS, window_s=10.0, end_s=10.0)
    # Two a second from 8 s to 28 s; what failed is no throughput.
    np.testing.assert_allclose(table["output_tokens_per_s"], [0.4, 2.0, 1.6], atol=1e-9)


def test_a_late_first_token_is_told_from_slow_tokens_by_the_promise_of_its_service() -> None:
    late_and_slow, slow = (0.0, 1.5, 9.5, 5, "ok"), (0.0, 0.5, 9.5, 5, "ok")
    patient = records_of(late_and_slow, service="conversation")
    records = pd.concat([records_of(late_and_slow, slow), patient], ignore_index=True)
    slos = SLOS | {"conversation": Slo(2.0, 0.5)}
    table = windowed_metrics(records, slos, window_s=10.0, end_s=5.0)
    assert (table["late_first_tokens"].tolist(), table["slow_tokens"].tolist()) == ([1], [2])


def test_windows_begin_where_the_warm_up_ends() -> None:
    table = windowed_metrics(RUN.iloc[2:], SLOS, window_s=10.0, start_s=14.0, end_s=35.0)
    assert table["start_s"].tolist() == [14.0, 24.0, 34.0]
    assert table["offered"].tolist() == [2, 0, 0]


def test_the_summary_counts_the_windows_that_lose_the_slo_and_shows_the_worst() -> None:
    summary = summarise_windows(windowed_metrics(RUN, SLOS, window_s=10.0, end_s=35.0), 10.0)
    assert (summary.windows, summary.slo_lost) == (3, 2)
    assert summary.slo_lost_fraction == pytest.approx(2 / 3)
    assert (summary.late_first_tokens, summary.slow_tokens) == (0, 1)
    # One request missed in each of the first two windows: the earlier one is shown.
    assert summary.worst == Window(0.0, 10.0, 2, 0, 0.0, pytest.approx(0.55), pytest.approx(0.8), 0.5)
    assert json.loads(json.dumps(summary.as_json(), allow_nan=False))["worst"]["offered"] == 2


def test_a_run_that_keeps_every_promise_has_no_worst_window() -> None:
    summary = summarise_windows(windowed_metrics(RUN.iloc[[1, 3]], SLOS, window_s=10.0, end_s=35.0), 10.0)
    assert (summary.windows, summary.slo_lost, summary.worst) == (2, 0, None)


def test_without_a_promise_the_worst_window_is_that_of_most_failures() -> None:
    summary = summarise_windows(windowed_metrics(RUN, {}, window_s=10.0, end_s=35.0), 10.0)
    assert (summary.slo_lost, summary.slo_lost_fraction, summary.slow_tokens) == (None, None, None)
    assert summary.worst is not None
    assert (summary.worst.start_s, summary.worst.attainment_fraction) == (10.0, None)


def test_no_requests_at_all_give_windows_of_which_nothing_is_known() -> None:
    summary = summarise_windows(windowed_metrics(RUN.iloc[:0], SLOS, window_s=10.0, end_s=35.0), 10.0)
    assert (summary.windows, summary.slo_lost, summary.slo_lost_fraction, summary.worst) == (0, 0, None, None)


def test_nine_of_ten_hold_a_window_and_an_empty_one_loses_nothing() -> None:
    lost = lost_windows(np.array([9, 8, 0, 27, 26]), np.array([10, 10, 0, 30, 30]))
    assert lost.tolist() == [False, True, False, False, True]


def test_the_windows_grow_with_the_run() -> None:
    assert [default_window_s(duration_s) for duration_s in (90.0, 3599.0, 3600.0, 86_399.0, 86_400.0)] == [
        5.0,
        5.0,
        60.0,
        60.0,
        3600.0,
    ]


requests = st.tuples(
    st.floats(0, 200),
    st.floats(0, 20),
    st.one_of(st.just(0.0), st.floats(0.01, 50)),
    st.integers(1, 300),
    st.sampled_from(["ok", "ok", "failed"]),
)


@settings(max_examples=60)
@given(st.lists(requests, min_size=1, max_size=40), st.floats(0.5, 300), st.floats(0, 250))
def test_averages_weighted_by_window_are_those_of_the_run(
    drawn: list[tuple[float, float, float, int, str]], window_s: float, end_s: float
) -> None:
    rows = [(due_s, due_s + ttft_s, due_s + ttft_s + rest_s, *rest) for due_s, ttft_s, rest_s, *rest in drawn]
    records = records_of(*rows)
    run = summarise_records(records, SLOS, 100.0).total
    table = windowed_metrics(records, SLOS, window_s=window_s, end_s=end_s)
    assert table["offered"].sum() == len(drawn)
    assert table["failed"].sum() == run.offered - run.ok
    kinds = ["attained", "failed", "late_first_tokens", "slow_tokens"]
    assert (table[kinds].sum(axis=1) == table["offered"]).all(), "each request is of one kind"
    used, answered = table[table["offered"] > 0], table[table["answered"] > 0]
    assert np.average(used["failure_fraction"], weights=used["offered"]) == pytest.approx(run.failure_fraction)
    assert np.average(used["attainment_fraction"], weights=used["offered"]) == pytest.approx(run.attainment_fraction)
    if len(answered):
        assert np.average(answered["tpot_mean_s"], weights=answered["answered"]) == pytest.approx(run.tpot.mean_s)
    else:
        assert run.tpot.mean_s is None
    tokens = (table["output_tokens_per_s"] * window_s).sum()
    assert run.output_tokens_per_s is not None
    assert tokens == pytest.approx(run.output_tokens_per_s * 100.0, rel=1e-6, abs=1e-6)
