"""Arrivals as the policy sees them: in bins that are complete."""

import numpy as np
import pytest
from numpy.typing import ArrayLike
from small_fleets import ONE_AT_A_TIME, config, fleet_of, services, trace

from autoscaler.interface import ClusterSnapshot, ScalingDecision, ScalingLimits
from autoscaler.simulator.fleet_run import FleetRun
from autoscaler.simulator.run import run_fleet
from autoscaler.simulator.snapshots import ArrivalCounts, ForecastFeed, what_is_resent
from forecasting.interface import Forecast
from loadgen.client_config import ClientConfig
from loadgen.trace import SERVICE_LABELS, Service, make_trace

SERVICES = ("conversation", "api")
# One request at a time and one in the queue: others are refused, and come again 0.5, 1, 2, ... s later.
BUSY = config(
    client=ClientConfig(max_attempts=9, jitter_fraction=0.0, honours_retry_after=False),
    limits=ScalingLimits(1, 1),
    hardware=ONE_AT_A_TIME,
    max_ongoing_requests=1,
    max_queued_requests=1,
    services=services(100.0, 100.0),
)


@pytest.mark.parametrize("idle_s", [0.0, 3.4])
def test_bins_hold_the_arrivals_of_their_time_and_none_before_and_after_the_trace(idle_s: float) -> None:
    busy_s = [0.0] * 300 + [1.0, 4.0, 4.9]
    trace = make_trace("uneven", busy_s, [1] * 303, [1] * 303, duration_s=9.0)
    counts = ArrivalCounts(trace, SERVICES, 1.0, idle_s)
    assert counts.first_bin == (-3 if idle_s else 0)
    expected = {-3: 0.0, -2: 0.0, -1: 0.0, 0: 300.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 2.0, 5: 0.0, 6: 0.0, 7: 0.0}
    for first in range(counts.first_bin, 8):
        for end in range(first, 8):
            bins = counts.bins("conversation", first, end)
            assert bins.tolist() == [expected[place] for place in range(first, end)]
            assert bins.dtype == "float64"
    assert counts.bins("api", 0, 3).tolist() == [0.0] * 3


def test_a_request_arrives_as_often_as_it_is_sent_each_time_as_its_service() -> None:
    # The engine is taken for 5 s and the queue too: the API request is refused at 0 s, 0.5, 1.5 and 3.5 s.
    crowd = trace([0.0, 0.0, 0.0], 1, [500, 2, 2], [Service.CONVERSATION, Service.CONVERSATION, Service.API])
    fleet = fleet_of(crowd, BUSY)
    counts = ArrivalCounts(crowd, SERVICES, 1.0, 2.0, what_is_resent(fleet))
    fleet.advance(7.0)
    assert counts.bins("conversation", -2, 7).tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert counts.bins("api", -2, 7).tolist() == [0, 0, 2, 1, 0, 1, 0, 0, 0]
    assert counts.bins("api", 1, 3).tolist() == [1, 0]
    fleet.advance(100.0)
    assert counts.bins("api", 6, 9).tolist() == [0, 1, 0], "after the trace's last arrival, too"


def test_where_clients_send_once_nothing_is_looked_up() -> None:
    assert what_is_resent(fleet_of(trace([0.0]), config())) is None


class Watcher:
    """Keeps one replica, and the last snapshot."""

    last: ClusterSnapshot

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        self.last = cluster
        return ScalingDecision(1, "one")


class Sum:
    """A forecaster that adds up what it is shown, bin after bin."""

    def __init__(self) -> None:
        self.requests = 0.0

    def observe(self, counts: ArrayLike) -> None:
        self.requests += float(np.sum(counts))

    def forecast(self, bins: int) -> Forecast:
        return Forecast(0.0, 1.0, np.array([0.5]), np.zeros((1, bins)))


def test_policy_and_forecaster_see_every_attempt_once() -> None:
    rng = np.random.default_rng(1)
    crowd = trace(np.sort(rng.uniform(0.0, 40.0, 80)), 1, rng.integers(1, 120, 80), rng.integers(0, 2, 80))
    watcher, sums = Watcher(), {label: Sum() for label in SERVICE_LABELS}
    fleet = fleet_of(crowd, BUSY)
    feed = ForecastFeed(sums, ArrivalCounts(crowd, SERVICE_LABELS, 1.0, 0.0, what_is_resent(fleet)), 1.0)
    records = run_fleet(FleetRun(crowd, watcher, fleet, BUSY, feed)).records.to_pandas()
    sent = records.groupby("service", observed=True)["attempts"].sum()
    assert sent.sum() > 150
    for label in SERVICE_LABELS:
        assert watcher.last.arrivals[label].requests.sum() == sent[label]
        assert sums[label].requests == sent[label]
