"""A trace as the compiled fleet takes it: its requests, and one router queue for each service."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import Priority, ServiceClass
from autoscaler.simulator.fleet_state import REQUEST, SERVICE
from autoscaler.simulator.router_state import SESSION
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


def requests_of(trace: Trace) -> NDArray[np.void]:
    """The requests of the trace, REQUEST[n]; one that failed when it was recorded asks for one token."""
    requests = np.zeros(len(trace), REQUEST)
    requests["arrival_s"] = trace.arrival_s
    requests["prompt_tokens"] = trace.prompt_tokens
    requests["output_tokens"] = np.maximum(trace.output_tokens, 1)
    requests["service"] = trace.service
    requests["first_token_s"] = requests["finished_s"] = np.nan
    requests["replica"] = -1
    requests["attempts"] = 1
    return requests


def sessions_of(trace: Trace) -> NDArray[np.void]:
    """The sessions of the trace, SESSION[n], none of which has been served."""
    sessions = np.full(len(trace), np.array((-1, -1, -1), SESSION))
    sessions["session"] = np.unique(trace.session, return_inverse=True)[1]
    return sessions
