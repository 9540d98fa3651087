"""A trace as the compiled fleet takes it: its requests, and one router queue for each service."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import Priority, ServiceClass
from autoscaler.simulator.fleet_state import SERVICE, Requests
from loadgen.errors import InputError
from loadgen.trace import SERVICE_LABELS, Trace


def service_queues(trace: Trace, classes: Mapping[str, ServiceClass]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The router's queues, one per label of `SERVICE_LABELS`, and the requests of each in order of arrival."""
    queues, of_service, first = np.zeros(len(SERVICE_LABELS), SERVICE), [], 0
    for index, label in enumerate(SERVICE_LABELS):
        mine = np.flatnonzero(trace.service == index)
        if len(mine) > 0 and label not in classes:
            raise InputError(f"trace '{trace.name}' has {label} requests; give the fleet a service '{label}'")
        rank = 0 if label in classes and classes[label].priority is Priority.INTERACTIVE else 1
        deadline_s = classes[label].slo.deadline_s if label in classes else np.inf
        end = first + len(mine)
        queues[index] = (rank, deadline_s, first, end, first, first, 0, 0)
        of_service.append(mine)
        first = end
    return queues, np.concatenate(of_service).astype(np.int64)


def requests_of(trace: Trace, of_service: NDArray[np.int64]) -> Requests:
    """The trace as the kernel takes it; a request that failed when it was recorded asks for one token."""
    count = len(trace)
    return Requests(
        arrival_s=np.ascontiguousarray(trace.arrival_s, np.float64),
        prompt_tokens=np.ascontiguousarray(trace.prompt_tokens, np.int32),
        output_tokens=np.maximum(trace.output_tokens, 1).astype(np.int32),
        service=np.ascontiguousarray(trace.service, np.int8),
        of_service=of_service,
        fate=np.zeros(count, np.int8),
        first_token_s=np.full(count, np.nan),
        finished_s=np.full(count, np.nan),
        received_tokens=np.zeros(count, np.int32),
        replica=np.full(count, -1, np.int32),
        row=np.zeros(count, np.int32),
        slot=np.zeros(count, np.int32),
    )
