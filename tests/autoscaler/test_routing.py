"""Which replica gets a request, and which request goes first: by hand, against queueing theory, and always."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import HARDWARE, ONE_AT_A_TIME, config, fates, fleet_of, services, trace

from autoscaler.interface import ReplicaState, ScalingLimits
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_state import READY, Fate
from autoscaler.simulator.router_state import QueueOrder, RouterConfig, Routing
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Service, Trace

EVERY_ROUTING = tuple(Routing)


def served(requests: Trace, routing: Routing, replicas: int = 2, seed: int = 0, **changes: object) -> list[int]:
    """The replicas that serve the requests under this routing."""
    router = RouterConfig(routing=routing)
    limits = ScalingLimits(0, replicas)
    fleet = fleet_of(requests, config(initial_replicas=replicas, limits=limits, router=router, **changes), seed)
    fleet.advance(10_000.0)
    assert set(fates(fleet)) == {Fate.OK}
    replicas_: list[int] = fleet.requests.replica.tolist()
    return replicas_


def test_round_robin_takes_turns_whatever_the_load() -> None:
    # request 0 is long; the others come one by one and end at once
    requests = trace(np.arange(6) * 0.2, 10, [80, 2, 2, 2, 2, 2])
    assert served(requests, Routing.ROUND_ROBIN, 3) == [0, 1, 2, 0, 1, 2]
    assert served(requests, Routing.LEAST_OUTSTANDING, 3) == [0, 1, 1, 1, 1, 1]


def test_round_robin_passes_over_a_replica_without_room() -> None:
    # one request each: 0 has its long one when its turn comes again
    requests = trace(np.arange(5) * 0.2, 10, [80, 2, 2, 2, 2])
    assert served(requests, Routing.ROUND_ROBIN, 3, max_ongoing_requests=1) == [0, 1, 2, 1, 2]


def test_power_of_two_never_takes_the_one_of_two_with_more_requests_and_all_others_alike() -> None:
    # The first is long; 600 short ones follow, each alone. A pair with the busy replica goes to the other one.
    requests = trace(np.concatenate([[0.0], 1.0 + np.arange(600) * 0.2]), 1, [20_000] + [2] * 600)
    roomy = replace(ONE_AT_A_TIME, max_sequences=8)
    first, *others = served(requests, Routing.POWER_OF_TWO, 4, hardware=roomy)
    counts = np.bincount(others, minlength=4)
    assert counts[first] == 0
    # a third each: 200, with a standard deviation of 11.5
    assert np.abs(np.delete(counts, first) - 200).max() < 4 * 11.5


def test_the_routers_random_choices_go_by_the_seed_alone() -> None:
    requests = trace(np.arange(40) * 0.2, 10, 2)
    one, again, other = (served(requests, Routing.POWER_OF_TWO, 4, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_what_the_router_draws_changes_no_cold_start() -> None:
    starts_s = []
    for routing in (Routing.LEAST_OUTSTANDING, Routing.POWER_OF_TWO):
        varied = config(initial_replicas=0, cold_start_sigma=0.5, router=RouterConfig(routing=routing))
        fleet = fleet_of(trace(np.arange(50) * 0.1), varied, seed=4)
        fleet.scale_to(4)
        fleet.advance(100.0)
        fleet.close()
        starts_s.append([life.ready_s for life in fleet.lives])
    assert starts_s[0] == starts_s[1]


def test_kv_aware_counts_blocks_where_least_outstanding_counts_requests() -> None:
    # 60 tokens are 15 blocks of 4 to compute, 8 are 2. When 2 and 3 come, replica 1 has 2, then 4 to compute. In
    # replica 0 a step with 32 of the 60 is under way, none of it computed yet: 15 to compute and 8 held.
    requests = trace([0.0, 0.001, 0.002, 0.003], [60, 8, 8, 8], 20)
    assert served(requests, Routing.KV_AWARE) == [0, 1, 1, 1]
    assert served(requests, Routing.LEAST_OUTSTANDING) == [0, 1, 0, 1]


def with_texts(requests: Trace, texts: list[list[int]]) -> Trace:
    """The trace whose prompts begin with these recorded blocks of 8 tokens; a number stands for one text."""
    first = np.cumsum([0] + [len(text) for text in texts])
    blocks = np.array([number for text in texts for number in text], np.int64)
    return replace(requests, prefix=PrefixBlocks(8, first, blocks))


def test_kv_aware_goes_where_the_prompt_is_in_the_prefix_cache() -> None:
    requests = trace([0.0, 0.001, 5.0, 6.0, 7.0], 33, 2)
    texts = with_texts(requests, [[1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8], [1, 2, 3, 4], [9, 10, 11, 12]])
    # all is quiet when 2, 3 and 4 come: 2 and 3 have 8 of their 9 blocks in one replica, 4 has none anywhere
    assert served(texts, Routing.KV_AWARE, prefix_caching=True) == [0, 1, 1, 0, 0]
    assert served(texts, Routing.KV_AWARE) == [0, 1, 0, 0, 0]


def test_the_overlap_weight_says_how_much_load_a_cached_block_outweighs() -> None:
    # Request 2 finds 2 of its 3 blocks in replica 0, where 1 holds some: 2 + 1 tokens of prompt in one block at 5.0.
    requests = with_texts(trace([0.0, 4.99, 5.03], [9, 3, 9], [2, 60, 2]), [[1], [], [1]])
    held = 4.0  # request 1 has some 3 tokens by then: 1 block, and in weight none to compute
    chosen = {}
    for weight in (0.1, held):
        router = RouterConfig(routing=Routing.KV_AWARE, overlap_weight=weight)
        fleet = fleet_of(requests, config(initial_replicas=2, router=router, prefix_caching=True))
        fleet.advance(100.0)
        chosen[weight] = fleet.requests.replica.tolist()
    # to replica 0: 1 block held and weight * 1/4 token; to replica 1: weight * 9/4
    assert chosen == {0.1: [0, 0, 1], held: [0, 0, 0]}


def test_a_session_stays_with_its_replica_while_it_has_room() -> None:
    requests = replace(
        trace([0.0, 0.001, 1.0, 1.001, 1.002, 1.003], 10, [2, 2, 50, 2, 2, 2]), session=np.array([7, 9, 9, 9, 9, 7])
    )
    # 2 to 4 follow session 9 to replica 1 although 0 is idle
    assert served(requests, Routing.SESSION_AFFINITY) == [0, 1, 1, 1, 1, 0]
    # with room for two, 4 has to go elsewhere, and 5 follows its own
    assert served(requests, Routing.SESSION_AFFINITY, max_ongoing_requests=2) == [0, 1, 1, 1, 0, 0]
    assert served(requests, Routing.LEAST_OUTSTANDING) == [0, 1, 0, 1, 0, 1]


def test_a_session_whose_replica_is_gone_goes_to_the_one_with_the_fewest() -> None:
    sessions = replace(trace([0.0, 20.0, 21.0], 10, 2), session=np.array([5, 5, 5]))
    fleet = fleet_of(sessions, config(router=RouterConfig(routing=Routing.SESSION_AFFINITY)))
    fleet.advance(1.0)
    fleet.scale_to(0)  # its row is free
    fleet.scale_to(1)  # and taken by replica 1
    fleet.advance(30.0)
    assert fleet.requests.replica.tolist() == [0, 1, 1]


def test_first_come_first_served_looks_at_neither_class_nor_deadline() -> None:
    service = [Service.API, Service.API, Service.CONVERSATION, Service.API, Service.CONVERSATION]
    router = RouterConfig(queue_order=QueueOrder.FIFO)
    one = config(max_ongoing_requests=1, services=services(1000.0, 2000.0), router=router)
    fleet = fleet_of(trace([0.0, 0.001, 0.001, 0.001, 0.004], service=service), one)
    fleet.advance(100.0)
    assert np.argsort(fleet.requests.first_token_s).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("prompt_tokens", "taken_at_once"), [(68, True), (84, False)])
def test_a_replica_above_the_watermark_takes_no_further_request(prompt_tokens: int, taken_at_once: bool) -> None:
    # Of 40 blocks up to 20 may be held. 68 tokens and 12 more are 20 at most, 84 are 21. Three steps with the prompt
    # take 0.07 s, the others 0.2 s.
    router = RouterConfig(kv_watermark_fraction=0.5)
    fleet = fleet_of(trace([0.0, 0.1], [prompt_tokens, 4], [12, 2]), config(router=router))
    fleet.advance(0.1)
    assert (fates(fleet)[1] is Fate.IN_ENGINE) == taken_at_once
    fleet.advance(100.0)
    assert fates(fleet) == [Fate.OK, Fate.OK]
    assert (fleet.requests.first_token_s[1] < fleet.requests.finished_s[0]) == taken_at_once


routers = st.builds(
    RouterConfig,
    routing=st.sampled_from(EVERY_ROUTING),
    queue_order=st.sampled_from(tuple(QueueOrder)),
    kv_watermark_fraction=st.sampled_from([None, 0.0, 0.3, 0.9]),
    overlap_weight=st.sampled_from([0.0, 1.0, 5.0]),
)
arrivals = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.7]), st.integers(0, 70), st.integers(0, 25), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def tight_fleet(gaps: list[tuple[float, int, int, int]], router: RouterConfig, event_skipping: bool = True) -> Fleet:
    """Three replicas with few blocks and little room, which get these requests (gap, prompt, output, service)."""
    waits_s, prompts, outputs, service = zip(*gaps, strict=True)
    requests = replace(
        trace(np.cumsum(waits_s), prompts, outputs, service), session=np.arange(len(gaps), dtype=np.int64) % 4
    )
    requests = with_texts(requests, [[number % 3] * (prompt // 8) for number, prompt in enumerate(prompts)])
    tight = config(
        hardware=replace(HARDWARE, kv_cache_tokens=4 * 25, max_sequences=4),
        initial_replicas=3,
        max_ongoing_requests=5,
        max_queued_requests=8,
        services=services(3.0, 100.0),
        router=router,
        prefix_caching=True,
    )
    return fleet_of(requests, tight, seed=3, event_skipping=event_skipping)


@settings(max_examples=80, deadline=None)
@given(gaps=arrivals, router=routers)
def test_at_any_time_requests_are_in_one_place_and_none_waits_while_a_replica_takes_one(
    gaps: list[tuple[float, int, int, int]], router: RouterConfig
) -> None:
    fleet = tight_fleet(gaps, router)
    for place in range(1, 60):
        now_s = place * 0.07
        fleet.advance(now_s)
        inside = [sample.running + sample.waiting for sample in fleet.sample()]
        queued = sum(requests for requests, _, _ in fleet.queue())
        # Little's law, exactly: those that came and have not ended are those in the queue and in the engines
        came, fate = fleet.requests.arrival_s <= now_s, fleet.requests.fate
        assert queued + sum(inside) == (came & (fate < Fate.OK)).sum()
        assert (fleet.requests.finished_s[came & (fate >= Fate.OK)] <= now_s).all()
        assert max(inside) <= 5
        limit = 1.0 if router.kv_watermark_fraction is None else router.kv_watermark_fraction
        takes = [
            sample.running + sample.waiting < 5 and sample.kv_cache_fraction <= limit + 1e-9
            for sample in fleet.samples[-3:]
        ]
        assert queued == 0 or not any(takes)
        fleet.check()
    fleet.advance(1000.0)
    assert fleet.all_ended
    assert all(fate >= Fate.OK for fate in fates(fleet))


@settings(max_examples=80, deadline=None)
@given(gaps=arrivals, router=routers)
def test_jumping_over_steps_gives_the_same_bytes_under_every_routing(
    gaps: list[tuple[float, int, int, int]], router: RouterConfig
) -> None:
    jumped, stepped = tight_fleet(gaps, router), tight_fleet(gaps, router, event_skipping=False)
    for fleet in (jumped, stepped):
        fleet.advance(1000.0)
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(jumped.requests, name).tobytes() == getattr(stepped.requests, name).tobytes(), name


@settings(max_examples=40, deadline=None)
@given(gaps=arrivals, routing=st.sampled_from(EVERY_ROUTING))
def test_more_replicas_never_make_the_total_work_more(
    gaps: list[tuple[float, int, int, int]], routing: Routing
) -> None:
    # Work = tokens that the engines compute, without a prefix cache, deadlines, or preemption (which computes tokens
    # twice). Seconds of work do grow with the replicas: a step's fixed time is shared by fewer requests.
    waits_s, prompts, outputs, service = zip(*gaps, strict=True)
    requests = trace(np.cumsum(waits_s), prompts, outputs, service)
    computed = []
    for replicas in (1, 2, 4):
        roomy = replace(HARDWARE, kv_cache_tokens=4 * 4000)
        router = RouterConfig(routing=routing)
        fleet = fleet_of(requests, config(hardware=roomy, initial_replicas=replicas, router=router))
        fleet.advance(10_000.0)
        states = fleet.compiled[0].states
        assert set(fates(fleet)) == {Fate.OK}
        assert states["preemptions"].sum() == 0
        # a prompt is computed when it is admitted, and each output token but the last is computed once
        computed.append(states["looked_up_tokens"].sum() + states["output_tokens"].sum() - len(requests))
    asked = np.maximum(prompts, 1).sum() + np.maximum(outputs, 1).sum() - len(requests)
    assert computed == [asked] * 3


def test_a_replica_that_drains_gets_no_further_request_under_any_routing() -> None:
    for routing in EVERY_ROUTING:
        requests = replace(trace([0.0, 0.001, 0.5, 0.6, 0.7], 10, 60), session=np.array([1, 2, 2, 2, 2]))
        fleet = fleet_of(requests, config(initial_replicas=2, router=RouterConfig(routing=routing)))
        fleet.advance(0.1)
        fleet.scale_to(1)
        draining = [replica.replica_id for replica in fleet.replicas() if replica.state is ReplicaState.DRAINING]
        fleet.advance(0.8)
        late = {f"replica-{number}" for number in fleet.requests.replica[2:]}
        assert len(draining) == 1
        assert late.isdisjoint(draining)
        assert (fleet.compiled[0].replicas["state"] == READY).sum() == 1
