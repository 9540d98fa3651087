"""Routings against queueing theory: how long requests wait when replicas are told apart by more or by less."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from small_fleets import ONE_AT_A_TIME, config, fates, fleet_of, trace

from autoscaler.interface import ScalingLimits
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.router_state import RouterConfig, Routing


def queueing_fleet(replicas: int, routing: Routing, utilisation: float, requests: int, seed: int) -> Fleet:
    """Poisson arrivals, exponential service of 2 s (a token takes 0.01 s), one at a time in each replica: served."""
    rng = np.random.default_rng(seed)
    arrivals_s = np.cumsum(rng.exponential(2.0 / (utilisation * replicas), requests))
    one = config(
        hardware=ONE_AT_A_TIME,
        limits=ScalingLimits(0, replicas),
        initial_replicas=replicas,
        max_ongoing_requests=2000,
        router=RouterConfig(routing=routing),
    )
    fleet = fleet_of(trace(arrivals_s, 1, rng.geometric(1 / 200, requests)), one, seed)
    fleet.advance(arrivals_s[-1] + 10_000.0)
    assert fates(fleet).count(Fate.OK) == requests
    return fleet


def times_in_fleet_s(fleet: Fleet) -> NDArray[np.float64]:
    """From arrival to end, of each request."""
    times_s: NDArray[np.float64] = fleet.requests.finished_s - fleet.requests.arrival_s
    return times_s


def test_round_robin_waits_as_long_as_a_queue_with_erlang_arrivals() -> None:
    # Every fourth arrival: E4/M/1. Its mean wait is s / (mu (1 - s)), s the root of s = A*(mu (1 - s)), where
    # A*(x) = (rate / (rate + x)) ** 4 is the Laplace transform of the gap (Kleinrock 1975, section 6.2).
    # Tolerance, set in advance: 3 % (the standard error is below 1 %).
    replicas, utilisation, service_s = 4, 0.8, 2.0
    fleet = queueing_fleet(replicas, Routing.ROUND_ROBIN, utilisation, 200_000, seed=7)
    rate_per_s, served_per_s = replicas * utilisation / service_s, 1 / service_s
    root = brentq(lambda s: (rate_per_s / (rate_per_s + served_per_s * (1 - s))) ** replicas - s, 1e-6, 0.999)
    assert times_in_fleet_s(fleet).mean() == pytest.approx(service_s + service_s * root / (1 - root), rel=0.03)


def test_power_of_two_waits_as_long_as_the_supermarket_model() -> None:
    # Mean time of many queues: service times sum of utilisation ** (2 ** i - 2) over i = 1, 2, ...: 2.614 at 0.9
    # (Mitzenmacher 1996, section 3.2; Vvedenskaya et al. 1996). With 100 queues simulations give 1 % more than that.
    # Tolerance, set in advance: 4 %.
    fleet = queueing_fleet(100, Routing.POWER_OF_TWO, 0.9, 250_000, seed=8)
    expected = sum(0.9 ** (2**i - 2) for i in range(1, 12))
    assert expected == pytest.approx(2.614, abs=0.001)
    assert times_in_fleet_s(fleet)[50_000:].mean() / 2.0 == pytest.approx(expected, rel=0.04)


def test_at_equal_load_more_knowledge_of_the_replicas_waits_less() -> None:
    # By theory: a central queue < join the shortest queue < the better of two < turns, all with exponential service.
    mean_s = {
        routing: times_in_fleet_s(queueing_fleet(8, routing, 0.85, 60_000, seed=9)).mean()
        for routing in (Routing.LEAST_OUTSTANDING, Routing.POWER_OF_TWO, Routing.ROUND_ROBIN)
    }
    assert list(mean_s) == sorted(mean_s, key=mean_s.__getitem__)
