"""A run is valid where it was sent as planned, and says why where it was not."""

import json

import numpy as np
import pandas as pd
import pytest

from loadgen.standstill import Standstill
from loadgen.validity import gap_cv, judge_validity


def records(scheduled_s: np.ndarray, sent_s: np.ndarray, status: str = "ok", cause: str | None = None) -> pd.DataFrame:
    """Requests with these instants."""
    return pd.DataFrame({"scheduled_s": scheduled_s, "sent_s": sent_s, "status": status, "cause": cause})


@pytest.fixture
def poisson_s() -> np.ndarray:
    """A thousand Poisson arrivals, ten a second."""
    return np.cumsum(np.random.default_rng(1).exponential(0.1, 1000))


def test_a_run_that_was_sent_within_milliseconds_is_valid(poisson_s: np.ndarray) -> None:
    found = judge_validity(records(poisson_s, poisson_s + np.random.default_rng(2).uniform(0, 0.002, 1000)))
    assert found.is_valid
    assert (found.reasons, found.not_sent) == ((), 0)
    assert found.lateness_p99_s == pytest.approx(0.00198, abs=1e-4)
    assert found.planned_cv == pytest.approx(1.0, abs=0.08)
    assert json.loads(json.dumps(found.as_json()))["is_valid"] is True


def test_one_percent_late_beyond_the_limit_makes_it_invalid(poisson_s: np.ndarray) -> None:
    sent_s = poisson_s + np.where(np.arange(1000) % 50 == 0, 0.15, 0.0)
    found = judge_validity(records(poisson_s, sent_s))
    assert not found.is_valid
    assert found.reasons[0].startswith("1 % of the requests were sent more than 150 ms late (limit 100 ms)")


def test_a_client_that_sends_in_clumps_is_found_by_the_gaps_though_it_is_hardly_late(poisson_s: np.ndarray) -> None:
    dense_s = poisson_s / 10  # a hundred a second
    found = judge_validity(records(dense_s, np.ceil(dense_s / 0.09) * 0.09))  # 90 ms late at most
    assert found.lateness_p99_s is not None
    assert found.lateness_p99_s < 0.1
    assert len(found.reasons) == 1
    assert f"a CV of {found.sent_cv:.2f} as sent, of {found.planned_cv:.2f} as planned" in found.reasons[0]


def test_requests_that_nobody_sent_make_it_invalid_unless_the_run_was_ended(poisson_s: np.ndarray) -> None:
    sent_s = np.where(np.arange(1000) < 900, poisson_s, np.nan)
    lost = judge_validity(records(poisson_s[900:], sent_s[900:], "cancelled", "client_lost"))
    assert lost.reasons == ("100 requests were not sent as far as is known: the process that had them ended first",)
    assert judge_validity(records(poisson_s, sent_s, "cancelled", "run_ended")).is_valid


def test_ends_that_nobody_saw_make_it_invalid_unless_the_run_was_ended(poisson_s: np.ndarray) -> None:
    lost = judge_validity(records(poisson_s, poisson_s, "cancelled", "client_lost"))
    assert lost.reasons == ("the ends of 1,000 requests were not seen: the process that had sent them ended first",)
    assert (lost.not_sent, lost.unseen_ends) == (0, 1000)
    assert judge_validity(records(poisson_s, poisson_s, "cancelled", "run_ended")).is_valid


def test_a_client_that_stood_still_is_found_although_nothing_was_due_to_be_sent_meanwhile(
    poisson_s: np.ndarray,
) -> None:
    sent = records(poisson_s, poisson_s)
    stalled = judge_validity(sent, Standstill(late_s=3.4, longest_s=3.5), run_s=100.0)
    assert stalled.reasons == (
        "the load generator itself stood still, for 3.5 s at a stretch and 3.4 % of the run (limit 1 %): what came "
        "meanwhile it saw too late",
    )
    assert (stalled.standstill_fraction, stalled.longest_standstill_s) == (pytest.approx(0.034), 3.5)
    assert judge_validity(sent, Standstill(late_s=0.9, longest_s=1.0), run_s=100.0).is_valid
    assert judge_validity(sent).standstill_fraction is None  # nobody told


def test_too_few_gaps_or_none_at_all_say_nothing_of_variation() -> None:
    assert gap_cv(np.arange(10.0)) is None
    assert gap_cv(np.zeros(100)) is None
    assert gap_cv(np.arange(100.0)) == pytest.approx(0.0)
    empty = judge_validity(records(np.zeros(0), np.zeros(0)))
    assert (empty.is_valid, empty.lateness_p99_s) == (True, None)
