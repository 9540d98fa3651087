"""How an engine orders its requests and what it does when KV blocks run out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import Priority, ServiceClass
from loadgen.trace import SERVICE_LABELS, Trace


class AdmissionOrder(StrEnum):
    """Which waiting request is admitted first, and which running one is preempted last."""

    FCFS = "fcfs"
    PRIORITY = "priority"
    SHORTEST_PREDICTED = "shortest_predicted"


class Preemption(StrEnum):
    """What becomes of the KV of a request that is preempted: lost and computed anew, or kept in host memory."""

    RECOMPUTE = "recompute"
    SWAP = "swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of an engine; the defaults are vLLM's.

    Attributes:
        order: by arrival; by the service's class, then arrival; by the predicted length of the answer, then arrival.
        prediction_sigma: standard deviation of the logarithm of predicted over true output tokens, whose median is 1
            (lognormal). In the simulator alone: a live engine is told no true length.
        preemption: to host memory as long as there is room, else as `RECOMPUTE`.
        swap_space_gib: host memory for KV on each card.
        watermark_fraction: share of the KV blocks that an admission leaves free where any request runs.

    Source: vllm 0.29.0, config/scheduler.py (policy = "fcfs", watermark = 0); vllm 0.6.0, config.py, CacheConfig
        (swap_space = 4 GiB), which vLLM V1 has no more.
    """

    order: AdmissionOrder = AdmissionOrder.FCFS
    prediction_sigma: float = 0.0
    preemption: Preemption = Preemption.RECOMPUTE
    swap_space_gib: float = 4.0
    watermark_fraction: float = 0.0

    def rank(self, priority: Priority, predicted_tokens: float) -> float:
        """What the queue orders a request by: the lowest goes first, equals by arrival."""
        if self.order is AdmissionOrder.PRIORITY:
            return 0.0 if priority is Priority.INTERACTIVE else 1.0
        return float(predicted_tokens) if self.order is AdmissionOrder.SHORTEST_PREDICTED else 0.0


VLLM_DEFAULTS = EngineOptions()


def engine_ranks(
    trace: Trace, classes: Mapping[str, ServiceClass], options: EngineOptions, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The rank of each request of the trace; none where all are equal. `rng` draws the error of the predictions."""
    if options.order is AdmissionOrder.FCFS:
        return np.zeros(0)
    predicted_tokens = np.maximum(trace.output_tokens, 1).astype(np.float64)
    if options.prediction_sigma > 0:
        predicted_tokens *= rng.lognormal(0.0, options.prediction_sigma, len(trace))
    priorities = [classes[label].priority if label in classes else Priority.BATCH for label in SERVICE_LABELS]
    if options.order is AdmissionOrder.PRIORITY:
        return np.array([options.rank(priority, 0.0) for priority in priorities])[trace.service]
    return predicted_tokens
