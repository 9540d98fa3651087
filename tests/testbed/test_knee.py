"""The search for the knee: which rates it tries, what it finds, and what it makes of steps that say nothing."""

import json
from collections.abc import Callable

import pytest

from testbed.knee import Knee, KneeSearch, KneeStep, read_step, search_knee


def step_at(rate_per_s: float, attainment_fraction: float, invalid: tuple[str, ...] = ()) -> KneeStep:
    return KneeStep(rate_per_s, 100, attainment_fraction, 0.0, 0.1, invalid, "step")


def server_up_to(knee_per_s: float, valid_up_to: float = 1e9) -> Callable[[float], KneeStep]:
    """Keeps its promises up to a rate; the client sends in time up to another."""

    def measure(rate_per_s: float) -> KneeStep:
        late = ("late",) if rate_per_s > valid_up_to else ()
        return step_at(rate_per_s, 1.0 if rate_per_s <= knee_per_s else 0.2, late)

    return measure


@pytest.mark.parametrize("knee_per_s", [0.3, 1.0, 1.5, 13.0, 100.0])
def test_the_knee_is_bracketed_within_the_precision(knee_per_s: float) -> None:
    knee = search_knee(KneeSearch(), server_up_to(knee_per_s))
    assert knee.rate_per_s is not None
    assert knee.failed_per_s is not None
    assert knee.rate_per_s <= knee_per_s < knee.failed_per_s <= 1.1 * knee.rate_per_s
    assert len(knee.steps) <= 14


def test_the_rates_double_and_then_halve_the_interval() -> None:
    knee = search_knee(KneeSearch(precision_fraction=0.5), server_up_to(5.0))
    assert [step.rate_per_s for step in knee.steps] == pytest.approx([1, 2, 4, 8, 32**0.5])
    assert knee.rate_per_s == 4.0


def test_a_step_that_is_not_valid_is_taken_again_and_counts_for_nothing() -> None:
    tries: list[float] = []

    def measure(rate_per_s: float) -> KneeStep:
        tries.append(rate_per_s)
        if tries.count(2.0) == 1 and rate_per_s == 2.0:
            return step_at(2.0, 0.0, ("late",))
        return step_at(rate_per_s, 1.0 if rate_per_s <= 3.0 else 0.0)

    knee = search_knee(KneeSearch(precision_fraction=1.0), measure)
    assert tries == [1.0, 2.0, 2.0, 4.0]
    assert (knee.rate_per_s, knee.failed_per_s) == (2.0, 4.0)
    assert "1 of 4 steps were not valid and were discarded" in knee.sentence()


def test_a_client_that_is_too_slow_is_named_as_the_limit_and_not_the_server() -> None:
    knee = search_knee(KneeSearch(), server_up_to(1000.0, valid_up_to=5.0))
    assert knee.rate_per_s is not None
    assert knee.rate_per_s <= 5.0
    assert knee.failed_per_s is None
    assert knee.client_limit_per_s is not None
    assert knee.client_limit_per_s > 5.0
    assert "is not known, since this client could not send" in knee.sentence()


def test_a_server_that_keeps_its_promise_at_no_rate_has_no_knee() -> None:
    knee = search_knee(KneeSearch(), server_up_to(0.0))
    assert knee.rate_per_s is None
    assert [step.rate_per_s for step in knee.steps] == [2.0**-place for place in range(7)]
    assert "not even at 0.0156 requests/s" in knee.sentence()


def test_a_search_that_comes_to_its_last_step_says_what_it_knows() -> None:
    knee = search_knee(KneeSearch(most_steps=3), server_up_to(1e9))
    assert (knee.rate_per_s, knee.failed_per_s) == (4.0, None)
    assert "the search ended after 3 steps" in knee.sentence()


def test_what_was_found_is_plain_json() -> None:
    document = json.loads(json.dumps(Knee(2.0, 3.0, None, KneeSearch(), (step_at(2.0, 1.0),)).as_json()))
    assert (document["rate_per_s"], document["steps"][0]["attainment_fraction"]) == (2.0, 1.0)
    assert document["sentence"] == "90 % of the requests or more meet their SLO up to 2 requests/s, and not at 3"


def test_a_step_in_which_no_request_counts_is_not_valid() -> None:
    total = {"offered": 0, "attainment_fraction": None, "failure_fraction": None, "ttft": {"p99_s": None}}
    step = read_step(1.0, "step-01", {"requests": {"total": total}, "validity": {"reasons": []}})
    assert step.invalid == ("no request came after the warm-up",)
