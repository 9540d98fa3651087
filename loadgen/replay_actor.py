"""An actor of a replay: sends its shard of the plan from a process of its own."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadgen.body_file import keep_bodies_in_file
from loadgen.client_config import ClientConfig
from loadgen.node_files import folder_there
from loadgen.pacing import Pacing, make_schedule
from loadgen.plan import Prompts, RequestForm, plan_requests
from loadgen.retries import Retrying
from loadgen.schedule import Schedule
from loadgen.sender import Sender, SenderProgress
from loadgen.target import Target, probe
from loadgen.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The rows of the trace that one of `count` actors sends."""

    rows: NDArray[np.int64]
    index: int
    count: int


class ReplayActor:
    """A sender in a process of its own; it makes its requests itself, so that planning is shared like sending.

    It has no coroutine of its own: with one, Ray would run all of it inside Ray's event loop.
    """

    def __init__(self, target: Target, part: Path, away: str | None, *, keeps_chunk_offsets: bool) -> None:
        """Records go to `part`; away from the driver's machine, to a file of its name in a folder called `away`."""
        if away is not None:
            part = folder_there(away) / part.name
            part.parent.mkdir(mode=0o700, exist_ok=True)
        self._is_away = away is not None
        self._target = target
        self._sender = Sender(target, part, keeps_chunk_offsets=keeps_chunk_offsets)
        self._folder = part.parent

    def prepare(
        self, trace: Trace, shard: Shard, form: RequestForm, prompts: Prompts, pacing: Pacing, client: ClientConfig
    ) -> list[int]:
        """Make the requests of a shard of the trace; gives the bytes of each body.

        Raises:
            InputError: the server does not answer this machine.
        """
        if self._is_away:
            probe(self._target)  # the driver's machine has asked before
        requests = plan_requests(trace, shard.rows.tolist(), form, prompts)
        plan = keep_bodies_in_file(requests, self._folder)
        schedule: Schedule = make_schedule(pacing, plan, trace, shard.rows, shard.index, shard.count)
        if client.max_attempts > 1:
            schedule = Retrying(schedule, client, form.seed)
        self._sender.load(schedule)
        return [len(request.body) for request in plan]

    def process_id(self) -> int:
        """Of its machine."""
        return os.getpid()

    def wall_clock_s(self) -> float:
        """Its machine's clock, epoch seconds."""
        return time.time()

    def run(self) -> SenderProgress:
        """Send them; see `Sender`, as for what follows."""
        return self._sender.run()

    def wait_ready(self) -> None:
        self._sender.wait_ready()

    def start(self, start_epoch_s: float) -> None:
        self._sender.start(start_epoch_s)

    def now_s(self) -> float:
        return self._sender.now_s()

    def progress(self) -> SenderProgress:
        return self._sender.progress()

    def stop(self) -> None:
        self._sender.stop()
