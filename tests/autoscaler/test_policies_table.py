"""A policy is made by name; what does not fit is told in one line with what would."""

import math

import pytest

from autoscaler.policies import POLICIES, describe_policies, make_policy, with_fleet_defaults
from loadgen.errors import InputError


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown policy 'nope'; known: static, ray-default, reactive, forecast-quan"):
        make_policy("nope")


def test_an_unknown_parameter_lists_those_of_the_policy_with_defaults() -> None:
    with pytest.raises(InputError, match=r"policy 'reactive' has no parameter 'drain'; it takes: .*drain_s=10\.0"):
        make_policy("reactive", replica_requests_per_s=2.0, drain=3)


def test_a_parameter_called_name_is_unknown_like_any_other() -> None:
    with pytest.raises(InputError, match="has no parameter 'name'"):
        make_policy("static", name="x")


def test_a_missing_parameter_says_what_it_takes() -> None:
    with pytest.raises(InputError, match=r"policy 'static' needs parameter 'replicas' \(a whole number >= 0\)"):
        make_policy("static")


@pytest.mark.parametrize(
    ("policy", "parameter", "value", "wanted"),
    [
        ("static", "replicas", 2.5, "a whole number >= 0"),
        ("static", "replicas", -1, "a whole number >= 0"),
        ("static", "replicas", True, "a whole number >= 0"),
        ("ray-default", "target_ongoing_requests", 0, "a number > 0"),
        ("ray-default", "upscale_delay_s", -1.0, "a number >= 0"),
        ("ray-default", "look_back_period_s", math.inf, "a number > 0"),
        ("reactive", "replica_requests_per_s", math.nan, "a number > 0"),
        ("reactive", "replica_requests_per_s", "2", "a number > 0"),
        ("reactive", "patience_s", {"apl": 60.0}, r"a mapping of services \(conversation, api\) to seconds > 0"),
        ("reactive", "patience_s", {"api": 0.0}, r"a mapping of services \(conversation, api\) to seconds > 0"),
        ("forecast-quantile", "level", 1.0, "a number > 0 and < 1"),
        ("forecast-quantile", "level", 90, "a number > 0 and < 1"),
    ],
)
def test_a_wrong_value_says_what_is_wanted(policy: str, parameter: str, value: object, wanted: str) -> None:
    good = {"replica_requests_per_s": 2.0, "horizon_s": 10.0} if policy == "forecast-quantile" else {}
    good |= {"replica_requests_per_s": 2.0} if policy == "reactive" else {}
    with pytest.raises(InputError, match=rf"policy '{policy}': parameter '{parameter}' is .*, want {wanted}$"):
        make_policy(policy, **(good | {parameter: value}))


def test_a_whole_number_is_taken_where_any_number_is() -> None:
    assert make_policy("reactive", replica_requests_per_s=2) == make_policy("reactive", replica_requests_per_s=2.0)


def test_every_policy_is_described_with_its_parameters() -> None:
    rows = {row.name: row for row in describe_policies()}
    assert list(rows) == list(POLICIES)
    assert all(row.summary.endswith(".") for row in rows.values())
    assert [str(parameter) for parameter in rows["static"].parameters] == ["replicas (required)"]
    assert "level=0.9" in [str(parameter) for parameter in rows["forecast-quantile"].parameters]
    assert "upscale_delay_s=30.0" in [str(parameter) for parameter in rows["ray-default"].parameters]


FLEET = {"cold_start_s": 10.0, "period_s": 1.0, "initial_replicas": 2}


def test_the_horizon_is_the_fleets_cold_start_and_a_period_unless_it_is_given() -> None:
    params = {"replica_requests_per_s": 2.0}
    assert with_fleet_defaults("forecast-quantile", params, **FLEET) == {**params, "horizon_s": 11.0}
    assert with_fleet_defaults("forecast-quantile", {"horizon_s": 60.0}, **FLEET) == {"horizon_s": 60.0}
    assert params == {"replica_requests_per_s": 2.0}, "what was given is left as it is"


def test_a_static_fleet_stays_as_large_as_it_starts_unless_a_number_is_given() -> None:
    assert with_fleet_defaults("static", {}, **FLEET) == {"replicas": 2}
    assert with_fleet_defaults("static", {"replicas": 3}, **FLEET) == {"replicas": 3}


def test_a_policy_gets_no_parameter_that_it_does_not_know() -> None:
    assert with_fleet_defaults("ray-default", {}, **FLEET) == {}
