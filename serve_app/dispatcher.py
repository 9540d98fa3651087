"""Who goes to the engine next: a request leaves the router's queue only when a ready replica has a free slot.

Serve's own queue is first come, first served. As many requests are handed to it as the ready replicas take at once,
so it never has to queue, and the order is decided here.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.interface import QueueSnapshot
from loadgen.records import Cause
from serve_app.openai_api import ApiError
from serve_app.router_queue import QueuedRequest, RouterQueue


@dataclass(slots=True, eq=False)
class Slot:
    """A request's place at the engine. `replica_id` is set when a replica has taken it."""

    replica_id: str | None = None


class Dispatcher:
    """Gives slots to requests within one event loop. Deadlines are epoch seconds."""

    def __init__(self, slots_per_replica: int, max_queued_requests: int, retry_after_s: int) -> None:
        self._slots_per_replica = slots_per_replica
        self._retry_after_s = retry_after_s
        self._queue = RouterQueue(max_queued_requests)
        self._admissions: dict[str, asyncio.Future[Slot]] = {}
        self._slots: set[Slot] = set()
        self._ready: frozenset[str] = frozenset()
        self._last_ready_s = -1.0  # monotonic; when there was a ready replica for the last time

    @property
    def ready_replicas(self) -> int:
        """Replicas that take requests."""
        return len(self._ready)

    def queued(self, services: Sequence[str]) -> dict[str, QueueSnapshot]:
        """The queue by service label."""
        return self._queue.snapshot(services)

    def set_ready(self, replica_ids: frozenset[str]) -> None:
        """Take in which replicas are ready."""
        if self._ready and not replica_ids:
            self._last_ready_s = time.monotonic()
        self._ready = replica_ids
        self._admit()

    async def acquire(self, request: QueuedRequest) -> Slot:
        """Wait for a slot until the request's deadline.

        Raises:
            ApiError: 503 where the queue is full, 504 where the deadline passed.
        """
        if self._queue.is_full:
            raise self._queue_full()
        arrived_s = time.monotonic()
        admission: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._admissions[request.key] = admission
        self._queue.push(request)
        self._admit()
        try:
            return await asyncio.wait_for(admission, max(request.deadline_s - time.time(), 0.0))
        except TimeoutError:
            self._take_back(admission)
            raise self._deadline_passed(arrived_s) from None
        except asyncio.CancelledError:
            self._take_back(admission)
            raise
        finally:
            self._queue.remove(request.key)
            self._admissions.pop(request.key, None)

    def release(self, slot: Slot) -> None:
        """A request is over: its slot goes to the next one."""
        self._slots.discard(slot)
        self._admit()

    def _admit(self) -> None:
        """Give the free slots away, in the queue's order."""
        # A draining replica still works on its requests, but its slots are gone: they take none from the others.
        taken = sum(slot.replica_id is None or slot.replica_id in self._ready for slot in self._slots)
        free = len(self._ready) * self._slots_per_replica - taken
        while free > 0 and (request := self._queue.pop()) is not None:
            admission = self._admissions.get(request.key)
            if admission is None or admission.done():
                continue
            slot = Slot()
            self._slots.add(slot)
            admission.set_result(slot)
            free -= 1

    def _take_back(self, admission: asyncio.Future[Slot]) -> None:
        """Release a slot that was given in the moment in which its request gave up."""
        if admission.done() and not admission.cancelled():
            self.release(admission.result())

    def _queue_full(self) -> ApiError:
        return ApiError(
            503,
            f"{len(self._queue)} requests wait already; try again in {self._retry_after_s} s",
            "overloaded_error",
            Cause.QUEUE_FULL,
            self._retry_after_s,
        )

    def _deadline_passed(self, arrived_s: float) -> ApiError:
        if self._ready or self._last_ready_s >= arrived_s:
            return deadline_error("no replica had a free slot before the request's deadline", Cause.DEADLINE_IN_QUEUE)
        return deadline_error("no replica was ready before the request's deadline", Cause.NO_READY_REPLICA)


def deadline_error(message: str, cause: Cause) -> ApiError:
    """The answer to a request whose deadline passed."""
    return ApiError(504, message, "timeout_error", cause)
