"""How the requests of a plan follow each other: by the clock alone, turn after turn, or user by user."""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadgen.client import Exchange
from loadgen.plan import PlannedRequest
from loadgen.schedule import OpenLoop, Schedule
from loadgen.trace import Trace

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ByArrival:
    """Open loop: each request at its arrival, whatever became of those before."""


@dataclass(frozen=True, slots=True)
class ByTurn:
    """A turn of a session waits for the end of the one before, and for its think time.

    Attributes:
        speed: the trace was sped up so much; a recorded answer took its time at speed 1.
    """

    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class ByUser:
    """Closed loop: each user sends the plan's next request when its last has ended and it has thought.

    Attributes:
        users: who all send their first request at the start.
        think_s: from the end of a request to the next one of the same user.
        duration_s: from then on nothing more is sent.
    """

    users: int
    think_s: float
    duration_s: float


Pacing = ByArrival | ByTurn | ByUser
BY_ARRIVAL = ByArrival()


def shards(pacing: Pacing, trace: Trace, actors: int) -> list[Integers]:
    """The rows of the trace for each of at most `actors` senders; a session that waits for its turns stays together."""
    match pacing:
        case ByArrival():
            of_actor = np.arange(len(trace)) % actors
        case ByTurn():
            of_actor = np.unique(trace.session, return_inverse=True)[1] % actors
        case ByUser():
            of_actor = np.arange(len(trace)) % min(actors, pacing.users)
    rows = (np.flatnonzero(of_actor == actor) for actor in range(actors))
    return [found for found in rows if len(found)]


def make_schedule(
    pacing: Pacing, plan: Sequence[PlannedRequest], trace: Trace, rows: Integers, shard: int, shard_count: int
) -> Schedule:
    """The schedule of one of `shard_count` senders, whose `plan` holds `rows` of the trace, in order."""
    match pacing:
        case ByArrival():
            return OpenLoop(plan)
        case ByTurn():
            think_s = think_times_s(trace, pacing.speed)
            return WaitingTurns(plan, trace.session[rows].tolist(), think_s[rows].tolist())
        case ByUser():
            users = pacing.users // shard_count + (shard < pacing.users % shard_count)
            return ClosedLoop(plan, users, pacing.think_s, pacing.duration_s)


def think_times_s(trace: Trace, speed: float) -> NDArray[np.float64]:
    """f64[n], from the end of a session's previous turn to each request, as recorded: the gap less the answer's time.

    NaN where the session has no previous turn, or the trace does not say how long that took. At a `speed` gaps have
    become shorter and answers have not: the think time is that of the recording, divided by the speed.
    """
    think_s = np.full(len(trace), np.nan)
    if trace.elapsed_s is None:
        return think_s
    order = np.argsort(trace.session, kind="stable")
    is_later = trace.session[order[1:]] == trace.session[order[:-1]]
    turns, before = order[1:][is_later], order[:-1][is_later]
    gap_s = (trace.arrival_s[turns] - trace.arrival_s[before]) * speed
    think_s[turns] = np.maximum(gap_s - trace.elapsed_s[before], 0.0) / speed
    return think_s


class WaitingTurns:
    """Sessions: a turn is due once the one before has ended, however it ended, and its think time has passed.

    After a deadline that is when the server has been heard out as well: what waits for that is not the client's lag.
    Where the think time is not known, a turn is due as long after the one before was due as the plan has it, but not
    before that has ended. First turns are due as planned.
    """

    def __init__(self, plan: Sequence[PlannedRequest], session: Sequence[int], think_s: Sequence[float]) -> None:
        """`plan` is in order of `scheduled_s`; the session of each request, and its think time (NaN = not known)."""
        self._plan = plan
        self._think_s = think_s
        self._following: dict[int, int] = {}  # the place of a session's next turn, by the place of a turn
        self._place: dict[int, int] = {}  # of what is on its way, by request id
        self._due: list[tuple[float, int]] = []  # a heap of instants and places
        latest: dict[int, int] = {}
        for place, number in enumerate(session):
            if number in latest:
                self._following[latest[number]] = place
            else:
                self._due.append((plan[place].scheduled_s, place))
            latest[number] = place
        self._waiting = set(self._following.values())

    @property
    def due_s(self) -> float | None:
        """The instant of the next turn; None = all others wait for one that is on its way."""
        return self._due[0][0] if self._due else None

    def take(self) -> PlannedRequest:
        """The next turn; one that has waited is scheduled when it became due."""
        due_s, place = heapq.heappop(self._due)
        request = self._plan[place]
        self._place[request.request_id] = place
        if place not in self._waiting:
            return request
        self._waiting.remove(place)
        return replace(request, scheduled_s=due_s, planned_s=request.scheduled_s)

    def ended(self, exchange: Exchange) -> None:
        """The session's next turn becomes due."""
        place = self._place.pop(exchange.request.request_id)
        following = self._following.get(place)
        if following is None:
            return
        ended_s, think_s = exchange.record().finished_s, self._think_s[following]
        gap_s = self._plan[following].scheduled_s - self._plan[place].scheduled_s
        is_known = not math.isnan(think_s)
        due_s = ended_s + think_s if is_known else exchange.request.scheduled_s + gap_s
        heapq.heappush(self._due, (max(due_s, exchange.known_s), following))

    def unsent(self) -> Iterator[PlannedRequest]:
        """The turns that are due later, and those that wait."""
        due = {place for _, place in self._due}
        return (self._plan[place] for place in sorted(due | self._waiting))


class ClosedLoop:
    """N users, who each send the plan's next request when their last has ended and their think time has passed."""

    def __init__(self, plan: Sequence[PlannedRequest], users: int, think_s: float, duration_s: float) -> None:
        """Nothing becomes due at or after `duration_s`, or when the plan is at its end."""
        self._plan = plan
        self._think_s = think_s
        self._duration_s = duration_s
        self._next = 0
        self._free_s = [0.0] * users  # a heap of the instants at which the users who are not waiting send

    @property
    def due_s(self) -> float | None:
        """When the next user sends."""
        if self._next == len(self._plan) or not self._free_s or self._free_s[0] >= self._duration_s:
            return None
        return self._free_s[0]

    def take(self) -> PlannedRequest:
        """The next request of the plan, scheduled when its user became free."""
        request = self._plan[self._next]
        self._next += 1
        return replace(request, scheduled_s=heapq.heappop(self._free_s), planned_s=request.scheduled_s)

    def ended(self, exchange: Exchange) -> None:
        """Its user thinks, and is free."""
        heapq.heappush(self._free_s, max(exchange.record().finished_s + self._think_s, exchange.known_s))

    def unsent(self) -> Iterator[PlannedRequest]:
        """None: what no user came to was not offered."""
        return iter(())
