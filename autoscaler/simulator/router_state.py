"""The router: its choices, as they are configured and as compiled code takes them, and what it remembers."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np


class Routing(StrEnum):
    """Which of the ready replicas that have room gets the next request.

    LEAST_OUTSTANDING: the one with the fewest requests.
    ROUND_ROBIN: the next in turn.
    POWER_OF_TWO: of two at random the one with fewer requests, as Ray Serve does.
    KV_AWARE: the one with the least to compute and the fewest KV blocks in use, as NVIDIA Dynamo does.
    SESSION_AFFINITY: the one that served the session's last request, else the one with the fewest.
    """

    LEAST_OUTSTANDING = "least-outstanding"
    ROUND_ROBIN = "round-robin"
    POWER_OF_TWO = "power-of-two"
    KV_AWARE = "kv-aware"
    SESSION_AFFINITY = "session-affinity"


class QueueOrder(StrEnum):
    """Which request leaves the router's queue next.

    CLASS_DEADLINE: interactive before batch, then the earliest deadline.
    FIFO: the one that came first.
    """

    CLASS_DEADLINE = "class-deadline"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """The router's choices.

    Attributes:
        kv_watermark_fraction: a replica takes no further request while more than this share of its KV blocks is held;
            None = there is no such limit.
        overlap_weight: of `KV_AWARE`: what a block to compute costs, where a block held costs 1.
    """

    routing: Routing = Routing.LEAST_OUTSTANDING
    queue_order: QueueOrder = QueueOrder.CLASS_DEADLINE
    kv_watermark_fraction: float | None = None
    overlap_weight: float = 1.0


ROUTINGS = {routing: number for number, routing in enumerate(Routing)}


class RouterRules(NamedTuple):
    """The router's choices as compiled code takes them.

    Attributes:
        routing: number of `ROUTINGS`.
        is_fifo: the queue's order.
        least_free_blocks: a replica with fewer takes no further request; 0 = there is no such limit.
    """

    routing: int
    is_fifo: bool
    least_free_blocks: int
    overlap_weight: float


# The session of a request, and, in the place of each session's number, row and number of the replica that got its last
# request; -1 = none did yet.
SESSION = np.dtype([("session", np.int64), ("last_row", np.int64), ("last_replica", np.int64)])


def router_rules(config: RouterConfig, usable_blocks: int) -> RouterRules:
    """The rules of a router whose replicas have so many KV blocks each."""
    watermark = 1.0 if config.kv_watermark_fraction is None else config.kv_watermark_fraction
    return RouterRules(
        routing=ROUTINGS[config.routing],
        is_fifo=config.queue_order is QueueOrder.FIFO,
        least_free_blocks=math.ceil((1.0 - watermark) * usable_blocks - 1e-9),
        overlap_weight=config.overlap_weight,
    )
