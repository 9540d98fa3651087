"""The engine kernel paced by the wall clock, inside one event loop. It knows requests and tokens, not Serve or HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.engine import EngineStep, EngineStepper
from autoscaler.simulator.engine_options import VLLM_DEFAULTS, EngineOptions
from loadgen.records import Phase
from serve_app.engines.prompt_texts import LivePromptTexts
from serve_app.telemetry import EngineLoad


@dataclass(slots=True, eq=False)
class PacedRequest:
    """One request in the engine.

    Attributes:
        number: its number in the engine kernel.
        next_chunk_s: monotonic; tokens wait until then, so that several share one chunk.
        progress: the number of tokens there are, each time that some may be sent.
        cut_off: where it was when it was cancelled; None = it was not.
    """

    number: int
    output_tokens: int
    next_chunk_s: float = 0.0
    progress: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    cut_off: Phase | None = None


class PacedEngine:
    """Runs the kernel's steps at the moments at which they end on the emulated hardware.

    The end of each step is an absolute instant: a loop that was woken late does the next steps without a pause until
    it has caught up, so that a busy machine does not slow the emulated engine down.

    Args:
        chunk_interval_s: the tokens that a request gets in this time are reported together, the first one at once.
        prefix_caching: prompts that begin alike share what was computed of them.
    """

    def __init__(
        self,
        hardware: HardwareProfile,
        chunk_interval_s: float,
        *,
        prefix_caching: bool = False,
        options: EngineOptions = VLLM_DEFAULTS,
    ) -> None:
        self._prompts = LivePromptTexts(hardware.block_tokens) if prefix_caching else None
        texts = self._prompts.texts if self._prompts else None
        self._stepper = EngineStepper(hardware, texts=texts, options=options)
        self._chunk_interval_s = chunk_interval_s
        self._requests: dict[int, PacedRequest] = {}
        self._added = 0
        self._output_tokens = 0
        self._has_work = asyncio.Event()

    def load(self) -> EngineLoad:
        """The engine's state now."""
        stepper, has_cache = self._stepper, self._prompts is not None
        return EngineLoad(
            running=stepper.running,
            waiting=stepper.waiting,
            kv_cache_fraction=stepper.kv_cache_fraction,
            output_tokens_total=self._output_tokens,
            looked_up_tokens_total=stepper.looked_up_tokens if has_cache else None,
            found_tokens_total=stepper.found_tokens if has_cache else None,
        )

    def add(
        self, prompt_tokens: int, output_tokens: int, block_hashes: Sequence[int] = (), rank: float = 0.0
    ) -> PacedRequest:
        """Queue a request. Prompts with equal first `block_hashes` share these blocks, where there is a prefix cache.

        Args:
            rank: the lowest goes first, equals by arrival (`EngineOptions.rank`).

        Raises:
            InputError: it is longer than the engine can ever hold.
        """
        self._stepper.add(self._added, prompt_tokens, output_tokens, rank)
        request = self._requests[self._added] = PacedRequest(self._added, output_tokens)
        if self._prompts is not None:
            self._prompts.add(block_hashes)
            self._prompts.forget_before(next(iter(self._requests)))
        self._added += 1
        self._has_work.set()
        return request

    def cancel(self, request: PacedRequest) -> None:
        """Free what a request holds and note where it was; nothing happens where it has ended."""
        if self._requests.pop(request.number, None) is not None:
            request.cut_off = self._phase(request)
            self._stepper.cancel(request.number)

    async def progress(self, request: PacedRequest) -> AsyncIterator[int]:
        """How many tokens the request has, in chunks, until it has all. Leaving it early cancels the request."""
        try:
            tokens = 0
            while tokens < request.output_tokens:
                tokens = await request.progress.get()
                yield tokens
        finally:
            self.cancel(request)

    async def run(self) -> None:
        """Work for ever."""
        step_end_s = time.monotonic()
        while True:
            step = self._stepper.step()
            if step is None:
                self._has_work.clear()
                await self._has_work.wait()
                step_end_s = time.monotonic()
                continue
            step_end_s += step.duration_s
            await asyncio.sleep(max(step_end_s - time.monotonic(), 0.0))
            self._deliver(step, step_end_s)

    def _phase(self, request: PacedRequest) -> Phase:
        """Where a request is; the kernel has done the step under way already, and ended what ends with it."""
        last = Phase.PREFILL if request.output_tokens == 1 else Phase.DECODE
        return self._stepper.phase(request.number) or last

    def _deliver(self, step: EngineStep, now_s: float) -> None:
        """Report a step's tokens to those whose chunk is due or complete."""
        self._output_tokens += len(step.tokens)
        for number, tokens in step.tokens:
            request = self._requests.get(number)
            if request is None:  # cancelled while the step ran
                continue
            if tokens >= request.output_tokens:
                del self._requests[number]
            elif now_s < request.next_chunk_s:
                continue
            request.next_chunk_s = now_s + self._chunk_interval_s
            request.progress.put_nowait(tokens)
