"""The order of the engine kernel's requests: who is admitted next, and who gives up its blocks when they run out.

One order for both: by rank, then by arrival. With equal ranks this is first come, first served: those that run came
before all that wait, so that the last of them goes to the front of the queue. Requests whose KV is in host memory come
before all others, whatever their rank.

Source: vllm 0.29.0, v1/core/sched/request_queue.py (PriorityRequestQueue), v1/core/sched/scheduler.py
(Scheduler.schedule: the worst of (priority, arrival_time) is preempted); vllm 0.6.0, core/scheduler.py
(_schedule_default: nothing new is admitted while a request is swapped out). There those that are swapped out come back
in the order in which they left, here by rank.
"""

from autoscaler.simulator.engine_state import Engine, Slot


def goes_before(slot: Slot, other: Slot) -> bool:
    """Whether a request is admitted before another, and preempted after it."""
    if (slot.swapped_blocks > 0) != (other.swapped_blocks > 0):
        return slot.swapped_blocks > 0
    if slot.rank != other.rank:
        return slot.rank < other.rank
    return slot.arrival < other.arrival


def join_queue(engine: Engine, index: int) -> None:
    """Put a slot into the queue; looked for from the end, where those that arrive belong."""
    state, ring = engine.state, len(engine.waiting_slots)
    place = state.waiting
    while place > 0:
        before = engine.waiting_slots[(state.waiting_head + place - 1) % ring]
        if goes_before(engine.slots[before], engine.slots[index]):
            break
        engine.waiting_slots[(state.waiting_head + place) % ring] = before
        place -= 1
    engine.waiting_slots[(state.waiting_head + place) % ring] = index
    state.waiting += 1


def rejoin_queue(engine: Engine, index: int) -> None:
    """Put a slot into the queue; looked for from the front, where those that are preempted belong."""
    state, ring = engine.state, len(engine.waiting_slots)
    state.waiting_head = (state.waiting_head - 1 + ring) % ring
    state.waiting += 1
    place = 0
    while place + 1 < state.waiting:
        after = engine.waiting_slots[(state.waiting_head + place + 1) % ring]
        if goes_before(engine.slots[index], engine.slots[after]):
            break
        engine.waiting_slots[(state.waiting_head + place) % ring] = after
        place += 1
    engine.waiting_slots[(state.waiting_head + place) % ring] = index


def leave_queue(engine: Engine, index: int) -> None:
    """Take a slot out of the queue, wherever it stands."""
    state, ring = engine.state, len(engine.waiting_slots)
    place = 0
    while engine.waiting_slots[(state.waiting_head + place) % ring] != index:
        place += 1
    state.waiting -= 1
    for later in range(place, state.waiting):
        here = (state.waiting_head + later) % ring
        engine.waiting_slots[here] = engine.waiting_slots[(here + 1) % ring]


def leave_running(engine: Engine, position: int) -> None:
    """Take the slot at `position` out of the running ones."""
    engine.state.running -= 1
    for later in range(position, engine.state.running):
        engine.running_slots[later] = engine.running_slots[later + 1]


def first_to_preempt(engine: Engine) -> int:
    """The position of the running request that goes after all others."""
    last = engine.state.running - 1
    for position in range(engine.state.running - 1):
        if goes_before(engine.slots[engine.running_slots[last]], engine.slots[engine.running_slots[position]]):
            last = position
    return last
