"""One engine, step by step: the Python handle on the engine kernel."""

from dataclasses import dataclass

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.cost_model import step_costs
from autoscaler.simulator.engine_kernel import add_request, begin_step, complete_step, remove_request
from autoscaler.simulator.engine_state import (
    check_engine,
    empty_engines,
    engine_limits,
    longest_request_tokens,
    with_slots,
)
from loadgen.errors import InputError


@dataclass(frozen=True, slots=True)
class EngineStep:
    """What one step did.

    Attributes:
        duration_s: how long it takes; its tokens are there at its end.
        tokens: (request, output tokens it now has) of each request that got a token.
        finished: requests that have all of their tokens now.
        preempted: requests that lost their KV blocks and wait again, the latest first.
    """

    duration_s: float
    tokens: list[tuple[int, int]]
    finished: list[int]
    preempted: list[int]


class EngineStepper:
    """An engine on `hardware` that is asked for one step after the other. It has no clock and never waits.

    Args:
        capacity_requests: room for so many requests at first; it grows where more are added.
    """

    def __init__(self, hardware: HardwareProfile, capacity_requests: int = 256) -> None:
        self._limits = engine_limits(hardware)
        self._costs = step_costs(hardware)
        self._engines = empty_engines(1, capacity_requests, self._limits)
        self._slots: dict[int, int] = {}

    @property
    def running(self) -> int:
        """Requests that the engine is working on."""
        return int(self._engines.engine["running"][0])

    @property
    def waiting(self) -> int:
        """Requests in the engine's queue."""
        return int(self._engines.engine["waiting"][0])

    @property
    def kv_cache_fraction(self) -> float:
        """Share of the KV blocks that are held, 0..1."""
        return 1.0 - float(self._engines.engine["free_blocks"][0]) / self._limits.usable_blocks

    def add(self, request: int, prompt_tokens: int, output_tokens: int) -> None:
        """Queue a request under the caller's number; it gets exactly `output_tokens` tokens (at least 1).

        Raises:
            InputError: it could never end: longer than the model's context or than the whole KV cache.
        """
        if request in self._slots:
            raise ValueError(f"request {request} is in the engine already")
        total, longest = max(1, prompt_tokens) + max(1, output_tokens), longest_request_tokens(self._limits)
        if total > longest:
            raise InputError(
                f"request {request}: prompt and output are {total} tokens together, the engine takes {longest}; "
                f"ask for fewer"
            )
        slots = self._engines.slot.shape[1]
        if len(self._slots) == slots:
            self._engines = with_slots(self._engines, 2 * slots)
        self._slots[request] = add_request(self._engines, 0, request, prompt_tokens, output_tokens)

    def cancel(self, request: int) -> None:
        """Drop a request and free its KV blocks; nothing happens where it has ended already."""
        slot = self._slots.pop(request, None)
        if slot is not None:
            remove_request(self._engines, 0, slot)

    def step(self) -> EngineStep | None:
        """Do the next step; None where there is nothing to do."""
        duration_s = begin_step(self._engines, 0, self._limits, self._costs)
        if duration_s == 0.0:
            return None
        preempted = self._preempted()
        complete_step(self._engines, 0)
        tokens, finished = self._delivered()
        return EngineStep(duration_s, tokens, finished, preempted)

    def check(self) -> None:
        """Raise AssertionError unless blocks, slots and tokens add up; for tests."""
        check_engine(self._engines, 0, self._limits)
        assert len(self._slots) == self.running + self.waiting, "each request is running or waiting"

    def _preempted(self) -> list[int]:
        """Those that the step under way preempted: they stand at the front of the queue."""
        engine, slots = self._engines.engine[0], self._engines.slot.shape[1]
        ring = [int(engine["waiting_head"] + place) % slots for place in range(int(engine["step_preempted"]))]
        return [int(self._engines.slot["request"][0, self._engines.waiting[0, place]]) for place in reversed(ring)]

    def _delivered(self) -> tuple[list[tuple[int, int]], list[int]]:
        """(request, tokens it has) of those that the last step gave a token, and those that it ended."""
        delivered = self._engines.delivered[0, : int(self._engines.engine["step_delivered"][0])]
        slots = self._engines.slot[0, delivered]
        tokens = list(zip(slots["request"].tolist(), slots["produced_tokens"].tolist(), strict=True))
        ended = slots["request"][slots["produced_tokens"] == slots["output_tokens"]]
        finished: list[int] = ended.tolist()
        for request in finished:
            del self._slots[request]
        return tokens, finished


def compile_engine() -> None:
    """Compile the engine kernel, or load what an earlier run compiled, so that a first step does not wait for it.

    Called once before many processes start that would each compile it.
    """
    stepper = EngineStepper(
        HardwareProfile(
            name="compile",
            source="",
            fixed_s=1.0,
            memory_s=0.0,
            token_s=0.0,
            sequence_s=0.0,
            kv_token_s=0.0,
            prefill_context_s=0.0,
            host_s=0.0,
            kv_cache_tokens=64,
            block_tokens=16,
            max_sequences=1,
            max_batched_tokens=16,
            max_model_tokens=32,
        ),
        capacity_requests=2,
    )
    stepper.add(0, 1, 1)
    stepper.add(1, 1, 1)
    stepper.cancel(1)
    stepper.step()
