"""One engine, step by step: the Python handle on the engine kernel."""

from dataclasses import dataclass

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.cost_model import step_costs
from autoscaler.simulator.engine_invariants import check_engine
from autoscaler.simulator.engine_kernel import add_request, begin_step, complete_step, remove_request
from autoscaler.simulator.engine_options import VLLM_DEFAULTS, EngineOptions
from autoscaler.simulator.engine_state import add_slots, empty_engine, engine_limits
from autoscaler.simulator.prefix_cache import PromptTexts
from autoscaler.simulator.request_phase import PHASES, phase_in_engine
from loadgen.errors import InputError
from loadgen.records import Phase


@dataclass(frozen=True, slots=True)
class EngineStep:
    """What one step did.

    Attributes:
        duration_s: how long it takes; its tokens are there at its end.
        tokens: (request, output tokens it now has) of each request that got a token.
        finished: requests that have all of their tokens now.
        preempted: requests that lost their KV blocks and wait again, that which was admitted last first.
    """

    duration_s: float
    tokens: list[tuple[int, int]]
    finished: list[int]
    preempted: list[int]


class EngineStepper:
    """An engine on `hardware` that is asked for one step after the other. It has no clock and never waits.

    Args:
        capacity_requests: room for so many requests at first; it grows where more are added.
        texts: the engine has a prefix cache, and these are the prompts of requests 0, 1, ...; None = it has none.
    """

    def __init__(
        self,
        hardware: HardwareProfile,
        capacity_requests: int = 256,
        texts: PromptTexts | None = None,
        options: EngineOptions = VLLM_DEFAULTS,
    ) -> None:
        self._limits = engine_limits(hardware, options)
        self._costs = step_costs(hardware)
        self._engine = empty_engine(capacity_requests, self._limits, texts)
        self._slots: dict[int, int] = {}

    @property
    def running(self) -> int:
        """Requests that the engine is working on."""
        return self._engine.state.running

    @property
    def waiting(self) -> int:
        """Requests in the engine's queue."""
        return self._engine.state.waiting

    @property
    def kv_cache_fraction(self) -> float:
        """Share of the KV blocks that are held, 0..1."""
        return 1.0 - self._engine.state.free_blocks / self._limits.usable_blocks

    @property
    def looked_up_tokens(self) -> int:
        """Tokens of admitted requests that were looked up in the prefix cache, since the engine began."""
        return self._engine.state.looked_up_tokens

    @property
    def found_tokens(self) -> int:
        """Tokens of admitted requests that were in the prefix cache, since the engine began."""
        return self._engine.state.found_tokens

    def add(self, request: int, prompt_tokens: int, output_tokens: int, rank: float = 0.0) -> None:
        """Queue a request under the caller's number; it gets exactly `output_tokens` tokens (at least 1).

        Args:
            rank: the lowest goes first, equals by arrival (`EngineOptions.rank`).

        Raises:
            InputError: it could never end: longer than the model's context or than the whole KV cache.
        """
        if request in self._slots:
            raise ValueError(f"request {request} is in the engine already")
        total, longest = max(1, prompt_tokens) + max(1, output_tokens), self._limits.longest_request_tokens
        if total > longest:
            raise InputError(
                f"request {request}: prompt and output are {total} tokens together, the engine takes {longest}; "
                f"ask for fewer"
            )
        if len(self._slots) == len(self._engine.slots):
            add_slots(self._engine, len(self._slots))
        self._slots[request] = add_request(self._engine, request, prompt_tokens, output_tokens, rank)

    def cancel(self, request: int) -> None:
        """Drop a request and free its KV blocks; nothing happens where it has ended already."""
        slot = self._slots.pop(request, None)
        if slot is not None:
            remove_request(self._engine, slot)

    def phase(self, request: int) -> Phase | None:
        """Where a request is in the step that was done last, as long as that takes; None where it has ended.

        The state is already that of the step's end: what the step computed is taken for being computed.
        """
        index = self._slots.get(request)
        if index is None:
            return None
        slot = self._engine.slots[index]
        phase = PHASES[phase_in_engine(slot)]
        return Phase.PREFILL if phase is Phase.DECODE and slot.computed_tokens == slot.prefill_tokens else phase

    def step(self) -> EngineStep | None:
        """Do the next step; None where there is nothing to do."""
        before = self._running_requests()
        duration_s = begin_step(self._engine, self._limits, self._costs)
        if duration_s == 0.0:
            return None
        after = self._running_requests() if self._engine.state.step_preempted > 0 else before
        preempted = [request for request in reversed(before) if request not in after]
        complete_step(self._engine)
        tokens, finished = self._delivered()
        return EngineStep(duration_s, tokens, finished, preempted)

    def check(self) -> None:
        """Raise AssertionError unless blocks, slots and tokens add up; for tests."""
        check_engine(self._engine, self._limits)
        assert len(self._slots) == self.running + self.waiting, "each request is running or waiting"

    def _running_requests(self) -> list[int]:
        """In order of admission."""
        return [self._engine.slots[index].request for index in self._engine.running_slots[: self.running]]

    def _delivered(self) -> tuple[list[tuple[int, int]], list[int]]:
        """(request, tokens it has) of those that the last step gave a token, and those that it ended."""
        delivered = self._engine.delivered_slots[: self._engine.state.step_delivered]
        slots = [self._engine.slots[index] for index in delivered]
        finished = [slot.request for slot in slots if slot.produced_tokens == slot.output_tokens]
        for request in finished:
            del self._slots[request]
        return [(slot.request, slot.produced_tokens) for slot in slots], finished
