"""The simulated fleet, reckoned by hand: when requests start and end, where they go, how replicas come and go."""

import math
from dataclasses import replace

import numpy as np
import pytest
from small_fleets import HARDWARE, config, fates, fleet_of, services, trace

from autoscaler.interface import Priority, ReplicaState, ScalingLimits
from autoscaler.simulator.cost_model import step_duration_s
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_state import Fate
from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Service


def test_one_request_alone_takes_the_time_that_the_formula_says() -> None:
    fleet = fleet_of(trace([2.5], 50, 3), config())
    fleet.advance(100.0)
    first_s = 2.5 + step_duration_s(HARDWARE, ((32, 0),)) + step_duration_s(HARDWARE, ((18, 32),))
    end_s = first_s + step_duration_s(HARDWARE, (), (51,)) + step_duration_s(HARDWARE, (), (52,))
    assert fates(fleet) == [Fate.OK]
    assert fleet.requests.first_token_s[0] == pytest.approx(first_s, abs=1e-12)
    assert fleet.requests.finished_s[0] == pytest.approx(end_s, abs=1e-12)
    assert fleet.requests.received_tokens[0] == 3


def test_a_request_that_failed_when_it_was_recorded_asks_for_one_token() -> None:
    fleet = fleet_of(trace([0.0], 10, 0), config())
    fleet.advance(10.0)
    assert (fates(fleet), fleet.requests.received_tokens[0]) == ([Fate.OK], 1)


def test_a_request_goes_to_the_ready_replica_with_the_fewest() -> None:
    fleet = fleet_of(trace([0.0, 0.001, 0.002, 0.003], 10, [3, 50, 50, 50]), config(initial_replicas=2))
    fleet.advance(0.1)
    # requests 0 and 2 went to replica 0, 1 and 3 to replica 1
    assert fleet.requests.replica.tolist() == [0, 1, 0, 1]
    assert [sample.running for sample in fleet.sample()] == [1, 2]


def test_interactive_requests_go_first_then_those_with_the_earliest_deadline() -> None:
    one = config(max_ongoing_requests=1, services=services(1000.0, 2000.0))
    service = [Service.API, Service.API, Service.CONVERSATION, Service.API, Service.CONVERSATION]
    fleet = fleet_of(trace([0.0, 0.001, 0.002, 0.003, 0.004], service=service), one)
    fleet.advance(100.0)
    assert np.argsort(fleet.requests.first_token_s).tolist() == [0, 2, 4, 1, 3]


def test_within_one_class_the_earliest_deadline_goes_first_whatever_the_service() -> None:
    both = services(1000.0, 10.0)
    equal = {label: replace(service, priority=Priority.BATCH) for label, service in both.items()}
    one = config(max_ongoing_requests=1, services=equal)
    service = [Service.API, Service.CONVERSATION, Service.API, Service.CONVERSATION, Service.API]
    fleet = fleet_of(trace([0.0, 0.001, 0.002, 0.003, 0.004], service=service), one)
    fleet.advance(100.0)
    assert np.argsort(fleet.requests.first_token_s).tolist() == [0, 2, 4, 1, 3]


def test_a_request_beyond_the_queue_is_refused_at_once() -> None:
    fleet = fleet_of(trace([0.0, 0.001, 0.002, 0.003]), config(max_ongoing_requests=1, max_queued_requests=2))
    fleet.advance(100.0)
    assert fates(fleet) == [Fate.OK, Fate.OK, Fate.OK, Fate.QUEUE_FULL]
    assert fleet.requests.finished_s[3] == 0.003


def test_a_request_longer_than_the_model_takes_fails_at_once() -> None:
    fleet = fleet_of(trace([0.0, 1.0], [93, 93], [4, 3]), config())
    fleet.advance(100.0)
    assert fates(fleet) == [Fate.TOO_LONG, Fate.OK]


def test_without_a_ready_replica_requests_wait_up_to_their_deadline() -> None:
    fleet = fleet_of(trace([0.0, 1.0]), config(initial_replicas=0, services=services(30.0)))
    fleet.advance(30.5)
    assert fates(fleet) == [Fate.NO_READY_REPLICA, Fate.QUEUED]
    assert fleet.requests.finished_s[0] == 30.0
    fleet.scale_to(1)  # too late for the second: ready at 35.5
    fleet.advance(40.0)
    assert fates(fleet) == [Fate.NO_READY_REPLICA, Fate.NO_READY_REPLICA]


def test_a_deadline_counts_in_the_queue_and_in_the_engine_too() -> None:
    slow = replace(HARDWARE, fixed_s=1.0)
    fleet = fleet_of(trace([0.0, 1.5], 10, 50), config(hardware=slow, max_ongoing_requests=1, services=services(4.5)))
    fleet.advance(4.0)
    assert fleet.sample()[0].kv_cache_fraction > 0
    fleet.advance(4.5)
    # four steps of about 1.02 s ended before 4.5 s; the engine is free for request 1 then
    assert (fates(fleet)[0], fleet.requests.received_tokens[0]) == (Fate.DEADLINE_IN_ENGINE, 4)
    fleet.advance(100.0)
    assert (fates(fleet)[1], fleet.requests.finished_s[1]) == (Fate.DEADLINE_IN_ENGINE, 6.0)
    assert fleet.sample()[0].kv_cache_fraction == 0.0
    one = config(hardware=slow, max_ongoing_requests=1, services=services(4.5, 3.0))
    queued = fleet_of(trace([0.0, 0.1], 10, 50, [Service.CONVERSATION, Service.API]), one)
    queued.advance(100.0)
    assert fates(queued) == [Fate.DEADLINE_IN_ENGINE, Fate.DEADLINE_IN_QUEUE]
    assert queued.requests.finished_s.tolist() == [4.5, 3.1]


def states(fleet: Fleet) -> list[ReplicaState]:
    """The states of the replicas that there are, the oldest first."""
    return [replica.state for replica in fleet.replicas()]


def test_a_new_replica_serves_only_after_its_cold_start() -> None:
    fleet = fleet_of(trace([0.0, 20.0]), config(initial_replicas=0))
    fleet.advance(2.0)
    fleet.scale_to(1)
    fleet.advance(6.999)
    assert states(fleet) == [ReplicaState.STARTING]
    assert fates(fleet)[0] is Fate.QUEUED
    fleet.advance(8.0)
    assert states(fleet) == [ReplicaState.READY]
    assert fleet.requests.first_token_s[0] == pytest.approx(7.0 + step_duration_s(HARDWARE, ((10, 0),)))


def test_taking_replicas_away_cancels_the_newest_start_first_and_then_drains_the_emptiest() -> None:
    fleet = fleet_of(trace([0.0, 0.001, 0.002], 10, 60), config(initial_replicas=2))
    fleet.scale_to(4)
    fleet.advance(0.1)  # replica 0 has two requests, replica 1 has one
    fleet.scale_to(3)
    assert [(replica.replica_id, replica.state.value) for replica in fleet.replicas()] == [
        ("replica-0", "ready"),
        ("replica-1", "ready"),
        ("replica-2", "starting"),
    ]
    fleet.scale_to(1)
    assert [(replica.replica_id, replica.state.value) for replica in fleet.replicas()] == [
        ("replica-0", "ready"),
        ("replica-1", "draining"),
    ]
    fleet.advance(60.0)
    assert states(fleet) == [ReplicaState.READY]
    assert fates(fleet) == [Fate.OK] * 3, "draining loses nothing"


def test_a_draining_replica_gets_no_further_requests_and_is_cut_off_when_its_time_is_over() -> None:
    slow = replace(HARDWARE, fixed_s=1.0)
    fleet = fleet_of(trace([0.0, 3.0], 10, 60), config(hardware=slow, drain_timeout_s=10.5))
    fleet.advance(2.0)
    fleet.scale_to(0)
    fleet.advance(12.4)
    assert (states(fleet), fates(fleet)) == ([ReplicaState.DRAINING], [Fate.IN_ENGINE, Fate.QUEUED])
    fleet.advance(13.0)
    assert (states(fleet), fates(fleet)[0]) == ([], Fate.REPLICA_LOST)
    assert (fleet.requests.finished_s[0], fleet.requests.received_tokens[0]) == (12.5, 12)
    assert [(life.draining_s, life.ended_s) for life in fleet.lives] == [(2.0, 12.5)]


def test_cold_starts_vary_around_their_median_where_they_are_told_to() -> None:
    fleet = fleet_of(
        trace([0.0]), config(initial_replicas=0, cold_start_sigma=0.3, limits=ScalingLimits(0, 900)), seed=3
    )
    fleet.scale_to(900)
    fleet.advance(100.0)
    fleet.close()
    starts_s = np.array([life.ready_s - life.requested_s for life in fleet.lives])
    # the standard error of the mean of 900 logarithms is 0.3 / 30 = 0.01
    assert np.log(starts_s).mean() == pytest.approx(math.log(5.0), abs=0.04)
    assert np.log(starts_s).std() == pytest.approx(0.3, abs=0.03)


def test_more_replicas_than_there_were_rows_for_are_given_rows() -> None:
    fleet = fleet_of(trace(np.arange(30) * 0.1, 10, 60), config(limits=ScalingLimits(0, 2), initial_replicas=2))
    for place in range(1, 30):
        fleet.advance(place * 0.1)
        fleet.scale_to(0 if place % 2 else 2)  # each round leaves two more that drain
        fleet.check()
    fleet.advance(1000.0)
    assert Fate.OK in fates(fleet)
    assert len(fleet.lives) == 2 + 2 * 14


def test_a_service_that_the_fleet_does_not_know_is_an_error() -> None:
    with pytest.raises(InputError, match="trace 'test' has api requests; give the fleet a service 'api'"):
        fleet_of(trace([0.0], service=Service.API), config(services={"conversation": services()["conversation"]}))


def test_a_prefix_cache_spares_what_an_earlier_prompt_began_with() -> None:
    alike = replace(trace([0.0, 1.0], 26, 1), prefix=PrefixBlocks(6, np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 3])))
    fleet = fleet_of(alike, config(prefix_caching=True))
    fleet.advance(10.0)
    # 12 tokens are alike, 3 blocks of 4: 14 are left to compute, each after so many
    expected_s = step_duration_s(HARDWARE, ((14, 12),))
    assert fleet.requests.first_token_s[1] - 1.0 == pytest.approx(expected_s)
