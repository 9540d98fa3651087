"""Clients that give up and try again, as compiled code takes them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadgen.client_config import ClientConfig


class ClientRules(NamedTuple):
    """`ClientConfig` as compiled code takes it; after a refusal a client waits for `retry_after_s` at least."""

    timeout_s: float
    max_attempts: int
    backoff_s: float
    max_backoff_s: float
    jitter_fraction: float
    retry_after_s: float
    seed: int


class RequestHeap(NamedTuple):
    """A binary heap of requests: the one with the lowest rank, then key, then number is first. Each is there once.

    Attributes:
        items: i64[n], the first `size[0]`.
        places: i64[n], where each request stands in `items`; -1 = nowhere.
        ranks, keys: i8[n] and f64[n], of each request.
    """

    items: NDArray[np.int64]
    places: NDArray[np.int64]
    ranks: NDArray[np.int8]
    keys: NDArray[np.float64]
    size: NDArray[np.int64]


class ClientArrays(NamedTuple):
    """The clients of a fleet with n requests.

    Attributes:
        timers: when each request is taken up next: the attempt is given up, or the next one begins.
        queue: the router's queue; with attempts that come again, order of arrival is no order of deadline.
        resent: i64[n * (max_attempts - 1)], the requests that were sent again, in order of time.
        resent_s: when that was.
        resent_count: i64[1], how many these are.
        failed, failed_s, failed_fate, failed_count: in the same way, the attempts that another one follows: of which
            request, when and how each ended.
    """

    rules: ClientRules
    timers: RequestHeap
    queue: RequestHeap
    resent: NDArray[np.int64]
    resent_s: NDArray[np.float64]
    resent_count: NDArray[np.int64]
    failed: NDArray[np.int64]
    failed_s: NDArray[np.float64]
    failed_fate: NDArray[np.int8]
    failed_count: NDArray[np.int64]


def empty_heap(requests: int) -> RequestHeap:
    """A heap with room for all of them."""
    return RequestHeap(
        items=np.zeros(requests, np.int64),
        places=np.full(requests, -1, np.int64),
        ranks=np.zeros(requests, np.int8),
        keys=np.zeros(requests),
        size=np.zeros(1, np.int64),
    )


def client_arrays(config: ClientConfig | None, requests: int, retry_after_s: float, seed: int) -> ClientArrays | None:
    """The clients before the first request; None where each sends once and waits."""
    if config is None:
        return None
    most = requests * (config.max_attempts - 1)
    return ClientArrays(
        rules=ClientRules(
            timeout_s=config.timeout_s,
            max_attempts=config.max_attempts,
            backoff_s=config.backoff_s,
            max_backoff_s=config.max_backoff_s,
            jitter_fraction=config.jitter_fraction,
            retry_after_s=float(retry_after_s) if config.honours_retry_after else 0.0,
            seed=seed,
        ),
        timers=empty_heap(requests),
        queue=empty_heap(requests),
        resent=np.empty(most, np.int64),  # memory that is never written is never taken
        resent_s=np.empty(most),
        resent_count=np.zeros(1, np.int64),
        failed=np.empty(most, np.int64),
        failed_s=np.empty(most),
        failed_fate=np.empty(most, np.int8),
        failed_count=np.zeros(1, np.int64),
    )
