"""Who goes to which replica next: a request leaves the router's queue only when a ready replica has a free slot.

Serve's own queue is first come, first served. A replica is handed only as many requests as it takes at once, so Serve
never has to queue, and order and place are decided here.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.interface import QueueSnapshot
from loadgen.records import Cause, Phase
from serve_app.openai_api import ApiError
from serve_app.replica_choice import ReplicaChoice
from serve_app.router_queue import QueuedRequest, RouterQueue


@dataclass(slots=True, eq=False)
class Slot:
    """A request's place at a replica."""

    replica_id: str


class Dispatcher:
    """Gives slots to requests within one event loop. Deadlines are epoch seconds."""

    def __init__(self, slots_per_replica: int, queue: RouterQueue, choice: ReplicaChoice, retry_after_s: int) -> None:
        self._slots_per_replica = slots_per_replica
        self._retry_after_s = retry_after_s
        self._queue = queue
        self._choice = choice
        self._admissions: dict[str, asyncio.Future[Slot]] = {}
        self._ready: dict[str, None] = {}  # an ordered set, the oldest first
        self._taken: dict[str, int] = {}  # slots by replica, also those of replicas that are draining
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
        stayed = [replica_id for replica_id in self._ready if replica_id in replica_ids]
        self._ready = dict.fromkeys([*stayed, *sorted(replica_ids.difference(stayed))])
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
        self._leave(slot.replica_id)
        self._admit()

    def move(self, slot: Slot, replica_id: str) -> None:
        """Another replica than the chosen one has taken the request."""
        if replica_id != slot.replica_id:
            self._leave(slot.replica_id)
            self._taken[replica_id] = self._taken.get(replica_id, 0) + 1
            slot.replica_id = replica_id
            self._admit()

    def _admit(self) -> None:
        """Give the free slots away, in the queue's order."""
        while self._has_free_slot() and (request := self._queue.pop()) is not None:
            admission = self._admissions.get(request.key)
            if admission is None or admission.done():
                continue
            replica_id = self._choice.choose(tuple(self._ready), self._taken, self._slots_per_replica)
            self._taken[replica_id] = self._taken.get(replica_id, 0) + 1
            admission.set_result(Slot(replica_id))

    def _has_free_slot(self) -> bool:
        return any(self._taken.get(replica_id, 0) < self._slots_per_replica for replica_id in self._ready)

    def _leave(self, replica_id: str) -> None:
        self._taken[replica_id] -= 1
        if self._taken[replica_id] == 0:
            del self._taken[replica_id]

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
            Phase.ROUTER_QUEUE,
        )

    def _deadline_passed(self, arrived_s: float) -> ApiError:
        if self._ready or self._last_ready_s >= arrived_s:
            message = "no replica had a free slot before the request's deadline"
            return deadline_error(message, Cause.DEADLINE_IN_QUEUE, Phase.ROUTER_QUEUE)
        message = "no replica was ready before the request's deadline"
        return deadline_error(message, Cause.NO_READY_REPLICA, Phase.COLD_START)


def deadline_error(message: str, cause: Cause, phase: Phase | None = None) -> ApiError:
    """The answer to a request whose deadline passed."""
    return ApiError(504, message, "timeout_error", cause, phase=phase)
