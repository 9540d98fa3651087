"""The simulated fleet against queueing theory."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from small_fleets import ONE_AT_A_TIME, config, fates, fleet_of, trace

from autoscaler.simulator.fleet_state import Fate


def waits_s(replicas: int, utilisation: float, output_tokens: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Time from arrival to the start of service, Poisson arrivals, one request at a time in each replica."""
    rng = np.random.default_rng(seed)
    service_s = output_tokens.mean() * 0.01
    arrivals = np.cumsum(rng.exponential(service_s / (utilisation * replicas), len(output_tokens)))
    queueing = config(
        hardware=ONE_AT_A_TIME,
        initial_replicas=replicas,
        max_ongoing_requests=1,
        max_queued_requests=10**9,
    )
    fleet = fleet_of(trace(arrivals, 1, output_tokens), queueing)
    fleet.advance(arrivals[-1] + 10_000.0)
    assert fates(fleet).count(Fate.OK) == len(arrivals)
    return fleet.requests.first_token_s - 0.01 - fleet.requests.arrival_s


def erlang_c(servers: int, utilisation: float) -> float:
    """The probability that a request of an M/M/c queue has to wait. Source: Erlang 1917; any queueing textbook."""
    load = servers * utilisation
    last = load**servers / math.factorial(servers) / (1 - utilisation)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize(("replicas", "utilisation"), [(1, 0.5), (1, 0.7), (3, 0.8)], ids=["M/M/1", "M/M/1", "M/M/3"])
def test_exponential_service_gives_the_waits_of_queueing_theory(replicas: int, utilisation: float) -> None:
    # Output lengths are geometric with mean 200, so service is exponential with mean 2 s but for 0.25 % of variance.
    # Tolerance, set in advance: 5 % of the mean wait (its standard error here is about 1.5 %), 0.01 of the share.
    output_tokens = np.random.default_rng(1).geometric(1 / 200, 150_000)
    waited_s = waits_s(replicas, utilisation, output_tokens, seed=2)
    service_s = output_tokens.mean() * 0.01
    waiting = erlang_c(replicas, utilisation)
    assert waited_s.mean() == pytest.approx(waiting * service_s / (replicas * (1 - utilisation)), rel=0.05)
    assert (waited_s > 1e-9).mean() == pytest.approx(waiting, abs=0.01)


def test_constant_service_waits_half_as_long_as_exponential() -> None:
    # M/D/1 (Pollaczek-Khinchine): rho / (2 (1 - rho)) service times; tolerance 5 %
    waited_s = waits_s(1, 0.7, np.full(100_000, 200), seed=3)
    assert waited_s.mean() == pytest.approx(0.7 / (2 * 0.3) * 2.0, rel=0.05)


def test_littles_law_holds_for_what_the_replicas_report() -> None:
    # Reports every 0.05 s over 200 s: the time average of requests in the fleet is arrivals per second x time in it.
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.gamma(0.5, 0.2, 2000))
    sizes = rng.integers(1, 30, (2, 2000))
    fleet = fleet_of(trace(arrivals, *sizes), config(initial_replicas=4, max_ongoing_requests=200))
    inside, end_s = [], float(arrivals[-1]) + 20.0
    for place in range(1, int(end_s / 0.05)):
        fleet.advance(place * 0.05)
        inside.append(sum(sample.running + sample.waiting for sample in fleet.sample()))
    assert fates(fleet).count(Fate.OK) == 2000
    time_in_fleet_s = (fleet.requests.finished_s - fleet.requests.arrival_s).sum()
    assert np.mean(inside) * len(inside) * 0.05 == pytest.approx(time_in_fleet_s, rel=0.02)
