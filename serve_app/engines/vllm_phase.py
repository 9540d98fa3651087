"""Where a request is in vLLM, as far as its front process can tell. It knows no vLLM, only how its objects look.

The scheduler is in another process and tells of a request with its tokens alone. What is known besides is how many
requests ran and waited in the last step that ended, and that those that run came before those that wait.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Protocol

from loadgen.records import Phase

# How vLLM makes its id of ours (v1/../serve: chat_completion, completion): with one prompt the latter ends in 0.
_ID_ENDS = (("chatcmpl-", ""), ("cmpl-", "-0"))


class RequestStats(Protocol):
    """`vllm.v1.metrics.stats.RequestStateStats`: arrival by `time.time`, tokens by the engine's own clock."""

    num_generation_tokens: int
    arrival_time: float
    last_token_ts: float


class RequestState(Protocol):
    """`vllm.v1.engine.output_processor.RequestState`."""

    @property
    def stats(self) -> RequestStats | None:
        """None where vLLM keeps none."""
        ...


class LastStep:
    """What the last step said of the queue, where requests go in order of arrival (`scheduling_policy` fcfs)."""

    def __init__(self) -> None:
        self._ended_s = -math.inf
        self._waits_from_s = math.inf
        self._waiting = 0

    def ended(self, now_s: float, running: int, waiting: int, states: Iterable[RequestState]) -> None:
        """A step has ended: so many ran and waited; `states` are of all requests, `now_s` is `time.time`."""
        self._ended_s, self._waiting = now_s, waiting
        first_waiting = next(islice(states, running, None), None)
        stats = None if first_waiting is None else first_waiting.stats
        self._waits_from_s = math.inf if stats is None else stats.arrival_time

    def phase(self, request: str, states: Mapping[str, RequestState]) -> Phase | None:
        """Where a request was when the last step ended; None = that cannot be told.

        One that has no token although others go on getting theirs was preempted, or is being computed anew: not known
        which. One that came after the last step is known to be in its prefill only if it is alone.
        """
        stats = states[request].stats
        if stats is None:
            return None
        if stats.num_generation_tokens > 0:
            latest = max(other.stats.last_token_ts for other in states.values() if other.stats is not None)
            return Phase.DECODE if self._waiting == 0 or stats.last_token_ts == latest else None
        if len(states) == 1:
            return Phase.PREFILL
        if stats.arrival_time > self._ended_s:
            return None
        return Phase.ENGINE_QUEUE if stats.arrival_time >= self._waits_from_s else Phase.PREFILL


def client_request_id(engine_request_id: str) -> str:
    """Our id of the request that vLLM calls so."""
    for start, end in _ID_ENDS:
        if engine_request_id.startswith(start) and engine_request_id.endswith(end):
            return engine_request_id.removeprefix(start).removesuffix(end)
    return engine_request_id
