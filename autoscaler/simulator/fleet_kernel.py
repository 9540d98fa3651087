"""The inner loop of the fleet simulator: arrivals, routing and deadlines, until the next control tick.

At one instant, what happens in replicas comes first (a step ends, a replica is ready), in order of rows; then the
queue gives out what it can, then deadlines pass, then requests arrive.
"""

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator.compiled import compiled, compiled_inner
from autoscaler.simulator.engine_kernel import add_request, remove_request
from autoscaler.simulator.fleet_state import READY, Fate, FleetArrays, Rules
from autoscaler.simulator.replica_kernel import begin_steps, end_request, engine_of, replica_event, settle

QUEUED, IN_ENGINE, OK = int(Fate.QUEUED), int(Fate.IN_ENGINE), int(Fate.OK)
QUEUE_FULL, TOO_LONG = int(Fate.QUEUE_FULL), int(Fate.TOO_LONG)
NO_READY_REPLICA, DEADLINE_IN_QUEUE = int(Fate.NO_READY_REPLICA), int(Fate.DEADLINE_IN_QUEUE)
DEADLINE_IN_ENGINE = int(Fate.DEADLINE_IN_ENGINE)


@compiled_inner
def least_outstanding(fleet: FleetArrays, rules: Rules) -> int:
    """The ready row with the fewest requests that has room for one more, -1 where there is none."""
    best, fewest = -1, rules.max_ongoing_requests
    for row in range(len(fleet.replicas)):
        if fleet.replicas[row].state == READY:
            outstanding = fleet.states[row].running + fleet.states[row].waiting
            if outstanding < fewest:
                best, fewest = row, outstanding
    return best


@compiled_inner
def next_service(fleet: FleetArrays, requests: NDArray[np.void]) -> int:
    """The service whose request goes next: by rank, then by deadline; -1 where nothing is queued."""
    best = -1
    for index in range(len(fleet.services)):
        service = fleet.services[index]
        if service.queued == 0:
            continue
        while requests[fleet.of_service[service.head]].fate != QUEUED:
            service.head += 1
        if best >= 0:
            rival = fleet.services[best]
            deadline_s = requests[fleet.of_service[service.head]].arrival_s + service.deadline_s
            rival_s = requests[fleet.of_service[rival.head]].arrival_s + rival.deadline_s
            if service.rank > rival.rank or (service.rank == rival.rank and deadline_s >= rival_s):
                continue
        best = index
    return best


@compiled_inner
def leave_queue(fleet: FleetArrays, requests: NDArray[np.void], request: int) -> None:
    """Count a request out of the router's queue."""
    service = fleet.services[requests[request].service]
    service.queued -= 1
    service.queued_prompt_tokens -= requests[request].prompt_tokens


@compiled_inner
def dispatch(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules, now_s: float) -> None:
    """Give queued requests to replicas while there are both; an idle engine begins at once."""
    fleet.clock[0].dispatch_due = 0
    while True:
        best = next_service(fleet, requests)
        if best < 0:
            return
        row = least_outstanding(fleet, rules)
        if row < 0:
            return
        request = fleet.of_service[fleet.services[best].head]
        leave_queue(fleet, requests, request)
        requests[request].fate = IN_ENGINE
        requests[request].replica = fleet.replicas[row].number
        requests[request].row = row
        engine = engine_of(fleet, row)
        if engine.state.waiting == 0:  # else the front of the engine's queue is held up until the steps end
            settle(fleet, row, rules, now_s)
        prompt_tokens, output_tokens = requests[request].prompt_tokens, requests[request].output_tokens
        requests[request].slot = add_request(engine, request, prompt_tokens, output_tokens)
        if fleet.replicas[row].steps == 0:
            begin_steps(fleet, row, rules, now_s)


@compiled_inner
def arrive(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules) -> None:
    """The next request arrives: refused, or into the queue, from where it may be dispatched at once."""
    clock = fleet.clock[0]
    request = clock.arrived
    clock.arrived += 1
    now_s = requests[request].arrival_s
    total_tokens = max(1, requests[request].prompt_tokens) + max(1, requests[request].output_tokens)
    queued = 0
    for index in range(len(fleet.services)):
        queued += fleet.services[index].queued
    if total_tokens > rules.longest_request_tokens:
        end_request(fleet, requests, request, TOO_LONG, now_s)
    elif queued >= rules.max_queued_requests and least_outstanding(fleet, rules) < 0:
        end_request(fleet, requests, request, QUEUE_FULL, now_s)
    else:
        requests[request].fate = QUEUED
        service = fleet.services[requests[request].service]
        service.queued += 1
        service.queued_prompt_tokens += requests[request].prompt_tokens
        clock.dispatch_due = 1


@compiled_inner
def next_expiry(fleet: FleetArrays, requests: NDArray[np.void]) -> tuple[float, int]:
    """The next deadline of a request that has not ended, and its request; infinity where there is none."""
    at_s, first = np.inf, -1
    for index in range(len(fleet.services)):
        service = fleet.services[index]
        while service.expiry < service.end and requests[fleet.of_service[service.expiry]].fate >= OK:
            service.expiry += 1
        if service.expiry < service.end:
            request = fleet.of_service[service.expiry]
            deadline_s = requests[request].arrival_s + service.deadline_s
            if deadline_s < at_s:
                at_s, first = deadline_s, request
    return at_s, first


@compiled_inner
def expire(fleet: FleetArrays, requests: NDArray[np.void], request: int, rules: Rules, now_s: float) -> None:
    """The deadline of a request passes: it leaves the queue, or its engine, which frees its KV blocks."""
    if requests[request].fate == QUEUED:
        leave_queue(fleet, requests, request)
        ready = 0
        for row in range(len(fleet.replicas)):
            ready += fleet.replicas[row].state == READY
        end_request(fleet, requests, request, DEADLINE_IN_QUEUE if ready else NO_READY_REPLICA, now_s)
        return
    row = requests[request].row
    settle(fleet, row, rules, now_s)
    engine = engine_of(fleet, row)
    index = requests[request].slot
    requests[request].received_tokens = engine.slots[index].produced_tokens
    remove_request(engine, index)
    end_request(fleet, requests, request, DEADLINE_IN_ENGINE, now_s)
    fleet.clock[0].dispatch_due = 1


@compiled
def run_until(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules, until_s: float) -> None:
    """Let everything happen that is due up to and including `until_s`."""
    clock = fleet.clock[0]
    while True:
        row, row_s = len(fleet.next_s), np.inf
        for candidate in range(len(fleet.next_s)):
            if fleet.next_s[candidate] < row_s:
                row, row_s = candidate, fleet.next_s[candidate]
        if clock.dispatch_due and row_s > clock.now_s:
            dispatch(fleet, requests, rules, clock.now_s)
            continue
        expiry_s, expiring = next_expiry(fleet, requests)
        arrival_s = requests[clock.arrived].arrival_s if clock.arrived < len(requests) else np.inf
        next_s = min(row_s, expiry_s, arrival_s)
        if next_s > until_s:
            clock.now_s = until_s
            return
        clock.now_s = next_s
        if row_s == next_s:
            replica_event(fleet, requests, row, rules, next_s)
        elif expiry_s == next_s:
            expire(fleet, requests, expiring, rules, next_s)
        else:
            arrive(fleet, requests, rules)
