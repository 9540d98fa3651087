"""Clients that give up and try again: by hand, and what holds whatever they do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import HARDWARE, ONE_AT_A_TIME, config, fates, fleet_of, services, trace

from autoscaler.interface import ScalingLimits
from autoscaler.policies import make_policy
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.router_state import QueueOrder, RouterConfig, Routing
from autoscaler.simulator.run import simulate
from autoscaler.simulator.tables import attempt_table
from loadgen.client_config import ClientConfig
from loadgen.trace import Service, Trace

# No jitter and no Retry-After: pauses of 0.5, 1, 2, 4, 8, 8, ... s.
PLAIN = ClientConfig(max_attempts=9, jitter_fraction=0.0, honours_retry_after=False)
SLOW = replace(HARDWARE, fixed_s=1.0)  # a step takes 1 s and a little


def attempts(fleet: Fleet) -> list[int]:
    """How often each request was sent."""
    sent: list[int] = fleet.requests.attempts.tolist()
    return sent


def resent_s(fleet: Fleet) -> list[float]:
    """When requests were sent again."""
    clients = fleet.compiled[0].clients
    assert clients is not None
    instants: list[float] = clients.resent_s[: clients.resent_count[0]].tolist()
    return instants


# Request 0 takes the only place and request 1 the queue's, so that request 2 is refused.
BUSY = {"max_ongoing_requests": 1, "max_queued_requests": 1, "hardware": ONE_AT_A_TIME}


def test_a_refused_request_comes_again_after_pauses_that_double() -> None:
    # 0 is served for 5 s, then 1 for 0.02 s; the queue is free from 5 s on: refused at 0, 0.5, 1.5 and 3.5 s.
    fleet = fleet_of(trace([0.0, 0.0, 0.0], 1, [500, 2, 2]), config(client=PLAIN, **BUSY))
    fleet.advance(7.4)
    assert fates(fleet) == [Fate.OK, Fate.OK, Fate.COMING]
    assert resent_s(fleet) == [0.5, 1.5, 3.5]
    fleet.advance(100.0)
    assert resent_s(fleet) == [0.5, 1.5, 3.5, 7.5]
    assert (fates(fleet)[2], attempts(fleet)) == (Fate.OK, [1, 1, 5])
    assert fleet.requests.first_token_s[2] == pytest.approx(7.51)


def test_a_client_stays_away_for_as_long_as_the_router_says() -> None:
    polite = replace(PLAIN, honours_retry_after=True)
    fleet = fleet_of(trace([0.0, 0.0, 0.0], 1, [500, 2, 2]), config(client=polite, retry_after_s=3.0, **BUSY))
    fleet.advance(100.0)
    assert resent_s(fleet) == [3.0, 6.0]
    assert attempts(fleet) == [1, 1, 3]


def test_a_client_gives_up_when_its_attempts_are_used_up() -> None:
    fleet = fleet_of(trace([0.0, 0.0, 0.0], 1, [500, 2, 2]), config(client=replace(PLAIN, max_attempts=3), **BUSY))
    fleet.advance(100.0)
    assert (fates(fleet)[2], attempts(fleet)[2], fleet.requests.finished_s[2]) == (Fate.QUEUE_FULL, 3, 1.5)


def test_no_attempt_begins_at_or_after_the_deadline_which_counts_from_the_first() -> None:
    # refused at 0, 0.5 and 1.5 s; the next attempt would be due at 3.5 s, when the deadline passes
    one = config(client=PLAIN, services=services(3.5), **BUSY)
    fleet = fleet_of(trace([0.0, 0.0, 0.0], 1, [500, 2, 2]), one)
    fleet.advance(100.0)
    assert (fates(fleet)[2], attempts(fleet)[2], fleet.requests.finished_s[2]) == (Fate.QUEUE_FULL, 3, 1.5)
    assert (fates(fleet)[0], fleet.requests.finished_s[0]) == (Fate.DEADLINE_IN_ENGINE, 3.5)


def test_an_attempt_that_takes_too_long_is_given_up_in_the_queue_and_in_the_engine() -> None:
    # Steps take about 1 s. Request 0 is given up after 2.5 s with 2 tokens; request 1, in the queue until then, gets
    # the replica. Half a second later 0 comes again and waits; 1 is given up at 3.5 s, and so on.
    patient = replace(PLAIN, timeout_s=2.5, max_attempts=2)
    one = config(client=patient, hardware=SLOW, max_ongoing_requests=1)
    fleet = fleet_of(trace([0.0, 1.0], 10, [50, 50]), one)
    fleet.advance(2.5)
    assert fates(fleet) == [Fate.COMING, Fate.IN_ENGINE]
    assert fleet.requests.received_tokens[0] == 2
    fleet.advance(3.2)
    assert fates(fleet) == [Fate.QUEUED, Fate.IN_ENGINE]
    assert (fleet.requests.received_tokens[0], np.isnan(fleet.requests.first_token_s[0])) == (0, True)
    assert fleet.requests.replica[0] == -1
    fleet.advance(100.0)
    # 0: 3.0 to 5.5, in the engine from 3.5 on, where one step ended; 1: 1.0 to 3.5, then 4.0 to 6.5, there from 5.5 on
    assert fates(fleet) == [Fate.GIVEN_UP, Fate.GIVEN_UP]
    assert fleet.requests.finished_s.tolist() == [5.5, 6.5]
    assert resent_s(fleet) == [3.0, 4.0]
    assert fleet.requests.received_tokens.tolist() == [1, 0]


def test_a_request_whose_replica_is_lost_is_served_by_another() -> None:
    fleet = fleet_of(trace([0.0], 10, 20), config(client=PLAIN, hardware=SLOW, initial_replicas=2, drain_timeout_s=0.5))
    fleet.advance(3.0)
    fleet.scale_to(1)  # the emptiest drains: replica 1
    fleet.scale_to(0)
    fleet.advance(3.6)
    assert fates(fleet) == [Fate.COMING]
    fleet.scale_to(1)
    fleet.advance(100.0)
    assert (fates(fleet), attempts(fleet), fleet.requests.replica.tolist()) == ([Fate.OK], [2], [2])
    assert resent_s(fleet) == [4.0]
    assert fleet.requests.received_tokens[0] == 20


def test_a_request_too_long_for_the_model_is_not_sent_again() -> None:
    fleet = fleet_of(trace([0.0], 93, 4), config(client=PLAIN))
    fleet.advance(100.0)
    assert (fates(fleet), attempts(fleet)) == ([Fate.TOO_LONG], [1])


@pytest.mark.parametrize(("order", "served"), [(QueueOrder.CLASS_DEADLINE, [2, 0, 1]), (QueueOrder.FIFO, [1, 2, 0])])
def test_a_request_that_comes_again_has_the_place_that_the_queues_order_gives_it(
    order: QueueOrder, served: list[int]
) -> None:
    # The first replica is ready at 3.8 s. 0 is given up at 3 s and back at 3.5 s; 1 and 2 came at 1 and 2 s. By class:
    # the conversation, then the earliest deadline, which is 0's; by time of coming 0 is last.
    client, router = replace(PLAIN, timeout_s=3.0), RouterConfig(queue_order=order)
    one = config(client=client, router=router, max_ongoing_requests=1, hardware=ONE_AT_A_TIME, initial_replicas=0)
    requests = trace([0.0, 1.0, 2.0], 1, 5, [Service.API, Service.API, Service.CONVERSATION])
    fleet = fleet_of(requests, replace(one, services=services(1000.0, 1000.0), cold_start_s=3.8))
    fleet.scale_to(1)
    fleet.advance(3.6)
    assert [deadline_s for _, _, deadline_s in fleet.queue()] == [1002.0, 1000.0]
    fleet.advance(100.0)
    assert attempts(fleet) == [2, 1, 1]
    assert np.argsort(fleet.requests.first_token_s).tolist() == served


def test_jitter_spreads_the_pauses_and_goes_by_the_seed() -> None:
    # 200 requests are refused at once; they come again half a second later, or up to 60 % earlier
    crowd = trace([0.0] * 202, 1, [5000] + [2] * 201)
    jittered = replace(PLAIN, jitter_fraction=0.6, max_attempts=2)
    runs = [fleet_of(crowd, config(client=jittered, **BUSY), seed) for seed in (1, 1, 2)]
    for fleet in runs:
        fleet.advance(100.0)
    one, again, other = (resent_s(fleet) for fleet in runs)
    assert one == again != other
    assert len(one) == 200
    assert min(one) >= 0.2
    assert max(one) <= 0.5
    # uniform on [0.2, 0.5]: mean 0.35, standard error of 200 0.3 / sqrt(12 * 200) = 0.006
    assert np.mean(one) == pytest.approx(0.35, abs=4 * 0.006)


def test_impatient_clients_make_a_short_overload_last() -> None:
    # Service takes 2 s, and every 4 s a request comes. 30 more at once are served within two minutes if they wait. From
    # clients that come back every 5 s the replica mostly has requests that are given up before their end.
    requests = trace(np.concatenate([np.zeros(30), 1.0 + np.arange(20) * 4.0]), 1, 200)
    outcomes = {}
    for name, client in {"patient": None, "impatient": ClientConfig(timeout_s=5.0, max_attempts=20)}.items():
        one = config(hardware=ONE_AT_A_TIME, client=client, services=services(120.0))
        fleet = fleet_of(requests, one)
        fleet.advance(1000.0)
        outcomes[name] = (fates(fleet).count(Fate.OK), sum(attempts(fleet)))
    assert outcomes["patient"] == (50, 50)
    served, sent = outcomes["impatient"]
    assert served < 40
    assert sent > 200


def test_the_record_of_a_request_that_was_given_up_says_so_and_where_it_was() -> None:
    # Steps take about 1 s, the engine takes one request. At 1.5 s request 0 is given up with a token, and 2 takes its
    # place since conversations go first; it waits there for the end of a step until 1.7 s. Request 1 never leaves the
    # router.
    impatient = ClientConfig(timeout_s=1.5, max_attempts=1)
    one = config(client=impatient, hardware=SLOW, max_ongoing_requests=1, limits=ScalingLimits(1, 1))
    order = [Service.CONVERSATION, Service.API, Service.CONVERSATION]
    records = simulate(
        trace([0.0, 0.1, 0.2], 10, 50, order), make_policy("ray-default"), one, rng=np.random.default_rng(0)
    ).records.to_pandas()
    assert records["status"].tolist() == ["cancelled"] * 3
    assert records["cause"].tolist() == ["given_up"] * 3
    assert records["phase"].tolist() == ["decode", "router_queue", "engine_queue"]
    assert records["finished_s"].tolist() == pytest.approx([1.5, 1.6, 1.7])


def test_records_hold_the_number_of_attempts() -> None:
    requests = trace([0.0, 0.0, 0.0], 1, [500, 2, 2])
    busy = config(client=PLAIN, limits=ScalingLimits(1, 1), **BUSY)
    records = simulate(requests, make_policy("ray-default"), busy, rng=np.random.default_rng(0)).records
    assert records["attempts"].to_pylist() == [1, 1, 5]
    assert records["status"].to_pylist() == ["ok"] * 3


def sendings(fleet: Fleet, request: int) -> list[tuple[float, float, str, str | None]]:
    """When each attempt of a request was sent and ended, and how."""
    clients = fleet.compiled[0].clients
    assert clients is not None
    rows = attempt_table(fleet.requests, clients).to_pylist()
    mine = [row for row in rows if row["request_id"] == request]
    assert [row["attempt"] for row in mine] == list(range(1, len(mine) + 1))
    return [(row["sent_s"], pytest.approx(row["finished_s"]), row["status"], row["cause"]) for row in mine]


def test_each_attempt_is_told_with_its_instants_and_its_end() -> None:
    fleet = fleet_of(trace([0.0, 0.0, 0.0], 1, [500, 2, 2]), config(client=PLAIN, **BUSY))
    fleet.advance(100.0)
    refused = [(at_s, at_s, "rejected", "queue_full") for at_s in (0.0, 0.5, 1.5, 3.5)]
    assert sendings(fleet, 2) == [*refused, (7.5, 7.52, "ok", None)]
    assert sendings(fleet, 1) == [(0.0, pytest.approx(fleet.requests.finished_s[1]), "ok", None)]


def test_attempts_that_were_given_up_end_when_their_clients_left() -> None:
    patient = replace(PLAIN, timeout_s=2.5, max_attempts=2)
    fleet = fleet_of(trace([0.0, 1.0], 10, [50, 50]), config(client=patient, hardware=SLOW, max_ongoing_requests=1))
    fleet.advance(100.0)
    left = ("cancelled", "given_up")
    assert sendings(fleet, 0) == [(0.0, 2.5, *left), (3.0, 5.5, *left)]
    assert sendings(fleet, 1) == [(1.0, 3.5, *left), (4.0, 6.5, *left)]


@pytest.mark.parametrize("client", [None, replace(PLAIN, max_attempts=1)])
def test_where_nothing_is_sent_again_there_are_no_attempts_to_tell_of(client: ClientConfig | None) -> None:
    one = config(client=client, limits=ScalingLimits(1, 1))
    result = simulate(trace([0.0], 1, 2), make_policy("ray-default"), one, rng=np.random.default_rng(0))
    assert result.attempts is None


clients = st.builds(
    ClientConfig,
    timeout_s=st.sampled_from([0.05, 0.4, 2.0, np.inf]),
    max_attempts=st.integers(1, 5),
    backoff_s=st.sampled_from([0.0, 0.02, 0.5]),
    max_backoff_s=st.sampled_from([0.05, 3.0]),
    jitter_fraction=st.sampled_from([0.0, 0.25, 1.0]),
    honours_retry_after=st.booleans(),
)
routers = st.builds(
    RouterConfig,
    routing=st.sampled_from(tuple(Routing)),
    queue_order=st.sampled_from(tuple(QueueOrder)),
    kv_watermark_fraction=st.sampled_from([None, 0.3]),
)
arrivals = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.3]), st.integers(0, 70), st.integers(0, 25), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)
targets = st.lists(st.integers(0, 3), max_size=8)


def tight_fleet(
    gaps: list[tuple[float, int, int, int]],
    router: RouterConfig,
    client: ClientConfig | None,
    *,
    event_skipping: bool = True,
) -> Fleet:
    """Up to three replicas, few blocks, tiny queues, short drains; requests are (gap, prompt, output, service)."""
    waits_s, prompts, outputs, service = zip(*gaps, strict=True)
    requests: Trace = replace(
        trace(np.cumsum(waits_s), prompts, outputs, service), session=np.arange(len(gaps), dtype=np.int64) % 4
    )
    tight = config(
        hardware=replace(HARDWARE, kv_cache_tokens=4 * 25, max_sequences=4),
        initial_replicas=2,
        cold_start_s=0.3,
        drain_timeout_s=0.2,
        max_ongoing_requests=3,
        max_queued_requests=2,
        services=services(3.0, 7.0),
        router=router,
        client=client,
        retry_after_s=0.3,
    )
    return fleet_of(requests, tight, seed=3, event_skipping=event_skipping)


def follow(fleet: Fleet, script: list[int]) -> Fleet:
    """Let the fleet go through these sizes, a quarter of a second each, and to the end."""
    for target in script:
        fleet.advance(fleet.now_s + 0.25)
        fleet.scale_to(target)
        fleet.check()
        assert sum(queued for queued, _, _ in fleet.queue()) == (fleet.requests.fate == Fate.QUEUED).sum()
    fleet.advance(1000.0)
    fleet.check()
    return fleet


def check_attempts(fleet: Fleet) -> None:
    """A request's attempts follow each other from its arrival to its end, and only the last may have ended ok."""
    requests, clients = fleet.requests, fleet.compiled[0].clients
    assert clients is not None
    told = attempt_table(requests, clients).to_pandas()
    first, last = told.drop_duplicates("request_id"), told.drop_duplicates("request_id", keep="last")
    assert np.array_equal(told.groupby("request_id").size(), requests.attempts)
    assert np.array_equal(first["sent_s"], requests.arrival_s)
    assert np.array_equal(last["finished_s"], requests.finished_s)
    assert np.array_equal(last["status"] == "ok", requests.fate == Fate.OK)
    assert (told["finished_s"] >= told["sent_s"]).all()
    others = told.drop(last.index)
    assert np.all(told["sent_s"].to_numpy()[others.index + 1] >= others["finished_s"])
    assert (others["status"] != "ok").all()


@settings(max_examples=80, deadline=None)
@given(gaps=arrivals, router=routers, client=clients, script=targets)
def test_every_request_ends_once_by_its_deadline_whatever_clients_and_routers_do(
    gaps: list[tuple[float, int, int, int]], router: RouterConfig, client: ClientConfig, script: list[int]
) -> None:
    fleet = follow(tight_fleet(gaps, router, client), script)
    requests, ended = fleet.requests, np.array(fates(fleet))
    arrays = fleet.compiled[0]
    assert fleet.all_ended
    assert int(arrays.clock["ended"][0]) == len(gaps)
    assert (ended >= Fate.OK).all()
    assert arrays.clients is not None
    assert arrays.clients.timers.size[0] == arrays.clients.queue.size[0] == 0
    assert (requests.attempts >= 1).all()
    assert (requests.attempts <= client.max_attempts).all()
    assert requests.attempts.sum() == len(gaps) + len(resent_s(fleet))
    assert resent_s(fleet) == sorted(resent_s(fleet))
    deadline_s = requests.arrival_s + np.where(requests.service == 0, 3.0, 7.0)
    assert (requests.finished_s <= deadline_s + 1e-9).all()
    check_attempts(fleet)
    ok = requests.fate == Fate.OK
    assert np.array_equal(requests.received_tokens[ok], requests.output_tokens[ok])
    assert np.array_equal(np.isnan(requests.first_token_s), requests.received_tokens == 0)
    assert (requests.first_token_s[ok] <= requests.finished_s[ok]).all()
    assert (ok <= (requests.replica >= 0)).all()


@settings(max_examples=80, deadline=None)
@given(gaps=arrivals, router=routers, client=clients, script=targets)
def test_jumping_over_steps_gives_the_same_bytes_with_clients_that_try_again(
    gaps: list[tuple[float, int, int, int]], router: RouterConfig, client: ClientConfig, script: list[int]
) -> None:
    jumped = follow(tight_fleet(gaps, router, client), script)
    stepped = follow(tight_fleet(gaps, router, client, event_skipping=False), script)
    assert jumped.requests.tobytes() == stepped.requests.tobytes()
    assert resent_s(jumped) == resent_s(stepped)


@settings(max_examples=80, deadline=None)
@given(gaps=arrivals, router=routers, script=targets)
def test_clients_that_send_once_and_wait_are_as_good_as_none(
    gaps: list[tuple[float, int, int, int]], router: RouterConfig, script: list[int]
) -> None:
    # each arrival at an instant of its own, so that no two deadlines are equal
    gaps = [(wait_s + 0.0001 * place, *rest) for place, (wait_s, *rest) in enumerate(gaps, 1)]  # type: ignore[misc]
    once = follow(tight_fleet(gaps, router, ClientConfig(max_attempts=1)), script)
    none = follow(tight_fleet(gaps, router, None), script)
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(once.requests, name).tobytes() == getattr(none.requests, name).tobytes(), name
