"""What an engine replica reports of itself: load, KV use, tokens made, and the GPU's state where there is one."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadgen.records import Phase
from serve_app.traffic import CutOff, EngineSample
from serve_app.traffic_monitor import find_monitor

PUSH_TIMEOUT_S = 5.0
LAST_PUSH_TIMEOUT_S = 1.0  # a replica that is told to go does not stay for it
MOST_CUT_OFF = 10_000  # are kept while the monitor does not answer


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """An engine's state at one moment.

    Attributes:
        running: requests in the running batch.
        waiting: requests that the engine holds back.
        kv_cache_fraction: share of KV blocks in use, 0..1.
        output_tokens_total: tokens made since the engine started.
        looked_up_tokens_total, found_tokens_total: tokens of admitted requests, and those of them that the prefix cache
            had; None where there is none.
    """

    running: int
    waiting: int
    kv_cache_fraction: float
    output_tokens_total: int
    looked_up_tokens_total: int | None = None
    found_tokens_total: int | None = None


class GpuGauge:
    """Memory and utilisation of the first GPU that this process sees; nothing where there is none."""

    def __init__(self) -> None:
        self._device: object | None = None
        with contextlib.suppress(Exception):  # no driver, no GPU, no permission: all mean that there is nothing to read
            import pynvml

            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByIndex(_first_visible_gpu())

    def read(self) -> tuple[float | None, float | None]:
        """(share of memory in use, share of time busy), each 0..1 or None."""
        if self._device is None:
            return None, None
        with contextlib.suppress(Exception):
            import pynvml

            memory = pynvml.nvmlDeviceGetMemoryInfo(self._device)
            busy = pynvml.nvmlDeviceGetUtilizationRates(self._device)
            return memory.used / memory.total, busy.gpu / 100
        return None, None


def _first_visible_gpu() -> int:
    """NVML's index of the first GPU of CUDA_VISIBLE_DEVICES: NVML itself ignores that variable."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    return int(first) if first.isdigit() else 0


class EngineReporter:
    """Samples an engine once per interval, pushes the samples to the traffic monitor, keeps the last for Serve.

    `start` is called in the replica's event loop when the engine is ready: the first push announces the replica.
    A push never waits and never fails the replica: a lost sample is only a gap in a plot. Requests that were cut off
    are told again until the monitor has heard of them.
    """

    def __init__(self, app_name: str, replica_id: str, interval_s: float, read_load: Callable[[], EngineLoad]) -> None:
        self._app_name = app_name
        self._replica_id = replica_id
        self._interval_s = interval_s
        self._read_load = read_load
        self._gpu = GpuGauge()
        self._task: asyncio.Task[None] | None = None
        self._load_at_last_sample = EngineLoad(0, 0, 0.0, 0)
        self._sampled_at_s = time.time()
        self._last: EngineSample | None = None
        self._cut_off: list[CutOff] = []
        self._monitor: Any | None = None
        self._reporting = asyncio.Lock()

    def start(self) -> None:
        """Begin to report, from the running event loop."""
        self._load_at_last_sample = self._read_load()
        self._sampled_at_s = time.time()
        self._task = asyncio.get_running_loop().create_task(self._report_forever())

    async def finish(self) -> None:
        """Report what has come since the last report, and no more: the replica is about to go."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_PUSH_TIMEOUT_S):
                async with self._reporting:  # a report that is under way gets through
                    self._task.cancel()
                await self._report()

    def note_cut_off(self, request_id: str, phase: Phase) -> None:
        """A request ends here before the engine has brought it to its end; the next reports tell."""
        if len(self._cut_off) < MOST_CUT_OFF:
            self._cut_off.append(CutOff(request_id, phase))

    def autoscaling_stats(self) -> dict[str, float]:
        """The last sample as the numbers that `record_autoscaling_stats` gives to Serve."""
        load = self._read_load()
        return {
            "running": load.running,
            "waiting": load.waiting,
            "kv_cache_fraction": load.kv_cache_fraction,
            "tokens_per_s": self._last.tokens_per_s if self._last else 0.0,
        }

    def sample(self) -> EngineSample:
        """Take a sample now; the next one's interval starts here."""
        now_s = time.time()
        load, before = self._read_load(), self._load_at_last_sample
        memory, busy = self._gpu.read()
        self._last = EngineSample(
            replica_id=self._replica_id,
            time_s=now_s,
            interval_s=now_s - self._sampled_at_s,
            running=load.running,
            waiting=load.waiting,
            kv_cache_fraction=load.kv_cache_fraction,
            output_tokens=load.output_tokens_total - before.output_tokens_total,
            looked_up_tokens=_since(before.looked_up_tokens_total, load.looked_up_tokens_total),
            found_tokens=_since(before.found_tokens_total, load.found_tokens_total),
            gpu_memory_fraction=memory,
            gpu_utilization_fraction=busy,
            cut_off=tuple(self._cut_off),
        )
        self._sampled_at_s = now_s
        self._load_at_last_sample = load
        return self._last

    async def _report_forever(self) -> None:
        due_s = time.monotonic()
        while True:
            await self._report()
            due_s = max(due_s + self._interval_s, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())

    async def _report(self) -> None:
        async with self._reporting:
            sample = self.sample()
            try:
                if self._monitor is None:
                    self._monitor = await asyncio.to_thread(find_monitor, self._app_name)
                if self._monitor is not None:
                    await asyncio.wait_for(self._monitor.report_engine.remote(sample), PUSH_TIMEOUT_S)
                    del self._cut_off[: len(sample.cut_off)]
            except Exception:  # lost, slow or restarting monitor: look for it again at the next sample
                self._monitor = None


def _since(before: int | None, now: int | None) -> int | None:
    """How much a count has grown; None where it is not counted."""
    return None if now is None else now - (before or 0)
