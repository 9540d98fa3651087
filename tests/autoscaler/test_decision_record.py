"""A decision's line holds what was seen, in short, and is plain JSON."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from autoscaler.decision_record import forecast_at, latest_arrivals_per_s, record_decision
from autoscaler.interface import ArrivalHistory, ClusterSnapshot, QueueSnapshot, ScalingDecision
from forecasting.interface import Forecast

Build = Callable[..., ClusterSnapshot]
BuildForecast = Callable[..., Forecast]


def test_the_line_digests_the_snapshot_and_is_json(cluster_at: Build, forecast_of: BuildForecast) -> None:
    cluster = cluster_at(
        100.0,
        target=3,
        ready=2,
        starting=1,
        draining=1,
        running=9,
        waiting=2,
        queues={"conversation": QueueSnapshot(4), "api": QueueSnapshot(1)},
        arrivals={"conversation": [1.0, 3.0], "api": [2.0]},
        forecast={"conversation": forecast_of({0.5: [1, 2, 3], 0.9: [2, 4, 6]})},
    )
    record = record_decision(cluster, ScalingDecision(9, "why"), applied_replicas=6, lead_s=10.0)
    assert json.loads(json.dumps(record.as_json())) == {
        "time_s": 100.0,
        "target_replicas": 6,
        "proposed_replicas": 9,
        "reason": "why",
        "starting": 1,
        "ready": 2,
        "draining": 1,
        "queued": 5,
        "running": 9,
        "waiting": 2,
        "arrivals_per_s": 5.0,
        "forecast": {"issued_at_s": 100.0, "at_s": 110.0, "levels": [0.5, 0.9], "requests_per_s": [3.0, 6.0]},
        "error": None,
        "model": None,
        "granted_replicas": None,
    }


def test_a_failed_decision_keeps_its_error(cluster_at: Build) -> None:
    record = record_decision(cluster_at(), ScalingDecision(1, "stays"), 1, lead_s=0.0, error="ValueError: no")
    assert record.as_json()["error"] == "ValueError: no"


def test_arrivals_are_the_last_bin_in_requests_per_second(cluster_at: Build) -> None:
    assert latest_arrivals_per_s(cluster_at()) == 0.0
    assert latest_arrivals_per_s(cluster_at(arrivals={"conversation": [], "api": [9.0, 5.0]}, bin_s=2.0)) == 2.5
    history = {"api": ArrivalHistory(0.0, 5.0, np.array([10.0]))}
    assert latest_arrivals_per_s(ClusterSnapshot(5.0, 1, arrivals=history)) == 2.0


@pytest.mark.parametrize(
    ("lead_s", "rate"),
    [(0.0, 1.0), (4.9, 1.0), (5.0, 2.0), (14.9, 3.0), (15.0, 3.0), (600.0, 3.0)],
    ids=lambda value: f"{value:g}",
)
def test_the_forecast_is_read_at_the_lead_and_its_last_bin_holds_beyond(
    lead_s: float, rate: float, cluster_at: Build, forecast_of: BuildForecast
) -> None:
    point = forecast_at(cluster_at(100.0, forecast={"api": forecast_of({0.9: [1, 2, 3]})}), lead_s)
    assert point is not None
    assert (point.at_s, point.requests_per_s) == (100.0 + lead_s, (rate,))


def test_services_are_summed_and_the_oldest_issue_is_kept(cluster_at: Build, forecast_of: BuildForecast) -> None:
    forecasts = {
        "conversation": forecast_of({0.5: [1, 5], 0.9: [2, 9]}, issued_at_s=100.0),
        "api": forecast_of({0.5: [10, 20], 0.9: [30, 40]}, issued_at_s=95.0),
    }
    point = forecast_at(cluster_at(100.0, forecast=forecasts), 0.0)
    assert point is not None
    assert (point.issued_at_s, point.levels, point.requests_per_s) == (95.0, (0.5, 0.9), (21.0, 42.0))


@pytest.mark.parametrize("forecast", [None, {}], ids=["none", "no service"])
def test_without_a_forecast_there_is_no_point(forecast: dict[str, Forecast] | None, cluster_at: Build) -> None:
    assert forecast_at(cluster_at(forecast=forecast), 10.0) is None
