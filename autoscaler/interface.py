"""What a policy sees and what it answers: the same in the simulator, on live Ray Serve, and in a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forecasting.interface import Forecast

# A replica's metrics report that is older than so many metrics intervals is not shown to the policy.
REPORT_KEPT_INTERVALS = 3


class ReplicaState(StrEnum):
    """Where a replica is in its life; it holds its GPU in all three."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """One replica, as last reported (so as late and as coarse as metrics are).

    Attributes:
        requested_at_s: when it was asked for.
        running: requests that its engine is working on.
        waiting: requests queued inside its engine.
        kv_cache_fraction: share of KV blocks in use, 0..1.
        tokens_per_s: output tokens per second over the last metrics interval.
    """

    replica_id: str
    state: ReplicaState
    requested_at_s: float
    running: int = 0
    waiting: int = 0
    kv_cache_fraction: float = 0.0
    tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The router's queue of one service: requests that no replica has yet.

    `earliest_deadline_s` is None where nothing waits.
    """

    requests: int = 0
    prompt_tokens: int = 0
    earliest_deadline_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ArrivalHistory:
    """Requests of one service that came in, per bin, oldest first; only complete bins.

    Attributes:
        start_s: start of the first bin; bin i is [start_s + i * bin_s, start_s + (i + 1) * bin_s).
        requests: f64[n].
    """

    start_s: float
    bin_s: float
    requests: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ClusterSnapshot:
    """All that a policy may know at `now_s`. Mappings go by service label ('conversation', 'api').

    `forecast` is None where no forecaster runs or none has answered yet; its age is now_s - issued_at_s.
    """

    now_s: float
    target_replicas: int
    replicas: tuple[ReplicaSnapshot, ...] = ()
    queued: Mapping[str, QueueSnapshot] = field(default_factory=dict)
    arrivals: Mapping[str, ArrivalHistory] = field(default_factory=dict)
    forecast: Mapping[str, Forecast] | None = None

    def count(self, state: ReplicaState) -> int:
        """How many replicas are in `state`."""
        return sum(replica.state is state for replica in self.replicas)

    @property
    def queued_requests(self) -> int:
        """Requests at the router, over all services."""
        return sum(queue.requests for queue in self.queued.values())

    @property
    def ongoing_requests(self) -> int:
        """Requests in the system: at the router, and waiting or running in the replicas."""
        return self.queued_requests + sum(replica.running + replica.waiting for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """How many replicas there should be, and why.

    `reason` is one line of numbers, shown in logs, records and plots:
    'q0.9 of 41.2 requests in 60 s -> 3.4 replicas; reactive asks 2'.
    """

    target_replicas: int
    reason: str


class Policy(Protocol):
    """Turns snapshots into decisions. Its public fields are its configuration.

    Same snapshots in, same decisions out: no clock, no randomness, no I/O. It may keep private state.
    """

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Choose the number of replicas. Limits are applied by the caller."""
        ...


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """The range within which the caller keeps every decision."""

    min_replicas: int
    max_replicas: int

    def clamp(self, replicas: int) -> int:
        """The nearest allowed number of replicas."""
        return max(self.min_replicas, min(self.max_replicas, replicas))


@dataclass(frozen=True, slots=True)
class Slo:
    """What a service promises for a request: first token, time per further token, and the end at all."""

    ttft_s: float
    tpot_s: float
    deadline_s: float


class Priority(StrEnum):
    """The router serves interactive requests first; within a class, the earliest deadline first."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """How a service's requests are treated."""

    priority: Priority
    slo: Slo


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """How long an engine step takes on one replica's hardware, and how much it holds.

    With n = prefill + decode tokens of the step:

    step_s = fixed_s + max(memory_s + memory_token_s * n, token_s * n)
           + sequence_s * decode sequences + kv_token_s * KV tokens read by decodes
           + prefill_context_s * (prefill tokens x context they attend to)
           + host_s
    and where a step has both prefill and decodes, for its decodes
           + mixed_sequence_s * decode sequences + mixed_kv_token_s * KV tokens read by decodes

    Attributes:
        source: where the coefficients come from, and their fit error.
        kv_token_bytes: KV of one token on each card; None = not told.
        host_link_bytes_per_s: at which each card copies KV to host memory and back; None = not told.
    """

    name: str
    source: str
    fixed_s: float
    memory_s: float
    memory_token_s: float
    token_s: float
    sequence_s: float
    kv_token_s: float
    prefill_context_s: float
    mixed_sequence_s: float
    mixed_kv_token_s: float
    host_s: float
    kv_cache_tokens: int
    block_tokens: int
    max_sequences: int
    max_batched_tokens: int
    max_model_tokens: int
    kv_token_bytes: int | None = None
    host_link_bytes_per_s: float | None = None
