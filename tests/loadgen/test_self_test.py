"""The rate that a client may claim is the highest below which it was never late."""

import json

import numpy as np
import pytest

from loadgen.self_test import LAG_LIMIT_S, HonestRate, judge_ramp, measure_honest_rate, peak_per_s, rate_of_machines

RATES = [100.0, 200.0, 400.0]


def ramp_with(*late_at_s: float) -> HonestRate:
    """A ramp of three steps of half a second with a request each 10 ms, all in time but those at these instants."""
    planned_s = np.arange(150) / 100 + 0.005
    lag_s = np.where(np.isin(np.floor(planned_s * 100), np.floor(np.array(late_at_s) * 100)), 1.0, 0.001)
    return judge_ramp(RATES, planned_s, lag_s, actors=2)


def test_a_client_that_is_never_late_can_do_at_least_the_highest_rate_tried() -> None:
    honest = ramp_with()
    assert (honest.per_s, honest.is_highest_tried) == (400.0, True)
    assert honest.sentence().startswith("this client sends at least 400 requests/s in time")
    assert honest.warning(400.0) is None


def test_the_first_step_that_is_late_ends_the_claim_even_if_a_later_one_is_not() -> None:
    honest = ramp_with(0.8)
    assert (honest.per_s, honest.is_highest_tried) == (100.0, False)
    assert honest.lag_p99_s == {100.0: 0.001, 200.0: 1.0, 400.0: 0.001}
    assert honest.warning(100.0) is None
    warning = str(honest.warning(101.0))
    assert warning.startswith("the plan's peak is 101 requests/s, and this client sends 100 requests/s in time")


def test_the_first_half_of_a_step_does_not_count() -> None:
    assert ramp_with(0.6).per_s == 400.0


def test_a_client_that_is_late_at_once_can_claim_nothing() -> None:
    honest = ramp_with(0.3)
    assert honest.per_s == 0
    assert "late even at 100 requests/s" in honest.sentence()
    assert str(honest.warning(1.0)).startswith("this client is late even at 100 requests/s")


def test_requests_that_never_arrived_are_infinitely_late_and_null_in_json() -> None:
    planned_s = np.arange(150) / 100
    honest = judge_ramp(RATES, planned_s, np.where(planned_s > 1.4, np.inf, 0.0), actors=1)
    assert honest.per_s == 200.0
    assert json.loads(json.dumps(honest.as_json(), allow_nan=False))["lag_p99_s"] == {"100": 0, "200": 0, "400": None}


def test_machines_that_share_a_plan_send_as_fast_as_the_slowest_of_them_allows() -> None:
    fast = HonestRate(1000.0, True, LAG_LIMIT_S, 2, {500.0: 0.001, 1000.0: 0.002})
    slow = HonestRate(150.0, False, LAG_LIMIT_S, 1, {150.0: 0.001, 225.0: 0.5})
    both = rate_of_machines([fast, slow])
    # A third of the plan is the slow machine's.
    assert (both.per_s, both.is_highest_tried, both.actors, both.machines) == (450.0, False, 3, 2)
    assert both.lag_p99_s == {450.0: 0.001, 675.0: 0.5}
    assert both.sentence().startswith(
        "this client sends 450 requests/s in time (lag p99 within 10 ms, 3 processes on 2"
    )
    assert both.warning(450.0) is None
    assert rate_of_machines([fast]) == fast


@pytest.mark.parametrize(
    ("arrival_s", "peak"), [([], 0), ([5.0], 1), ([0.0, 0.5, 0.999, 1.0], 3), ([0.0, 1.0, 2.0], 1)]
)
def test_the_peak_is_the_fullest_second(arrival_s: list[float], peak: float) -> None:
    assert peak_per_s(np.array(arrival_s)) == peak


def test_this_client_is_measured_up_to_twice_the_rate_that_is_needed() -> None:
    honest = measure_honest_rate(actors=2, needed_per_s=100)
    assert max(honest.lag_p99_s) >= 400 > max(honest.lag_p99_s) / 1.5
    assert all(lag_s > 0 for lag_s in honest.lag_p99_s.values())  # nothing arrives before it is sent
    assert all(np.isfinite(lag_s) for lag_s in honest.lag_p99_s.values())
    assert honest.lag_limit_s == LAG_LIMIT_S
