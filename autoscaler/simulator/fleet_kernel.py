"""The inner loop of the fleet simulator: arrivals, routing and deadlines, until the next control tick.

At one instant, what happens in replicas comes first (a step ends, a replica is ready), in order of rows; then the
queue gives out what it can, then requests' times are over, then new requests arrive.
"""

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator.client_kernel import begin_attempt, is_given_up, put, take_out
from autoscaler.simulator.client_state import ClientArrays
from autoscaler.simulator.compiled import compiled, compiled_inner
from autoscaler.simulator.engine_kernel import add_request, remove_request
from autoscaler.simulator.fleet_state import READY, Fate, FleetArrays, Rules
from autoscaler.simulator.next_events import earliest_row
from autoscaler.simulator.replica_kernel import begin_steps, count_time, end_request, engine_of, replica_event, settle
from autoscaler.simulator.request_phase import COLD_START, ROUTER_QUEUE, phase_in_engine
from autoscaler.simulator.routing_kernel import anyone_has_room, choose_row, settle_blocks

COMING, QUEUED, IN_ENGINE, OK = int(Fate.COMING), int(Fate.QUEUED), int(Fate.IN_ENGINE), int(Fate.OK)
QUEUE_FULL, TOO_LONG = int(Fate.QUEUE_FULL), int(Fate.TOO_LONG)
NO_READY_REPLICA, DEADLINE_IN_QUEUE = int(Fate.NO_READY_REPLICA), int(Fate.DEADLINE_IN_QUEUE)
DEADLINE_IN_ENGINE, GIVEN_UP = int(Fate.DEADLINE_IN_ENGINE), int(Fate.GIVEN_UP)


@compiled_inner
def next_service(
    services: NDArray[np.void], of_service: NDArray[np.int64], requests: NDArray[np.void], is_fifo: bool
) -> int:
    """The service whose request goes next, by the queue's order; -1 where nothing is queued."""
    best, best_rank, best_s = -1, 0, 0.0
    for index in range(len(services)):
        service = services[index]
        if service.queued == 0:
            continue
        while requests[of_service[service.head]].fate != QUEUED:
            service.head += 1
        request = of_service[service.head]
        rank, at_s = service.rank, requests[request].arrival_s + service.deadline_s
        if is_fifo:
            rank, at_s = 0, float(request)  # they are numbered as they come
        if best < 0 or rank < best_rank or (rank == best_rank and at_s < best_s):
            best, best_rank, best_s = index, rank, at_s
    return best


@compiled_inner
def next_queued(
    clients: ClientArrays | None,
    services: NDArray[np.void],
    of_service: NDArray[np.int64],
    requests: NDArray[np.void],
    is_fifo: bool,
) -> int:
    """The request that leaves the router's queue next; -1 where nothing is queued."""
    if clients is not None:
        return int(clients.queue.items[0]) if clients.queue.size[0] > 0 else -1
    best = next_service(services, of_service, requests, is_fifo)
    return int(of_service[services[best].head]) if best >= 0 else -1


@compiled_inner
def join_queue(
    clients: ClientArrays | None,
    services: NDArray[np.void],
    requests: NDArray[np.void],
    request: int,
    is_fifo: bool,
    now_s: float,
) -> None:
    """Let a request wait at the router."""
    requests[request].fate = QUEUED
    service = services[requests[request].service]
    service.queued += 1
    service.queued_prompt_tokens += requests[request].prompt_tokens
    if clients is not None:
        if is_fifo:
            put(clients.queue, request, 0, now_s)
        else:
            put(clients.queue, request, service.rank, requests[request].arrival_s + service.deadline_s)


@compiled_inner
def leave_queue(
    clients: ClientArrays | None, services: NDArray[np.void], requests: NDArray[np.void], request: int
) -> None:
    """Take a request out of the router's queue."""
    if clients is not None:
        take_out(clients.queue, request)
    service = services[requests[request].service]
    service.queued -= 1
    service.queued_prompt_tokens -= requests[request].prompt_tokens


@compiled_inner
def dispatch(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules, now_s: float) -> None:
    """Give queued requests to replicas while there are both; an idle engine begins at once."""
    fleet.clock[0].dispatch_due = 0
    settle_blocks(fleet, rules, now_s)
    while True:
        request = next_queued(fleet.clients, fleet.services, fleet.of_service, requests, rules.router.is_fifo)
        if request < 0:
            return
        row = choose_row(fleet, rules, request, requests[request].prompt_tokens)
        if row < 0:
            return
        leave_queue(fleet.clients, fleet.services, requests, request)
        requests[request].fate = IN_ENGINE
        requests[request].replica = fleet.replicas[row].number
        requests[request].row = row
        engine = engine_of(fleet, row)
        prompt_tokens, output_tokens = requests[request].prompt_tokens, requests[request].output_tokens
        rank = fleet.engine_ranks[request] if len(fleet.engine_ranks) > 0 else 0.0
        slot = add_request(engine, request, prompt_tokens, output_tokens, rank)
        requests[request].slot = slot
        if engine.waiting_slots[engine.state.waiting_head] == slot:  # else the front of the queue is held up
            settle(fleet, row, rules, now_s)
        if fleet.replicas[row].steps == 0:
            begin_steps(fleet, row, rules, now_s)


@compiled_inner
def offer(fleet: FleetArrays, requests: NDArray[np.void], request: int, rules: Rules, now_s: float) -> None:
    """A request comes to the router: refused, or into the queue, from where it may be dispatched at once."""
    begin_attempt(fleet.clients, fleet.services, requests, request, now_s)
    total_tokens = max(1, requests[request].prompt_tokens) + max(1, requests[request].output_tokens)
    queued = 0
    for index in range(len(fleet.services)):
        queued += fleet.services[index].queued
    if total_tokens > rules.longest_request_tokens:
        end_request(fleet, requests, request, TOO_LONG, now_s)
    elif queued >= rules.max_queued_requests and not anyone_has_room(fleet, rules, now_s):
        end_request(fleet, requests, request, QUEUE_FULL, now_s)
    else:
        join_queue(fleet.clients, fleet.services, requests, request, rules.router.is_fifo, now_s)
        fleet.clock[0].dispatch_due = 1


@compiled_inner
def next_timer(
    clients: ClientArrays | None,
    services: NDArray[np.void],
    of_service: NDArray[np.int64],
    requests: NDArray[np.void],
) -> tuple[float, int]:
    """When a request's time is over, its attempt's or its pause's next, and which; infinity where there is none."""
    at_s, first = np.inf, -1
    if clients is not None:
        if clients.timers.size[0] > 0:
            first = int(clients.timers.items[0])
            at_s = clients.timers.keys[first]
        return at_s, first
    for index in range(len(services)):
        service = services[index]
        while service.expiry < service.end and requests[of_service[service.expiry]].fate >= OK:
            service.expiry += 1
        if service.expiry < service.end:
            request = of_service[service.expiry]
            deadline_s = requests[request].arrival_s + service.deadline_s
            if deadline_s < at_s:
                at_s, first = deadline_s, request
    return at_s, first


@compiled_inner
def expire(fleet: FleetArrays, requests: NDArray[np.void], request: int, rules: Rules, now_s: float) -> None:
    """A request's time is over: it leaves the queue, or its engine, which frees its KV blocks; or it comes again."""
    if requests[request].fate == COMING:
        offer(fleet, requests, request, rules, now_s)
        return
    given_up = is_given_up(fleet.clients, fleet.services, requests, request, now_s)
    if requests[request].fate == QUEUED:
        leave_queue(fleet.clients, fleet.services, requests, request)
        ready = 0
        for row in range(len(fleet.replicas)):
            ready += fleet.replicas[row].state == READY
        requests[request].phase = ROUTER_QUEUE if ready else COLD_START
        fate = DEADLINE_IN_QUEUE if ready else NO_READY_REPLICA
        end_request(fleet, requests, request, GIVEN_UP if given_up else fate, now_s)
        return
    row = requests[request].row
    settle(fleet, row, rules, now_s)
    engine = engine_of(fleet, row)
    index = requests[request].slot
    requests[request].received_tokens = engine.slots[index].produced_tokens
    requests[request].phase = phase_in_engine(engine.slots[index])
    remove_request(engine, index)
    end_request(fleet, requests, request, GIVEN_UP if given_up else DEADLINE_IN_ENGINE, now_s)
    fleet.clock[0].dispatch_due = 1


@compiled
def run_until(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules, until_s: float) -> None:
    """Let everything happen that is due up to and including `until_s`."""
    clock = fleet.clock[0]
    while True:
        row_s = fleet.next_s[1]
        if clock.dispatch_due and row_s > clock.now_s:
            dispatch(fleet, requests, rules, clock.now_s)
            continue
        expiry_s, expiring = next_timer(fleet.clients, fleet.services, fleet.of_service, requests)
        arrival_s = requests[clock.arrived].arrival_s if clock.arrived < len(requests) else np.inf
        next_s = min(row_s, expiry_s, arrival_s)
        if next_s > until_s:
            clock.now_s = until_s
            return
        clock.now_s = next_s
        if row_s == next_s:
            row = earliest_row(fleet.next_s)
            replica_event(fleet, requests, row, rules, next_s)
            if rules.router.least_free_blocks > 0 and fleet.states[row].step_preempted > 0:
                clock.dispatch_due = 1  # blocks are free again although nothing ended
        elif expiry_s == next_s:
            expire(fleet, requests, expiring, rules, next_s)
        else:
            count_time(fleet, next_s)
            clock.arrived += 1
            offer(fleet, requests, clock.arrived - 1, rules, next_s)
