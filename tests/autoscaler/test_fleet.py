"""The simulated fleet: by hand, against the engine alone, against queueing theory, and what no run may break."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_fleets import HARDWARE, ONE_AT_A_TIME, config, fates, fleet_of, services, trace

from autoscaler.interface import Priority, ReplicaState, ScalingLimits
from autoscaler.simulator.cost_model import step_duration_s
from autoscaler.simulator.engine import EngineStepper
from autoscaler.simulator.engine_options import AdmissionOrder, EngineOptions, Preemption
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.prompt_texts import prompt_texts
from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Service, Trace


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


def with_prefix(requests: Trace, paths: list[list[int]]) -> Trace:
    """The trace with these texts at the beginning of its prompts."""
    numbers: dict[tuple[int, ...], int] = {}
    blocks = [
        [numbers.setdefault(tuple(path[: end + 1]), len(numbers)) for end in range(len(path))]
        for path in paths[: len(requests)]
    ]
    first = np.cumsum([0] + [len(numbered) for numbered in blocks])
    flat = np.array([number for numbered in blocks for number in numbered], np.int64)
    return replace(requests, prefix=PrefixBlocks(6, first, flat))


# Prompts walk down a small tree of texts: each choice is a recorded block of 6 tokens, no multiple of the engine's 4.
paths = st.lists(st.lists(st.sampled_from([0, 0, 0, 1]), max_size=12), min_size=40, max_size=40)
engine_options = st.builds(
    EngineOptions,
    order=st.sampled_from(AdmissionOrder),
    prediction_sigma=st.sampled_from([0.0, 1.0]),
    preemption=st.sampled_from(Preemption),
    swap_space_gib=st.sampled_from([0.0, 0.04, 4.0]),  # 10 blocks, or all
    watermark_fraction=st.sampled_from([0.0, 0.1]),
)
requests_at_once = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    requests=requests_at_once,
    blocks=st.integers(24, 41),
    event_skipping=st.booleans(),
    paths=paths,
    prefix_caching=st.booleans(),
    options=engine_options,
)
def test_a_replica_does_what_the_engine_does_step_by_step(
    requests: list[tuple[int, int]],
    blocks: int,
    event_skipping: bool,
    paths: list[list[int]],
    prefix_caching: bool,
    options: EngineOptions,
) -> None:
    hardware = replace(HARDWARE, kv_cache_tokens=4 * blocks)
    # the first is alone at 0; the others come while it is in its first step
    prompts, outputs = zip(*requests, strict=True)
    arrivals = [0.0] + [0.001] * (len(requests) - 1)
    sent = with_prefix(trace(arrivals, prompts, outputs), paths)
    options = replace(options, prediction_sigma=0.0)
    one = config(hardware=hardware, prefix_caching=prefix_caching, engine=options)
    fleet = fleet_of(sent, one, event_skipping=event_skipping)
    fleet.advance(1000.0)
    texts, now_s = prompt_texts(sent.prefix) if prefix_caching else None, 0.0
    engine = EngineStepper(hardware, texts=texts, options=options)
    first_s: dict[int, float] = {}
    end_s: dict[int, float] = {}
    waiting = list(enumerate(requests))

    def add(number: int, prompt_tokens: int, output_tokens: int) -> None:
        engine.add(number, prompt_tokens, output_tokens, options.rank(Priority.INTERACTIVE, output_tokens))

    number, request = waiting.pop(0)
    add(number, *request)
    while (step := engine.step()) is not None:
        now_s += step.duration_s
        for number, request in waiting:
            add(number, *request)
        waiting = []
        for number, tokens in step.tokens:
            if tokens == 1:
                first_s[number] = now_s
        end_s |= dict.fromkeys(step.finished, now_s)
    assert fleet.requests.first_token_s.tolist() == [first_s[number] for number in range(len(requests))]
    assert fleet.requests.finished_s.tolist() == [end_s[number] for number in range(len(requests))]


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


# Traffic, a fleet and a script of target counts, all at random and tight.
gaps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.7]), st.integers(0, 70), st.integers(0, 30), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)
scripts = st.lists(st.tuples(st.sampled_from([0.05, 0.3, 1.0]), st.integers(0, 4)), max_size=12)
fleets = st.fixed_dictionaries(
    {
        "hardware": st.builds(
            lambda blocks, sequences, budget: replace(
                HARDWARE, kv_cache_tokens=4 * blocks, max_sequences=sequences, max_batched_tokens=budget
            ),
            st.integers(20, 60),
            st.integers(1, 6),
            st.integers(2, 64),
        ),
        "initial_replicas": st.integers(0, 3),
        "cold_start_s": st.sampled_from([0.0, 0.2, 2.0]),
        "max_ongoing_requests": st.integers(1, 9),
        "max_queued_requests": st.integers(1, 30),
        "drain_timeout_s": st.sampled_from([0.1, 5.0]),
        "services": st.builds(services, st.sampled_from([0.3, 2.0, 100.0]), st.sampled_from([1.0, 100.0])),
        "engine": engine_options,
    }
)


def run_script(
    requests: Trace, settings_: dict[str, object], script: list[tuple[float, int]], event_skipping: bool
) -> Fleet:
    """Follow a script of (wait, target) to the end of every request, with the engines checked at each stop."""
    fleet = fleet_of(requests, config(**settings_), event_skipping=event_skipping)
    for wait_s, target_replicas in script:
        fleet.advance(fleet.now_s + wait_s)
        fleet.check()
        fleet.scale_to(target_replicas)
        fleet.sample()
        fleet.check()
    fleet.advance(1000.0)
    fleet.check()
    fleet.close()
    return fleet


def traffic(gaps: list[tuple[float, int, int, int]]) -> Trace:
    """A trace from (seconds since the last, prompt tokens, output tokens, service)."""
    waits_s, prompts, outputs, service = zip(*gaps, strict=True)
    return trace(np.cumsum(waits_s), prompts, outputs, service)


@settings(max_examples=80, deadline=None)
@given(gaps=gaps, fleet_settings=fleets, script=scripts)
def test_no_request_is_lost_and_every_token_is_counted_once(
    gaps: list[tuple[float, int, int, int]], fleet_settings: dict[str, object], script: list[tuple[float, int]]
) -> None:
    fleet = run_script(traffic(gaps), fleet_settings, script, event_skipping=True)
    requests, ended = fleet.requests, fates(fleet)
    assert fleet.all_ended
    assert all(fate >= Fate.OK for fate in ended)
    assert not np.isnan(requests.finished_s).any()
    ok = requests.fate == Fate.OK
    assert np.array_equal(requests.received_tokens[ok], requests.output_tokens[ok])
    assert (requests.received_tokens[~ok] < requests.output_tokens[~ok]).all()
    assert np.array_equal(np.isnan(requests.first_token_s), requests.received_tokens == 0)
    assert sum(sample.output_tokens for sample in fleet.samples) == requests.received_tokens.sum()
    deadline_s = np.array([service.slo.deadline_s for service in fleet_settings["services"].values()])[requests.service]  # type: ignore[attr-defined]
    assert (requests.finished_s <= requests.arrival_s + deadline_s + 1e-9).all()
    served = requests.replica >= 0
    assert (ok <= served).all()


@settings(max_examples=80, deadline=None)
@given(gaps=gaps, fleet_settings=fleets, script=scripts)
def test_jumping_over_steps_gives_the_same_bytes_as_going_step_by_step(
    gaps: list[tuple[float, int, int, int]], fleet_settings: dict[str, object], script: list[tuple[float, int]]
) -> None:
    jumped = run_script(traffic(gaps), fleet_settings, script, event_skipping=True)
    stepped = run_script(traffic(gaps), fleet_settings, script, event_skipping=False)
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(jumped.requests, name).tobytes() == getattr(stepped.requests, name).tobytes(), name
    assert jumped.samples == stepped.samples
    assert jumped.lives == stepped.lives


@settings(max_examples=80, deadline=None)
@given(gaps=gaps, paths=paths, fleet_settings=fleets, script=scripts)
def test_with_a_prefix_cache_jumping_gives_the_same_bytes_too_and_blocks_add_up(
    gaps: list[tuple[float, int, int, int]],
    paths: list[list[int]],
    fleet_settings: dict[str, object],
    script: list[tuple[float, int]],
) -> None:
    requests = with_prefix(traffic(gaps), paths)
    cached = {**fleet_settings, "prefix_caching": True}
    jumped = run_script(requests, cached, script, event_skipping=True)
    stepped = run_script(requests, cached, script, event_skipping=False)
    assert jumped.all_ended
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(jumped.requests, name).tobytes() == getattr(stepped.requests, name).tobytes(), name
    assert jumped.samples == stepped.samples
    assert jumped.lives == stepped.lives


def test_a_prefix_cache_spares_what_an_earlier_prompt_began_with() -> None:
    alike = replace(trace([0.0, 1.0], 26, 1), prefix=PrefixBlocks(6, np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 3])))
    fleet = fleet_of(alike, config(prefix_caching=True))
    fleet.advance(10.0)
    # 12 tokens are alike, 3 blocks of 4: 14 are left to compute, each after so many
    expected_s = step_duration_s(HARDWARE, ((14, 12),))
    assert fleet.requests.first_token_s[1] - 1.0 == pytest.approx(expected_s)


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
