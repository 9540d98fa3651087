"""The forecast may add replicas to the reactive rule's, never take one away, and says what it did."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.interface import ClusterSnapshot, QueueSnapshot, ScalingDecision
from autoscaler.policies import make_policy
from autoscaler.policies.forecast_quantile import is_fallback
from forecasting.interface import Forecast

Build = Callable[..., ClusterSnapshot]
BuildForecast = Callable[..., Forecast]
CALM = {"conversation": [4.0] * 60}  # the reactive rule asks for 2


def decide(cluster: ClusterSnapshot, **params: object) -> ScalingDecision:
    """The policy's answer; one replica carries 2 requests/s, one asked for now is ready within 11 s."""
    settings = {"replica_requests_per_s": 2.0, "horizon_s": 11.0} | params
    return make_policy("forecast-quantile", **settings).decide(cluster)


def test_the_highest_bin_within_the_horizon_counts(cluster_at: Build, forecast_of: BuildForecast) -> None:
    ahead = forecast_of({0.5: [4, 6, 8, 20], 0.9: [6, 14, 12, 40]}, issued_at_s=100.0, bin_s=5.0)
    cluster = cluster_at(100.0, arrivals=CALM, forecast={"conversation": ahead})
    assert decide(cluster).target_replicas == 7, "bins 100-105, 105-110 and 110-115 s; the burst at 115 s can wait"
    assert decide(cluster, level=0.5).target_replicas == 4
    assert decide(cluster, horizon_s=16.0).target_replicas == 20
    assert decide(cluster, horizon_s=15.0).target_replicas == 7, "the horizon's end is not in it"


def test_a_forecast_made_a_while_ago_is_read_from_now_on(cluster_at: Build, forecast_of: BuildForecast) -> None:
    ahead = forecast_of({0.9: [40, 30, 10, 10, 10, 10]}, issued_at_s=90.0, bin_s=5.0)
    assert decide(cluster_at(100.0, arrivals=CALM, forecast={"conversation": ahead})).target_replicas == 5
    assert decide(cluster_at(99.9, arrivals=CALM, forecast={"conversation": ahead})).target_replicas == 15


def test_the_reason_tells_both_sides_with_their_numbers(cluster_at: Build, forecast_of: BuildForecast) -> None:
    cluster = cluster_at(100.0, arrivals=CALM, forecast={"conversation": forecast_of({0.9: [12.4] * 6})})
    reactive = "reactive peak 4 requests/s in 60 s, 0 waiting -> 2"
    assert decide(cluster) == ScalingDecision(7, f"q0.9 of 12.4 requests/s within 11 s -> 7; {reactive}; max 7")


def test_the_reactive_rule_wins_where_it_asks_for_more(cluster_at: Build, forecast_of: BuildForecast) -> None:
    burst = {"conversation": [0.0] * 40 + [40.0] * 20}
    cluster = cluster_at(100.0, arrivals=burst, forecast={"conversation": forecast_of({0.9: [1] * 6})})
    decision = decide(cluster)
    assert decision.target_replicas == 20
    assert decision.reason.startswith("q0.9 of 1 requests/s within 11 s -> 1; reactive peak 40")
    assert not is_fallback(decision.reason)


def test_services_are_summed_level_by_level_moment_by_moment(cluster_at: Build, forecast_of: BuildForecast) -> None:
    talk = forecast_of({0.9: [10, 0, 0, 0]}, issued_at_s=100.0)
    jobs = forecast_of({0.9: [0, 0, 12, 0]}, issued_at_s=98.0)
    cluster = cluster_at(100.0, arrivals=CALM, forecast={"conversation": talk, "api": jobs})
    assert decide(cluster).target_replicas == 6, "the peaks are at 100-105 and 108-113 s: 10 and 12, never 22"
    late = forecast_of({0.9: [12, 0, 0, 0]}, issued_at_s=104.0)
    cluster = cluster_at(100.0, arrivals=CALM, forecast={"conversation": talk, "api": late})
    assert decide(cluster).target_replicas == 11


def test_a_patient_services_forecast_is_left_out(cluster_at: Build, forecast_of: BuildForecast) -> None:
    forecast = {"conversation": forecast_of({0.9: [6] * 6}), "api": forecast_of({0.9: [60] * 6})}
    cluster = cluster_at(100.0, arrivals=CALM, forecast=forecast)
    assert decide(cluster).target_replicas == 33
    assert decide(cluster, patience_s={"api": 60.0}).target_replicas == 3


def test_the_next_higher_level_stands_in_for_one_that_is_missing(cluster_at: Build, forecast_of: BuildForecast) -> None:
    forecast = {"conversation": forecast_of({0.5: [2] * 6, 0.95: [16] * 6, 0.99: [40] * 6})}
    decision = decide(cluster_at(100.0, arrivals=CALM, forecast=forecast), level=0.8)
    assert decision.target_replicas == 8
    assert decision.reason.startswith("q0.95 of 16 requests/s")


@pytest.mark.parametrize(
    ("forecast", "why"),
    [
        (None, "none was made"),
        ({}, "none was made"),
        ({"conversation": (55.0, 60)}, "it is 45 s old, limit 30"),
        ({"conversation": (100.0, 60), "api": (55.0, 60)}, "it is 45 s old, limit 30"),
        ({"conversation": (90.0, 2)}, "it ended 0 s ago"),
        ({"conversation": (80.0, 3)}, "it ended 5 s ago"),
    ],
    ids=["no forecaster", "no service", "stale", "one of two is stale", "just over", "over"],
)
def test_without_a_usable_forecast_the_reactive_rule_decides_and_it_is_said(
    forecast: dict[str, tuple[float, int]] | None, why: str, cluster_at: Build, forecast_of: BuildForecast
) -> None:
    made = forecast and {
        name: forecast_of({0.9: [50] * bins}, issued_at_s=at_s) for name, (at_s, bins) in forecast.items()
    }
    decision = decide(cluster_at(100.0, arrivals=CALM, forecast=made))
    reactive = "reactive peak 4 requests/s in 60 s, 0 waiting -> 2"
    assert decision == ScalingDecision(2, f"no usable forecast ({why}): {reactive}")
    assert is_fallback(decision.reason)


def test_a_level_above_the_forecasts_highest_is_not_guessed(cluster_at: Build, forecast_of: BuildForecast) -> None:
    forecast = {"conversation": forecast_of({0.5: [2] * 6, 0.9: [50] * 6})}
    decision = decide(cluster_at(100.0, arrivals=CALM, forecast=forecast), level=0.95)
    assert decision.target_replicas == 2
    assert "it has no level 0.95 or above, its highest is 0.9" in decision.reason


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_forecast_that_is_no_number_is_not_used(value: float, cluster_at: Build, forecast_of: BuildForecast) -> None:
    forecast = {"conversation": forecast_of({0.9: [5, value, 5, 5, 5, 5]})}
    decision = decide(cluster_at(100.0, arrivals=CALM, forecast=forecast))
    assert decision.target_replicas == 2
    assert "it holds values that are no numbers" in decision.reason


def test_a_forecast_in_long_bins_is_not_stale_before_the_next_one_is_due(
    cluster_at: Build, forecast_of: BuildForecast
) -> None:
    ahead = {"conversation": forecast_of({0.9: [20] * 5}, issued_at_s=100.0, bin_s=60.0)}
    assert decide(cluster_at(200.0, arrivals=CALM, forecast=ahead)).target_replicas == 10
    assert decide(cluster_at(221.0, arrivals=CALM, forecast=ahead)).target_replicas == 2


def test_a_forecast_shorter_than_the_horizon_is_used_as_far_as_it_reaches(
    cluster_at: Build, forecast_of: BuildForecast
) -> None:
    cluster = cluster_at(100.0, arrivals=CALM, forecast={"conversation": forecast_of({0.9: [12]})})
    assert decide(cluster).reason.startswith("q0.9 of 12 requests/s within 5 s -> 6")


def test_an_idle_system_with_an_idle_forecast_needs_nothing(cluster_at: Build, forecast_of: BuildForecast) -> None:
    idle = {"conversation": [0.0] * 60, "api": [0.0] * 60}
    forecast = {name: forecast_of({0.9: [0] * 6}) for name in idle}
    assert decide(cluster_at(100.0, arrivals=idle, forecast=forecast)).target_replicas == 0


def test_before_anything_is_counted_the_target_stays(cluster_at: Build) -> None:
    decision = decide(cluster_at(0.0, target=3, ready=0, starting=3))
    assert decision.target_replicas == 3
    assert "no arrivals counted yet, 0 waiting -> 3" in decision.reason


rates = st.lists(st.floats(0, 100), min_size=1, max_size=8)


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=80),
    talk=rates,
    jobs=rates,
    ages_s=st.tuples(st.floats(0, 60), st.floats(0, 60)),
    level=st.sampled_from([0.5, 0.8, 0.9, 0.99]),
    queued=st.integers(0, 100),
    more=st.floats(0, 30),
)
def test_it_never_asks_for_fewer_than_the_reactive_rule_nor_for_less_load(
    counts: list[int],
    talk: list[float],
    jobs: list[float],
    ages_s: tuple[float, float],
    level: float,
    queued: int,
    more: float,
    cluster_at: Build,
    forecast_of: BuildForecast,
) -> None:
    def cluster(extra: float) -> ClusterSnapshot:
        forecast = {
            name: forecast_of(
                {0.5: [rate / 2 + extra for rate in made], 0.9: [rate + extra for rate in made]}, 100 - age
            )
            for name, made, age in (("conversation", talk, ages_s[0]), ("api", jobs, ages_s[1]))
        }
        queues = {"conversation": QueueSnapshot(queued)}
        return cluster_at(100.0, target=2, ready=2, arrivals={"api": counts}, queues=queues, forecast=forecast)

    asked = decide(cluster(0.0), level=level)
    reactive = make_policy("reactive", replica_requests_per_s=2.0).decide(cluster(0.0))
    assert asked.target_replicas >= reactive.target_replicas
    assert decide(cluster(more), level=level).target_replicas >= asked.target_replicas
    assert decide(cluster(0.0), level=level) == asked, "same snapshot, same decision"
