"""Whether the load generator's memory stays flat over very many requests."""

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from loadgen.client import Exchange, StreamClient
from loadgen.dispatcher import Dispatcher
from loadgen.null_client import null_plan
from loadgen.null_run import NullServerProcess
from loadgen.plan import PlannedRequest
from loadgen.records import RecordWriter, RequestRecord, Status
from loadgen.run_clock import RunClock
from loadgen.target import Target
from testbed.resident_memory import resident_bytes

_AT_ONCE = 200
_SAMPLES = 50
# Pools, caches and the allocator's arenas fill at first.
_SETTLED_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class Soak:
    """What many requests left behind.

    Attributes:
        ok: requests that ended ok.
        growth_bytes_per_request: slope of the resident memory over the last 80 % of the requests.
        growth_bytes: the same slope over all requests.
        open_connections: left after the end.
    """

    requests: int
    ok: int
    seconds: float
    growth_bytes_per_request: float
    growth_bytes: float
    open_connections: int

    def sentence(self) -> str:
        """The same for a person."""
        return (
            f"{self.requests:,} requests in {self.seconds:.0f} s, {self.ok:,} ok: memory grew by "
            f"{self.growth_bytes_per_request:.1f} bytes a request ({self.growth_bytes / 1e6:.1f} MB over all); "
            f"{self.open_connections} connections left"
        )

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


class AlwaysSoMany:
    """A schedule that keeps so many requests on their way, made when they are sent."""

    def __init__(self, requests: int, at_once: int, clock: RunClock) -> None:
        self._left = requests
        self._free = at_once
        self._number = 0
        self._clock = clock

    @property
    def due_s(self) -> float | None:
        """At once where there is room."""
        return 0.0 if self._left and self._free else None

    def take(self) -> PlannedRequest:
        """Another request, due now."""
        self._left -= 1
        self._free -= 1
        self._number += 1
        return null_plan([self._number], [self._clock.now_s()])[0]

    def ended(self, exchange: Exchange) -> None:  # noqa: ARG002
        """There is room for another one."""
        self._free += 1

    def unsent(self) -> Iterator[PlannedRequest]:
        """None: they are made when they are sent."""
        self._left = 0
        return iter(())


def soak_loadgen(requests: int, on_progress: Callable[[int, int], None]) -> Soak:
    """Send so many requests to a null server, 200 at a time, and watch this process's memory."""
    began_s = time.monotonic()
    clock = RunClock(began_s)
    ended = ok = 0
    samples: list[tuple[int, int]] = []

    async def run(writer: RecordWriter, url: str) -> int:
        def on_record(record: RequestRecord) -> None:
            nonlocal ended, ok
            writer.append(record)
            ended += 1
            ok += record.status is Status.OK
            if ended % max(1, requests // _SAMPLES) == 0:
                gc.collect()
                samples.append((ended, resident_bytes("VmRSS")))
                on_progress(ended, requests)

        schedule = AlwaysSoMany(requests, _AT_ONCE, clock)
        async with StreamClient(Target(url, "null")) as client:
            await Dispatcher(client, schedule, clock, lambda *_: None, on_record).run()
        return client.open_connections

    with NullServerProcess() as server, tempfile.TemporaryDirectory() as folder:
        with (
            RecordWriter(Path(folder) / "records.jsonl") as writer,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            open_connections = runner.run(run(writer, server.url))
        seconds = time.monotonic() - began_s
    settled = [sample for sample in samples if sample[0] > _SETTLED_FRACTION * requests]
    counts, sizes = np.array(settled, dtype=np.float64).T
    slope = float(np.polyfit(counts, sizes, 1)[0])
    return Soak(requests, ok, seconds, slope, slope * requests, open_connections)
