"""The router's queue: requests that no replica has yet, in order of class and deadline or of coming. No clock."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.interface import Priority, QueueSnapshot
from autoscaler.simulator.router_state import QueueOrder


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One waiting request. Instants are in the caller's clock.

    Attributes:
        key: the caller's name for it, unique in the queue.
        service: service label.
        deadline_s: when it is of no use any more.
    """

    key: str
    service: str
    priority: Priority
    prompt_tokens: int
    deadline_s: float


_RANK = {Priority.INTERACTIVE: 0, Priority.BATCH: 1}


class RouterQueue:
    """Holds at most `max_requests` requests; equal deadlines leave in the order in which they came.

    A removed request stays in the heap until it comes to the top or until half of the heap is dead, so that every
    operation takes O(log n) on average.
    """

    def __init__(self, max_requests: int, order: QueueOrder = QueueOrder.CLASS_DEADLINE) -> None:
        self._max_requests = max_requests
        self._order = order
        self._heap: list[tuple[int, float, int, str]] = []
        self._waiting: dict[str, tuple[int, QueuedRequest]] = {}
        self._pushed = 0

    def __len__(self) -> int:
        """The number of waiting requests."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next push would be refused."""
        return len(self._waiting) >= self._max_requests

    def push(self, request: QueuedRequest) -> None:
        """Let a request wait.

        Raises:
            ValueError: the queue is full, or the key waits already.
        """
        if self.is_full:
            raise ValueError(f"the queue holds {self._max_requests} requests, which is its limit")
        if request.key in self._waiting:
            raise ValueError(f"request {request.key!r} waits already")
        self._pushed += 1
        self._waiting[request.key] = (self._pushed, request)
        rank, deadline_s = _RANK[request.priority], request.deadline_s
        if self._order is QueueOrder.FIFO:
            rank, deadline_s = 0, 0.0
        heapq.heappush(self._heap, (rank, deadline_s, self._pushed, request.key))

    def pop(self) -> QueuedRequest | None:
        """Take out the request that is served next, None where nothing waits."""
        while self._heap:
            _, _, number, key = heapq.heappop(self._heap)
            entry = self._waiting.get(key)
            if entry is not None and entry[0] == number:
                del self._waiting[key]
                return entry[1]
        return None

    def remove(self, key: str) -> bool:
        """Take out a request that is given up; False where it does not wait."""
        if self._waiting.pop(key, None) is None:
            return False
        if len(self._heap) > 2 * len(self._waiting) + 16:
            self._heap = [
                entry for entry in self._heap if entry[3] in self._waiting and self._waiting[entry[3]][0] == entry[2]
            ]
            heapq.heapify(self._heap)
        return True

    def snapshot(self, services: Sequence[str]) -> dict[str, QueueSnapshot]:
        """Requests, prompt tokens and earliest deadline by service label."""
        requests = dict.fromkeys(services, 0)
        prompt_tokens = dict.fromkeys(services, 0)
        earliest: dict[str, float] = {}
        for _, request in self._waiting.values():
            service = request.service
            requests[service] += 1
            prompt_tokens[service] += request.prompt_tokens
            earliest[service] = min(earliest.get(service, request.deadline_s), request.deadline_s)
        return {
            service: QueueSnapshot(requests[service], prompt_tokens[service], earliest.get(service))
            for service in services
        }
