"""What happens in one replica of the compiled fleet: its engine's steps, and the ends of its states.

A replica's steps that are alike are jumped over in one go; where something touches the replica in between, the steps
that have ended by then are done and the one under way is left to end. Ends of steps are added up one by one either
way, so that going step by step and jumping give equal bytes.
"""

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator import cost_model, engine_kernel, engine_queue, next_events, request_phase
from autoscaler.simulator.client_kernel import tries_again
from autoscaler.simulator.compiled import allow_in_compiled_code, compiled, compiled_inner, inlined
from autoscaler.simulator.cost_model import step_seconds
from autoscaler.simulator.engine_kernel import begin_step, complete_step, remove_request, repeat_step, steady_steps
from autoscaler.simulator.engine_state import Engine
from autoscaler.simulator.fleet_state import (
    DRAINING,
    ENDED,
    FAILED,
    READY,
    STARTING,
    Fate,
    FleetArrays,
    PrefixCacheArrays,
    Rules,
)
from autoscaler.simulator.next_events import set_event
from autoscaler.simulator.prefix_cache import PrefixCache

allow_in_compiled_code(cost_model, engine_queue, engine_kernel, next_events, request_phase)

OK, REPLICA_LOST = int(Fate.OK), int(Fate.REPLICA_LOST)
LOST_PHASE, DRAINED_PHASE = request_phase.REPLICA_LOST, request_phase.DRAINED


@compiled_inner
def cache_of(caches: PrefixCacheArrays | None, row: int) -> PrefixCache | None:
    """The prefix cache of one row, as the engine kernel takes it."""
    if caches is None:
        return None
    return PrefixCache(
        caches.blocks[row],
        caches.block_tables[row],
        caches.by_hash[row],
        caches.text_first,
        caches.text_hashes,
        caches.text_block_tokens,
    )


@inlined
def engine_of(fleet: FleetArrays, row: int) -> Engine:
    """The engine of one row, as the engine kernel takes it (inlined: a record cannot be returned)."""
    return Engine(
        fleet.states[row],
        fleet.slots[row],
        fleet.running_slots[row],
        fleet.waiting_slots[row],
        fleet.spare_slots[row],
        fleet.delivered_slots[row],
        cache_of(fleet.caches, row),
    )


@inlined
def count_time(fleet: FleetArrays, now_s: float) -> None:
    """The number in the system is about to change: integrate it up to now."""
    clock = fleet.clock[0]
    clock.request_seconds += (clock.arrived - clock.ended) * (now_s - clock.changed_s)
    clock.changed_s = now_s


@inlined
def end_request(fleet: FleetArrays, requests: NDArray[np.void], request: int, fate: int, at_s: float) -> None:
    """Write down how a request ended, unless its client tries again."""
    if tries_again(fleet.clients, fleet.services, requests, request, fate, at_s):
        return
    requests[request].fate = fate
    requests[request].finished_s = at_s
    count_time(fleet, at_s)
    clock = fleet.clock[0]
    clock.ended += 1
    clock.last_end_s = max(clock.last_end_s, at_s)


@compiled
def set_next(fleet: FleetArrays, row: int) -> None:
    """Work out when something happens in this row next."""
    replica = fleet.replicas[row]
    if replica.state == STARTING:
        set_event(fleet.next_s, row, replica.ready_s)
    elif replica.state == READY or replica.state == DRAINING:
        set_event(fleet.next_s, row, min(replica.step_end_s, replica.drain_until_s))
    else:
        set_event(fleet.next_s, row, np.inf)


@compiled_inner
def begin_steps(fleet: FleetArrays, row: int, rules: Rules, now_s: float) -> None:
    """Let the engine of this row begin its next step, and those after it that are alike."""
    replica = fleet.replicas[row]
    engine = engine_of(fleet, row)
    duration_s = begin_step(engine, rules.limits, rules.costs)
    replica.step_start_s = now_s
    if duration_s == 0.0:
        replica.steps = 0
        replica.step_end_s = np.inf
        set_next(fleet, row)
        return
    replica.steps = min(steady_steps(engine, rules.limits), rules.most_steps)
    end_s = now_s + duration_s
    decodes, kv_tokens = engine.state.step_decodes, engine.state.step_kv_tokens
    for _ in range(replica.steps - 1):
        kv_tokens += decodes
        end_s += step_seconds(rules.costs, 0, 0.0, decodes, kv_tokens)
    replica.step_end_s = end_s
    set_next(fleet, row)


@compiled_inner
def settle(fleet: FleetArrays, row: int, rules: Rules, now_s: float) -> None:
    """Do those of the steps under way that have ended by now, and keep only the one that has not."""
    replica = fleet.replicas[row]
    if replica.steps <= 1:
        return
    engine = engine_of(fleet, row)
    state = engine.state
    kv_tokens = state.step_kv_tokens
    done = 0
    end_s = replica.step_start_s + step_seconds(rules.costs, 0, 0.0, state.step_decodes, kv_tokens)
    while end_s <= now_s and done < replica.steps - 1:
        done += 1
        kv_tokens += state.step_decodes
        replica.step_start_s = end_s
        end_s += step_seconds(rules.costs, 0, 0.0, state.step_decodes, kv_tokens)
    repeat_step(engine, rules.limits, done)
    replica.steps = 1
    replica.step_end_s = end_s
    set_next(fleet, row)


@compiled
def settle_all(fleet: FleetArrays, rules: Rules, now_s: float) -> None:
    """Bring every engine's counters up to now, to be read."""
    for row in range(len(fleet.replicas)):
        settle(fleet, row, rules, now_s)


@compiled
def report_all(fleet: FleetArrays, rules: Rules, now_s: float) -> None:
    """Every replica that serves reports its metrics: counts now, and the token rate since the report before."""
    settle_all(fleet, rules, now_s)
    for row in range(len(fleet.replicas)):
        replica, state = fleet.replicas[row], fleet.states[row]
        if replica.state != READY and replica.state != DRAINING:
            continue
        interval_s = now_s - max(fleet.clock[0].reported_s, replica.ready_s)
        tokens = state.output_tokens - replica.reported_tokens
        replica.reported_tokens_per_s = tokens / interval_s if interval_s > 0 else 0.0
        replica.reported_tokens = state.output_tokens
        replica.reported_running = state.running
        replica.reported_waiting = state.waiting
        replica.reported_kv_fraction = 1.0 - state.free_blocks / rules.limits.usable_blocks
    fleet.clock[0].reported_s = now_s


@compiled_inner
def lose_requests(fleet: FleetArrays, requests: NDArray[np.void], row: int, fate: int, now_s: float) -> None:
    """End every request in the engine of this row."""
    engine = engine_of(fleet, row)
    phase = DRAINED_PHASE if fleet.replicas[row].state == DRAINING else LOST_PHASE
    while engine.state.running + engine.state.waiting > 0:
        if engine.state.running > 0:
            index = engine.running_slots[engine.state.running - 1]
        else:
            index = engine.waiting_slots[engine.state.waiting_head]
        slot = engine.slots[index]
        requests[slot.request].received_tokens = slot.produced_tokens
        requests[slot.request].phase = phase
        end_request(fleet, requests, slot.request, fate, now_s)
        remove_request(engine, index)


@compiled_inner
def end_replica(fleet: FleetArrays, row: int, now_s: float) -> None:
    """The replica is gone."""
    replica = fleet.replicas[row]
    replica.state = ENDED
    replica.ended_s = now_s
    replica.steps = 0
    replica.step_end_s = np.inf
    set_next(fleet, row)


@compiled
def fail_replica(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules, row: int, now_s: float) -> None:
    """The replica dies with all requests that it has."""
    settle(fleet, row, rules, now_s)
    lose_requests(fleet, requests, row, REPLICA_LOST, now_s)
    end_replica(fleet, row, now_s)
    fleet.replicas[row].state = FAILED
    fleet.replicas[row].failed_s = now_s
    fleet.replicas[row].ended_s = np.inf


@compiled_inner
def finish_steps(fleet: FleetArrays, requests: NDArray[np.void], row: int, rules: Rules, now_s: float) -> None:
    """The steps under way have ended: deliver tokens and note first tokens and ends."""
    replica = fleet.replicas[row]
    engine = engine_of(fleet, row)
    if replica.steps > 1:
        repeat_step(engine, rules.limits, replica.steps - 1)
    complete_step(engine)
    for place in range(engine.state.step_delivered):
        slot = engine.slots[engine.delivered_slots[place]]
        if slot.produced_tokens == 1:
            requests[slot.request].first_token_s = now_s
        if slot.produced_tokens == slot.output_tokens:
            requests[slot.request].received_tokens = slot.produced_tokens
            end_request(fleet, requests, slot.request, OK, now_s)
            fleet.clock[0].dispatch_due = 1


@compiled_inner
def replica_event(fleet: FleetArrays, requests: NDArray[np.void], row: int, rules: Rules, now_s: float) -> None:
    """What is due in this row: it becomes ready, its steps end, or its time to drain is over."""
    replica = fleet.replicas[row]
    if replica.state == STARTING:
        replica.state = READY
        set_next(fleet, row)
        fleet.clock[0].dispatch_due = 1
        return
    if replica.step_end_s <= now_s:
        finish_steps(fleet, requests, row, rules, now_s)
        begin_steps(fleet, row, rules, now_s)
        if replica.state == DRAINING and replica.steps == 0:
            end_replica(fleet, row, now_s)
        return
    settle(fleet, row, rules, now_s)
    lose_requests(fleet, requests, row, REPLICA_LOST, now_s)
    end_replica(fleet, row, now_s)
