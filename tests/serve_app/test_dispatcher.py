"""The dispatcher: slots, places, deadlines and their causes."""

import asyncio
import time

import numpy as np
import pytest

from autoscaler.interface import Priority
from autoscaler.simulator.router_state import Routing
from loadgen.records import Cause, Phase
from serve_app.dispatcher import Dispatcher, Slot
from serve_app.openai_api import ApiError
from serve_app.replica_choice import ReplicaChoice
from serve_app.router_queue import QueuedRequest, RouterQueue


def dispatcher(
    *ready: str, slots: int = 2, queue: int = 10, routing: Routing = Routing.LEAST_OUTSTANDING
) -> Dispatcher:
    """A dispatcher whose replicas `ready` are ready."""
    choice = ReplicaChoice(routing, np.random.default_rng(0))
    made = Dispatcher(slots, RouterQueue(queue), choice, retry_after_s=3)
    made.set_ready(frozenset(ready))
    return made


def request(key: str, *, wait_s: float = 30.0, batch: bool = False) -> QueuedRequest:
    """A request with its deadline `wait_s` from now."""
    priority = Priority.BATCH if batch else Priority.INTERACTIVE
    return QueuedRequest(key, "api" if batch else "conversation", priority, 1, time.time() + wait_s)


PHASES = {Cause.NO_READY_REPLICA: Phase.COLD_START, Cause.DEADLINE_IN_QUEUE: Phase.ROUTER_QUEUE}


async def cause_of(waiting: asyncio.Task[Slot]) -> Cause | None:
    """The cause with which a request is refused; it says the phase as well."""
    with pytest.raises(ApiError) as refusal:
        await waiting
    assert refusal.value.cause is not None
    assert refusal.value.phase is PHASES[refusal.value.cause]
    return refusal.value.cause


async def test_requests_are_spread_evenly_and_no_replica_gets_more_than_its_slots() -> None:
    """Five requests for two replicas with two slots: the fifth waits until a slot is free, and gets that one."""
    router = dispatcher("a", "b")
    slots = [await router.acquire(request(str(number))) for number in range(4)]
    assert sorted(slot.replica_id for slot in slots) == ["a", "a", "b", "b"]
    fifth = asyncio.create_task(router.acquire(request("4")))
    await asyncio.sleep(0)
    assert not fifth.done()
    router.release(slots[3])
    assert (await fifth).replica_id == slots[3].replica_id


async def test_interactive_requests_get_the_next_slot() -> None:
    """Although the batch request has waited for longer."""
    router = dispatcher("a", slots=1)
    slot = await router.acquire(request("first"))
    batch = asyncio.create_task(router.acquire(request("batch", wait_s=1, batch=True)))
    await asyncio.sleep(0)
    interactive = asyncio.create_task(router.acquire(request("interactive", wait_s=20)))
    await asyncio.sleep(0)
    router.release(slot)
    slot = await interactive
    assert not batch.done()
    router.release(slot)
    await batch


async def test_a_new_replica_takes_from_the_queue_at_once() -> None:
    """Also the very first one."""
    router = dispatcher()
    waiting = [asyncio.create_task(router.acquire(request(str(number)))) for number in range(3)]
    await asyncio.sleep(0)
    assert router.queued(("conversation",))["conversation"].requests == 3
    router.set_ready(frozenset({"a"}))
    assert [slot.replica_id for slot in await asyncio.gather(*waiting[:2])] == ["a", "a"]
    assert not waiting[2].done()
    router.set_ready(frozenset({"a", "b"}))
    assert (await waiting[2]).replica_id == "b"


async def test_what_a_draining_replica_still_does_takes_no_slot_of_the_others() -> None:
    """Its releases do not open slots either."""
    router = dispatcher("a", slots=1)
    on_a = await router.acquire(request("1"))
    router.set_ready(frozenset({"b"}))
    on_b = await router.acquire(request("2"))
    waiting = asyncio.create_task(router.acquire(request("3")))
    await asyncio.sleep(0)
    router.release(on_a)
    await asyncio.sleep(0)
    assert not waiting.done()
    router.release(on_b)
    assert (await waiting).replica_id == "b"


async def test_a_request_that_another_replica_took_counts_there() -> None:
    """Serve may take another one than the chosen one where that one is just lost."""
    router = dispatcher("a", "b", slots=1)
    slot = await router.acquire(request("1"))
    assert slot.replica_id == "a"
    router.move(slot, "b")
    assert (await router.acquire(request("2"))).replica_id == "a"


async def test_a_full_queue_refuses_with_retry_after() -> None:
    """And takes again when one has left."""
    router = dispatcher(queue=1)
    waiting = asyncio.create_task(router.acquire(request("1")))
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refusal:
        await router.acquire(request("2"))
    assert (refusal.value.status, refusal.value.cause, refusal.value.retry_after_s) == (503, Cause.QUEUE_FULL, 3)
    assert refusal.value.phase is Phase.ROUTER_QUEUE
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await cause_of(asyncio.create_task(router.acquire(request("3", wait_s=0.01)))) is Cause.NO_READY_REPLICA


async def test_the_cause_of_a_timeout_tells_whether_a_replica_was_ready() -> None:
    """At any time while the request waited."""
    router = dispatcher("a", slots=1)
    await router.acquire(request("1"))
    late = asyncio.create_task(router.acquire(request("2", wait_s=0.01)))
    assert await cause_of(late) is Cause.DEADLINE_IN_QUEUE
    lost_meanwhile = asyncio.create_task(router.acquire(request("3", wait_s=0.05)))
    await asyncio.sleep(0)
    router.set_ready(frozenset())
    assert await cause_of(lost_meanwhile) is Cause.DEADLINE_IN_QUEUE
    assert await cause_of(asyncio.create_task(router.acquire(request("4", wait_s=0.01)))) is Cause.NO_READY_REPLICA


async def test_a_request_given_up_in_the_moment_of_its_admission_gives_its_slot_back() -> None:
    """Cancelled after the slot was given and before the task has run."""
    router = dispatcher("a", slots=1)
    slot = await router.acquire(request("1"))
    leaving = asyncio.create_task(router.acquire(request("2")))
    await asyncio.sleep(0)
    router.release(slot)
    leaving.cancel()
    outcome = (await asyncio.gather(leaving, return_exceptions=True))[0]
    if isinstance(outcome, Slot):  # asyncio may deliver the result instead of the cancellation
        router.release(outcome)
    assert (await asyncio.wait_for(router.acquire(request("3")), 1)).replica_id == "a"


async def test_round_robin_takes_turns_and_passes_over_full_replicas() -> None:
    """The first replica's slots are both in use when its turn comes for the third time."""
    router = dispatcher("a", "b", "c", routing=Routing.ROUND_ROBIN)
    slots = [await router.acquire(request(str(number))) for number in range(5)]
    assert [slot.replica_id for slot in slots] == ["a", "b", "c", "a", "b"]
    router.release(slots[1])
    assert [(await router.acquire(request(str(number)))).replica_id for number in range(5, 7)] == ["c", "b"]


async def test_the_better_of_two_never_takes_the_fullest_and_finds_the_only_free_slot() -> None:
    """Of three replicas the fullest is never the better of two."""
    router = dispatcher("a", "b", "c", slots=100, routing=Routing.POWER_OF_TWO)
    for number in range(60):
        await router.acquire(request(str(number)))
    held = dict.fromkeys("abc", 0)
    for number in range(60, 120):
        slot = await router.acquire(request(str(number)))
        held[slot.replica_id] += 1
    assert sum(held.values()) == 60
    assert min(held.values()) >= 10
    full = dispatcher("a", "b", "c", "d", slots=1, routing=Routing.POWER_OF_TWO)
    taken = [(await full.acquire(request(str(number)))).replica_id for number in range(4)]
    assert sorted(taken) == ["a", "b", "c", "d"]
