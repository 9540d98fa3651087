"""Which ready replica gets the next request, in compiled code."""

import numpy as np

from autoscaler.simulator import prefix_cache_kernel
from autoscaler.simulator.compiled import allow_in_compiled_code, compiled_inner
from autoscaler.simulator.engine_kernel import blocks_for
from autoscaler.simulator.fleet_state import READY, FleetArrays, Rules
from autoscaler.simulator.prefix_cache_kernel import find_computed, mixed
from autoscaler.simulator.replica_kernel import engine_of, settle
from autoscaler.simulator.router_state import ROUTINGS, Routing

allow_in_compiled_code(prefix_cache_kernel)

ROUND_ROBIN, POWER_OF_TWO = ROUTINGS[Routing.ROUND_ROBIN], ROUTINGS[Routing.POWER_OF_TWO]
KV_AWARE, SESSION_AFFINITY = ROUTINGS[Routing.KV_AWARE], ROUTINGS[Routing.SESSION_AFFINITY]


@compiled_inner
def has_room(fleet: FleetArrays, rules: Rules, row: int) -> bool:
    """Whether the replica in this row may be given one more request."""
    if fleet.replicas[row].state != READY or fleet.states[row].free_blocks < rules.router.least_free_blocks:
        return False
    outstanding: int = fleet.states[row].running + fleet.states[row].waiting
    return outstanding < rules.max_ongoing_requests


@compiled_inner
def settle_blocks(fleet: FleetArrays, rules: Rules, now_s: float) -> None:
    """Bring the counts of free blocks up to now where a choice depends on them."""
    if rules.router.least_free_blocks > 0 or rules.router.routing == KV_AWARE:
        for row in range(len(fleet.replicas)):
            if fleet.replicas[row].state == READY:
                settle(fleet, row, rules, now_s)


@compiled_inner
def least_outstanding(fleet: FleetArrays, rules: Rules) -> int:
    """The row with room that has the fewest requests, the first of equals; -1 where none has room."""
    best, fewest = -1, rules.max_ongoing_requests
    for row in range(len(fleet.replicas)):
        if fleet.replicas[row].state == READY:
            state = fleet.states[row]
            outstanding = state.running + state.waiting
            if outstanding < fewest and state.free_blocks >= rules.router.least_free_blocks:
                best, fewest = row, outstanding
    return best


@compiled_inner
def anyone_has_room(fleet: FleetArrays, rules: Rules, now_s: float) -> bool:
    """Whether a request would find a replica now."""
    settle_blocks(fleet, rules, now_s)
    return least_outstanding(fleet, rules) >= 0


@compiled_inner
def round_robin(fleet: FleetArrays, rules: Rules) -> int:
    """The next row with room after the one that was chosen last."""
    clock, rows = fleet.clock[0], len(fleet.replicas)
    for step in range(1, rows + 1):
        row = int(clock.router_last_row + step) % rows
        if has_room(fleet, rules, row):
            clock.router_last_row = row
            return row
    return -1


@compiled_inner
def drawn(fleet: FleetArrays, below: int) -> int:
    """A whole number in [0, below), the next one of the router's generator: a hash of the seed and a counter."""
    clock = fleet.clock[0]
    clock.router_draws += 1
    return mixed(clock.router_seed, clock.router_draws) % below


@compiled_inner
def ready_row(fleet: FleetArrays, place: int) -> int:
    """The ready row that has so many ready ones before it."""
    row = 0
    while place > 0 or fleet.replicas[row].state != READY:
        place -= fleet.replicas[row].state == READY
        row += 1
    return row


@compiled_inner
def power_of_two(fleet: FleetArrays, rules: Rules) -> int:
    """Of two ready rows at random the one with fewer requests, the first drawn of equals.

    Where neither has room, two others are drawn; one with room must be there. Serve waits for 25 ms and longer between
    these draws, which is left out.

    Source: ray 2.60.0, serve/_private/request_router/pow_2_router.py (choose_replicas), request_router.py
    (_select_from_candidate_replicas).
    """
    ready = 0
    for row in range(len(fleet.replicas)):
        ready += fleet.replicas[row].state == READY
    while True:
        first = drawn(fleet, ready)
        second = first
        if ready > 1:
            second = drawn(fleet, ready - 1)
            second += second >= first
        row, other = ready_row(fleet, first), ready_row(fleet, second)
        outstanding = fleet.states[row].running + fleet.states[row].waiting
        rival = fleet.states[other].running + fleet.states[other].waiting
        if has_room(fleet, rules, other) and (rival < outstanding or not has_room(fleet, rules, row)):
            row = other
        if has_room(fleet, rules, row):
            return int(row)


@compiled_inner
def kv_cost(fleet: FleetArrays, rules: Rules, row: int, request: int, prompt_tokens: int) -> float:
    """What it costs, in KV blocks, to give a request to this row: blocks to compute, weighted, and blocks in use.

    Blocks to compute are those of the prompts that the replica has not computed yet and those of this prompt that its
    prefix cache lacks. Blocks in use are those held and those that its waiting requests are going to need.

    Source: NVIDIA Dynamo, lib/kv-router/src/scheduling/selector/default.rs (DefaultWorkerScorer.worker_logit), commit
    07a6c9c, with its defaults: prefill_load_scale * (prefill blocks - overlap) + decode blocks, the lowest wins.
    """
    engine, block_tokens = engine_of(fleet, row), rules.limits.block_tokens
    state = engine.state
    uncomputed_tokens, needed_blocks = max(1, prompt_tokens), 0
    for position in range(state.running):
        slot = engine.slots[engine.running_slots[position]]
        uncomputed_tokens += max(0, slot.prefill_tokens - slot.computed_tokens)
    for place in range(state.waiting):
        slot = engine.slots[engine.waiting_slots[(state.waiting_head + place) % len(engine.waiting_slots)]]
        uncomputed_tokens += slot.prompt_tokens + slot.produced_tokens
        needed_blocks += blocks_for(slot.prompt_tokens + slot.produced_tokens, block_tokens)
    index = engine.spare_slots[state.spare - 1]  # the slot that the request would get
    slot = engine.slots[index]
    slot.request, slot.prompt_tokens, slot.produced_tokens = request, max(1, prompt_tokens), 0
    found, _ = find_computed(engine.cache, slot, index, block_tokens)
    uncomputed_tokens -= found * block_tokens
    used_blocks = rules.limits.usable_blocks - state.free_blocks + needed_blocks
    return rules.router.overlap_weight * (uncomputed_tokens / block_tokens) + used_blocks


@compiled_inner
def kv_aware(fleet: FleetArrays, rules: Rules, request: int, prompt_tokens: int) -> int:
    """The row with room where the request costs least, the first of equals."""
    best, lowest = -1, np.inf
    for row in range(len(fleet.replicas)):
        if has_room(fleet, rules, row):
            cost = kv_cost(fleet, rules, row, request, prompt_tokens)
            if cost < lowest:
                best, lowest = row, cost
    return best


@compiled_inner
def session_affinity(fleet: FleetArrays, rules: Rules, request: int) -> int:
    """The row that served the session's last request, where it has room; else the one with the fewest."""
    last = fleet.sessions[fleet.sessions[request].session]
    row = int(last.last_row)
    is_there = row >= 0 and fleet.replicas[row].number == last.last_replica
    if not is_there or not has_room(fleet, rules, row):
        row = least_outstanding(fleet, rules)
    last.last_row = row
    last.last_replica = fleet.replicas[row].number
    return row


@compiled_inner
def choose_row(fleet: FleetArrays, rules: Rules, request: int, prompt_tokens: int) -> int:
    """The row that gets this request, -1 where none has room."""
    routing = rules.router.routing
    if routing == ROUND_ROBIN:
        return round_robin(fleet, rules)
    row = least_outstanding(fleet, rules)
    if row < 0:
        return -1
    if routing == POWER_OF_TWO:
        return power_of_two(fleet, rules)
    if routing == KV_AWARE:
        return kv_aware(fleet, rules, request, prompt_tokens)
    if routing == SESSION_AFFINITY:
        return session_affinity(fleet, rules, request)
    return row
