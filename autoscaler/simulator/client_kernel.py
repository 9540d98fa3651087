"""Clients that give up and try again, in compiled code. Without them (`clients` is None) all of this is left out."""

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator import prefix_cache_kernel
from autoscaler.simulator.client_state import ClientArrays, RequestHeap
from autoscaler.simulator.compiled import allow_in_compiled_code, compiled_inner
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.prefix_cache_kernel import mixed
from loadgen import client_config
from loadgen.client_config import pause_s

allow_in_compiled_code(prefix_cache_kernel, client_config)

COMING, OK, QUEUE_FULL, TOO_LONG = int(Fate.COMING), int(Fate.OK), int(Fate.QUEUE_FULL), int(Fate.TOO_LONG)


@compiled_inner
def goes_before(heap: RequestHeap, one: int, other: int) -> bool:
    """Whether one request comes before another."""
    if heap.ranks[one] != heap.ranks[other]:
        return bool(heap.ranks[one] < heap.ranks[other])
    if heap.keys[one] != heap.keys[other]:
        return bool(heap.keys[one] < heap.keys[other])
    return one < other


@compiled_inner
def move_up(heap: RequestHeap, place: int) -> None:
    """Bring the request at `place` forward until the one above it comes before it."""
    item = heap.items[place]
    while place > 0 and goes_before(heap, item, heap.items[(place - 1) // 2]):
        heap.items[place] = heap.items[(place - 1) // 2]
        heap.places[heap.items[place]] = place
        place = (place - 1) // 2
    heap.items[place] = item
    heap.places[item] = place


@compiled_inner
def move_down(heap: RequestHeap, place: int) -> None:
    """Bring the request at `place` back until it comes before those below it."""
    item, size = heap.items[place], heap.size[0]
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and goes_before(heap, heap.items[below + 1], heap.items[below]):
            below += 1
        if goes_before(heap, item, heap.items[below]):
            break
        heap.items[place] = heap.items[below]
        heap.places[heap.items[place]] = place
        place = below
    heap.items[place] = item
    heap.places[item] = place


@compiled_inner
def put(heap: RequestHeap, request: int, rank: int, key: float) -> None:
    """Put a request into the heap, or to where it belongs now."""
    heap.ranks[request] = rank
    heap.keys[request] = key
    if heap.places[request] < 0:
        heap.places[request] = heap.size[0]
        heap.items[heap.size[0]] = request
        heap.size[0] += 1
    move_up(heap, heap.places[request])
    move_down(heap, heap.places[request])


@compiled_inner
def take_out(heap: RequestHeap, request: int) -> None:
    """Take a request out of the heap, if it is there."""
    place = heap.places[request]
    if place < 0:
        return
    heap.places[request] = -1
    heap.size[0] -= 1
    last = heap.items[heap.size[0]]
    if last != request:
        heap.items[place] = last
        move_up(heap, place)
        move_down(heap, heap.places[last])


@compiled_inner
def begin_attempt(
    clients: ClientArrays | None, services: NDArray[np.void], requests: NDArray[np.void], request: int, now_s: float
) -> None:
    """The client sends the request and sets a time for the answer; what an earlier attempt brought is void."""
    if clients is None:
        return
    if clients.timers.places[request] >= 0:
        requests[request].attempts += 1
        requests[request].first_token_s = np.nan
        requests[request].received_tokens = 0
        requests[request].replica = -1
        clients.resent[clients.resent_count[0]] = request
        clients.resent_s[clients.resent_count[0]] = now_s
        clients.resent_count[0] += 1
    deadline_s = requests[request].arrival_s + services[requests[request].service].deadline_s
    put(clients.timers, request, 0, min(now_s + clients.rules.timeout_s, deadline_s))


@compiled_inner
def drawn_pause_s(clients: ClientArrays, request: int, attempts: int, fate: int) -> float:
    """How long a client waits before it sends a request again after so many attempts, the last of which ended so."""
    rules = clients.rules
    chance = mixed(mixed(rules.seed, request), attempts) / 2.0**62
    told_s = rules.retry_after_s if fate == QUEUE_FULL else 0.0
    return pause_s(rules.backoff_s, rules.max_backoff_s, rules.jitter_fraction, told_s, attempts, chance)


@compiled_inner
def is_given_up(
    clients: ClientArrays | None, services: NDArray[np.void], requests: NDArray[np.void], request: int, now_s: float
) -> bool:
    """Whether a request's time is over because its client waits no longer, before the deadline."""
    if clients is None:
        return False
    return bool(now_s < requests[request].arrival_s + services[requests[request].service].deadline_s)


@compiled_inner
def tries_again(
    clients: ClientArrays | None,
    services: NDArray[np.void],
    requests: NDArray[np.void],
    request: int,
    fate: int,
    now_s: float,
) -> bool:
    """An attempt has ended so: whether the client is going to make another one; if not, that was the request's end."""
    if clients is None:
        return False
    if fate != OK and fate != TOO_LONG and requests[request].attempts < clients.rules.max_attempts:
        again_s = now_s + drawn_pause_s(clients, request, requests[request].attempts, fate)
        if again_s < requests[request].arrival_s + services[requests[request].service].deadline_s:
            requests[request].fate = COMING
            clients.failed[clients.failed_count[0]] = request
            clients.failed_s[clients.failed_count[0]] = now_s
            clients.failed_fate[clients.failed_count[0]] = fate
            clients.failed_count[0] += 1
            put(clients.timers, request, 0, again_s)
            return True
    take_out(clients.timers, request)
    return False
