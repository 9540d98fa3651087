"""The state of a fleet as arrays: replicas by row, their engines, the router's queue, and the fate of each request."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator.client_state import ClientArrays
from autoscaler.simulator.compiled import record_type
from autoscaler.simulator.cost_model import StepCosts
from autoscaler.simulator.engine_state import EngineLimits, EngineState, Slot
from autoscaler.simulator.next_events import no_events, with_more_rows
from autoscaler.simulator.prefix_cache import KvBlock, PromptTexts, hash_table_places
from autoscaler.simulator.router_state import SESSION, RouterRules

# States of a row. FAILED: dead, and the controller does not know yet. ENDED keeps the replica's history until it is
# read, then the row is FREE.
FREE, STARTING, READY, DRAINING, ENDED, FAILED = range(6)


class Fate(IntEnum):
    """Where a request is, or how it ended."""

    COMING = 0  # for the first time, or again
    QUEUED = 1
    IN_ENGINE = 2
    OK = 3
    QUEUE_FULL = 4
    NO_READY_REPLICA = 5
    DEADLINE_IN_QUEUE = 6
    DEADLINE_IN_ENGINE = 7
    REPLICA_LOST = 8
    TOO_LONG = 9
    GIVEN_UP = 10  # by its client, before the deadline


@dataclass(slots=True)
class ReplicaRow:
    """One replica and the steps that its engine has under way.

    Attributes:
        state: FREE, STARTING, READY, DRAINING, ENDED or FAILED.
        number: which replica it is, counted over the whole run.
        requested_s, ready_s, draining_s, failed_s, ended_s: when it was asked for, began to serve (is to, while it
            starts), to drain, died, and was gone; infinity = not yet, or never.
        drain_until_s: when a draining replica is cut off.
        step_start_s, step_end_s: of the steps under way; infinity = the engine is idle.
        steps: steps under way, one after the other, all alike but for one more token of each request.
        sampled_tokens, sampled_looked_up, sampled_found: output tokens, and tokens looked up and found in the prefix
            cache, when the last row of the engine table was taken.
        reported_running, reported_waiting, reported_kv_fraction, reported_tokens_per_s: its last metrics report; 0
            before the first.
        reported_tokens: all output tokens until then.
    """

    state: int
    number: int
    requested_s: float
    ready_s: float
    draining_s: float
    failed_s: float
    ended_s: float
    drain_until_s: float
    step_start_s: float
    step_end_s: float
    steps: int
    sampled_tokens: int
    sampled_looked_up: int
    sampled_found: int
    reported_running: int
    reported_waiting: int
    reported_kv_fraction: float
    reported_tokens_per_s: float
    reported_tokens: int


@dataclass(slots=True)
class ServiceQueue:
    """One service: its requests in order of arrival stand in `of_service[first:end]`.

    All have the same time to their deadline, so order of arrival is order of deadline, in the queue and everywhere.

    Attributes:
        rank: 0 is served first.
        head: place of the request to be dispatched next, or before it.
        expiry: place of the request whose deadline is next, or before it.
        queued, queued_prompt_tokens: in the queue now.
    """

    rank: int
    deadline_s: float
    first: int
    end: int
    head: int
    expiry: int
    queued: int
    queued_prompt_tokens: int


@dataclass(slots=True)
class Clock:
    """Where the run stands.

    Attributes:
        arrived, ended: requests so far.
        last_end_s: when the last request ended so far.
        dispatch_due: 1 = the queue may have to give requests to replicas.
        reported_s: when the replicas last reported.
        changed_s: when a request last arrived or ended.
        request_seconds: the number in the system, integrated up to then.
        router_seed, router_draws: of the router's random numbers, and how many it has drawn.
        router_last_row: that got a request last, in turn.
    """

    now_s: float
    arrived: int
    ended: int
    last_end_s: float
    dispatch_due: int
    reported_s: float
    changed_s: float
    request_seconds: float
    router_seed: int
    router_draws: int
    router_last_row: int


REPLICA, SERVICE, CLOCK = record_type(ReplicaRow), record_type(ServiceQueue), record_type(Clock)
ENGINE, SLOT, KV_BLOCK = record_type(EngineState), record_type(Slot), record_type(KvBlock)


# One request: what is asked for, and what became of it.
REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("first_token_s", np.float64),
        ("finished_s", np.float64),
        ("prompt_tokens", np.int32),
        ("output_tokens", np.int32),
        ("received_tokens", np.int32),
        ("replica", np.int32),  # number of the replica that served it, -1 = none
        ("row", np.int32),
        ("slot", np.int32),
        ("service", np.int8),
        ("fate", np.int8),
        ("phase", np.int8),  # where it was in the engine that did not finish it, by number of `request_phase.PHASES`
        ("attempts", np.int32),
    ],
    align=True,
)


class PrefixCacheArrays(NamedTuple):
    """The prefix caches of R rows, one row each but for the texts, which they have in common; see `PrefixCache`."""

    blocks: NDArray[np.void]
    block_tables: NDArray[np.int32]
    by_hash: NDArray[np.int64]
    text_first: NDArray[np.int64]
    text_hashes: NDArray[np.int64]
    text_block_tokens: int


class FleetArrays(NamedTuple):
    """R rows of replicas with S slots each.

    Attributes:
        next_s: when something happens in each row next, as a tree; see `next_events`.
        of_service: i64[n], the requests of each service one after the other (`ServiceQueue.first`).
        states, slots, running_slots, ...: the engines, one row each; see `engine_state`.
        caches: their prefix caches; None = they have none.
        sessions: of no requests where the router does not look at them.
        engine_ranks: f64[n], what the engines' queues are ordered by; none where all are equal.
        clients: None = they send each request once and wait for it up to its deadline.
    """

    clock: NDArray[np.void]
    replicas: NDArray[np.void]
    next_s: NDArray[np.float64]
    services: NDArray[np.void]
    of_service: NDArray[np.int64]
    states: NDArray[np.void]
    slots: NDArray[np.void]
    running_slots: NDArray[np.int64]
    waiting_slots: NDArray[np.int64]
    spare_slots: NDArray[np.int64]
    delivered_slots: NDArray[np.int64]
    caches: PrefixCacheArrays | None
    sessions: NDArray[np.void]
    engine_ranks: NDArray[np.float64]
    clients: ClientArrays | None


class Rules(NamedTuple):
    """Settings of the inner loop. `most_steps` = 1 goes step by step, more jumps over steps that are alike."""

    limits: EngineLimits
    costs: StepCosts
    max_ongoing_requests: int
    max_queued_requests: int
    longest_request_tokens: int
    most_steps: int
    router: RouterRules


def empty_fleet(
    rows: int,
    slots: int,
    services: NDArray[np.void],
    of_service: NDArray[np.int64],
    caches: PrefixCacheArrays | None = None,
    sessions: NDArray[np.void] | None = None,
    clients: ClientArrays | None = None,
    router_seed: int = 0,
    engine_ranks: NDArray[np.float64] | None = None,
) -> FleetArrays:
    """A fleet without replicas, with room for `rows` of them."""
    clock = np.zeros(1, CLOCK)
    clock["router_seed"], clock["router_last_row"] = router_seed, -1
    return FleetArrays(
        clock=clock,
        replicas=np.zeros(rows, REPLICA),
        next_s=no_events(rows),
        services=services,
        of_service=of_service,
        states=np.zeros(rows, ENGINE),
        slots=np.zeros((rows, slots), SLOT),
        running_slots=np.zeros((rows, slots), np.int64),
        waiting_slots=np.zeros((rows, slots), np.int64),
        spare_slots=np.zeros((rows, slots), np.int64),
        delivered_slots=np.zeros((rows, slots), np.int64),
        caches=caches,
        sessions=np.zeros(0, SESSION) if sessions is None else sessions,
        engine_ranks=np.zeros(0) if engine_ranks is None else engine_ranks,
        clients=clients,
    )


def empty_caches(rows: int, slots: int, limits: EngineLimits, texts: PromptTexts) -> PrefixCacheArrays:
    """Room for the prefix caches of `rows` engines."""
    return PrefixCacheArrays(
        np.zeros((rows, limits.usable_blocks + 1), KV_BLOCK),
        np.zeros((rows, slots, limits.longest_request_blocks), np.int32),
        np.zeros((rows, hash_table_places(limits.usable_blocks)), np.int64),
        np.asarray(texts.text_first, np.int64),
        np.asarray(texts.text_hashes, np.int64),
        texts.text_block_tokens,
    )


def with_rows(fleet: FleetArrays, added: int) -> FleetArrays:
    """The same fleet with room for `added` more replicas."""
    more = empty_fleet(added, fleet.slots.shape[1], fleet.services, fleet.of_service)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(fleet, name), getattr(more, name)])
        for name in FleetArrays._fields
        if name not in ("clock", "next_s", "services", "of_service", "caches", "sessions", "engine_ranks", "clients")
    }
    joined["next_s"] = with_more_rows(fleet.next_s, len(joined["replicas"]))
    if fleet.caches is not None:
        blocks, tables, by_hash = (
            np.concatenate([rows, np.zeros((added, *rows.shape[1:]), rows.dtype)]) for rows in fleet.caches[:3]
        )
        joined["caches"] = fleet.caches._replace(blocks=blocks, block_tables=tables, by_hash=by_hash)
    return fleet._replace(**joined)


def reset_engine(fleet: FleetArrays, row: int, limits: EngineLimits) -> None:
    """Give row `row` an engine without requests."""
    slots = fleet.slots.shape[1]
    fleet.states[row] = np.zeros((), ENGINE)
    fleet.states["free_blocks"][row] = limits.usable_blocks
    fleet.states["free_swap_blocks"][row] = limits.swap_blocks
    fleet.states["spare"][row] = slots
    fleet.slots[row] = np.zeros((), SLOT)
    fleet.spare_slots[row] = np.arange(slots - 1, -1, -1)
    if fleet.caches is not None:
        ring = fleet.caches.blocks.shape[1]
        fleet.caches.by_hash[row] = 0
        fleet.caches.blocks[row] = np.zeros((), KV_BLOCK)
        fleet.caches.blocks["next_free"][row] = (np.arange(ring) + 1) % ring
        fleet.caches.blocks["previous_free"][row] = (np.arange(ring) - 1) % ring
