"""The actors of a replay, as their driver sees them: one clock start, and what they wrote on other nodes comes home."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError, TaskUnschedulableError

from loadgen.client_config import ClientConfig
from loadgen.clock_offset import ClockOffset, measure_clock_offset
from loadgen.file_lock import is_locked
from loadgen.node_files import away_folder_name, fetch_folder
from loadgen.nodes import LONGEST_ANSWER_S, Node, answer, begin_on, choose_nodes, no_answer, on_node
from loadgen.pacing import ByArrival, Pacing
from loadgen.plan import Prompts, RequestForm
from loadgen.questions import Questions
from loadgen.replay_actor import ReplayActor, Shard
from loadgen.replay_progress import ReplayProgress, summarise_progress
from loadgen.run_clock import RunClock
from loadgen.sender import SenderProgress
from loadgen.sender_silence import SenderSilence
from loadgen.silence import Silence
from loadgen.standstill import Standstill
from loadgen.target import Target
from loadgen.trace import Trace

_POLL_INTERVAL_S = 0.5
# Between fixing the start and the start itself: every actor must have heard of it by then.
_START_LEAD_S = 1.0
_STOP_TIMEOUT_S = 10.0
_ASK_TIMEOUT_S = 5.0
_FETCH_TIMEOUT_S = 60.0  # of each piece
# Ray has its processes yield to all others (niceness 15): a replica that starts, or a server beside, made senders late.
_FULL_PRIORITY = {"RAY_worker_niceness": "0"}
_NO_OFFSET = ClockOffset(0.0, 0.0)  # of the driver's own clock


@dataclass(frozen=True, slots=True)
class SendingNode:
    """A machine that requests were sent from.

    Attributes:
        actors: that ran there.
        is_driver: the replay was driven from it; its clock is the one that records go by.
        clock_offset_s: its clock less the driver's before the start, which was taken into account.
        clock_uncertainty_s: by which that may be wrong at most.
        clock_drift_s: how far its seconds of the run were ahead of the driver's in the end; None = it did not say.
        cpu_s: by actor, the processor time of its process since the start, as last heard of.
        standstills: by actor, of its event loop.
    """

    address: str
    host_name: str
    is_driver: bool
    actors: int
    clock_offset_s: float
    clock_uncertainty_s: float
    clock_drift_s: float | None
    cpu_s: tuple[float, ...]
    standstills: tuple[Standstill, ...] = ()


class Crew:
    """The actors of one replay, as their driver sees them.

    Attributes:
        lost: what went wrong with actors and what they wrote, one sentence each.
        unread: the actors of whose files not all was fetched, by number.
    """

    def __init__(
        self, target: Target, parts: tuple[Path, ...], tag: str, *, keeps_chunk_offsets: bool, spreads: bool
    ) -> None:
        """Start an actor for each of `parts`, over the nodes of the cluster if it `spreads`, else all on this one."""
        self.lost: list[str] = []
        self.unread: list[int] = []
        self._parts = parts
        self._processes: list[int] = []
        self._progress = [SenderProgress() for _ in parts]
        self._runs: dict[Any, int] = {}
        self._nodes = choose_nodes(len(parts), spreads=spreads)
        self._away = {node: away_folder_name(tag, node.node_id) for node in self._nodes if not node.is_driver}
        self._offsets: dict[Node, ClockOffset] = {}
        self._drifts_s: dict[Node, float] = {}
        self._actors = [self._make_actor(target, index, keeps_chunk_offsets) for index in range(len(parts))]
        self._questions = Questions(lambda index: self._actors[index].progress.remote())

    def _make_actor(self, target: Target, index: int, keeps_chunk_offsets: bool) -> Any:
        node = self._nodes[index]
        make = ray.remote(ReplayActor).options(
            num_cpus=0,
            max_concurrency=4,  # `run` in one thread, questions in the others
            runtime_env={"env_vars": _FULL_PRIORITY},
            scheduling_strategy=on_node(node),
        )
        part = self._parts[index].resolve()
        return make.remote(target, part, self._away.get(node), keeps_chunk_offsets=keeps_chunk_offsets)

    def prepare(
        self,
        trace: Trace,
        rows: list[NDArray[np.int64]],
        form: RequestForm,
        prompts: Prompts,
        pacing: Pacing,
        client: ClientConfig,
    ) -> NDArray[np.int64]:
        """Have each make its requests (`rows` of the trace, by actor); gives the bytes of each request's body.

        Raises:
            InputError: what an actor says is wrong, or one that has ended.
        """
        self._planned = len(trace)
        self._processes = self._answers([actor.process_id.remote() for actor in self._actors])
        self._arrival_s = trace.arrival_s if isinstance(pacing, ByArrival) else None
        shared_trace, shared_prompts = ray.put(trace), ray.put(prompts)
        prepared = [
            actor.prepare.remote(
                shared_trace, Shard(rows[index], index, len(rows)), form, shared_prompts, pacing, client
            )
            for index, actor in enumerate(self._actors)
        ]
        body_bytes = np.zeros(len(trace), dtype=np.int64)
        for part, said in zip(rows, self._answers(prepared), strict=True):
            body_bytes[part] = said
        self._longest_deadline_s = max(form.deadlines_s.values())
        return body_bytes

    def start(self) -> float:
        """Wait until all are connected, and fix the start; gives it by the driver's wall clock.

        Raises:
            InputError: what an actor says is wrong, or one that has ended.
        """
        self._runs = {actor.run.remote(): index for index, actor in enumerate(self._actors)}
        self._answers([actor.wait_ready.remote() for actor in self._actors])
        for run in ray.wait(list(self._runs), num_returns=len(self._runs), timeout=0)[0]:
            self._answer(self._runs[run], run)  # one that failed says why
        for node in self._away:
            self._offsets[node] = measure_clock_offset(partial(self._wall_clock_s, self._nodes.index(node)))
        start_epoch_s = time.time() + _START_LEAD_S
        self._clock = RunClock.starting_at(start_epoch_s)
        starts = [
            actor.start.remote(start_epoch_s + self._offsets.get(node, _NO_OFFSET).offset_s)
            for actor, node in zip(self._actors, self._nodes, strict=True)
        ]
        ray.wait(starts, num_returns=len(starts), timeout=_START_LEAD_S)  # what is wrong with one, its run will say
        self._silence = SenderSilence(self._longest_deadline_s)
        return start_epoch_s

    def _answers(self, asked: list[Any]) -> list[Any]:
        """What each actor answers before the start, however long it takes, as long as the actor shows that it lives.

        Raises:
            InputError: what one says is wrong, that it has ended, or that it is silent.
        """
        signs, silence = Counter[int](), Silence(LONGEST_ANSWER_S)
        questions = Questions(lambda index: self._actors[index].wall_clock_s.remote())
        while waiting := set(ray.wait(asked, num_returns=len(asked), timeout=_POLL_INTERVAL_S)[1]):
            numbers = [index for index, each in enumerate(asked) if each in waiting]
            signs.update(questions.answers(numbers, _POLL_INTERVAL_S).keys())
            for index in silence.look({index: signs[index] for index in numbers}):
                raise no_answer(self._nodes[index])
        return [self._answer(index, each) for index, each in enumerate(asked)]

    def senders(self) -> tuple[SendingNode, ...]:
        """Where the actors ran, what is known of the clocks there, and what sending took."""
        return tuple(
            SendingNode(
                node.address,
                node.host_name,
                node.is_driver,
                actors,
                (offset := self._offsets.get(node, _NO_OFFSET)).offset_s,
                offset.uncertainty_s,
                0.0 if node.is_driver else self._drifts_s.get(node),
                tuple(each.cpu_s for each in self._progress_on(node)),
                tuple(each.standstill for each in self._progress_on(node)),
            )
            for node, actors in Counter(self._nodes).items()
        )

    def _progress_on(self, node: Node) -> list[SenderProgress]:
        return [self._progress[index] for index, other in enumerate(self._nodes) if other == node]

    def watch(self, on_progress: Callable[[ReplayProgress], None] | None) -> float | None:
        """Follow the actors to the end; says when the run was interrupted, in its seconds; None = it was not."""
        try:
            while self._runs:
                self._poll(_POLL_INTERVAL_S)
                self._give_up_silent()
                if on_progress is not None:
                    on_progress(summarise_progress(self._progress, self._clock.now_s(), self._planned, self._arrival_s))
            self._compare_clocks()
        except KeyboardInterrupt:
            interrupted_s = max(self._clock.now_s(), 0.0)
            for index in self._runs.values():
                self._actors[index].stop.remote()
            self._poll(_STOP_TIMEOUT_S)
            self.lost += [f"actor {index}: did not end within {_STOP_TIMEOUT_S:g} s" for index in self._runs.values()]
            return interrupted_s
        return None

    def _give_up_silent(self) -> None:
        """Take those as lost that nothing more is to be expected of, and end their processes."""
        silent = self._silence.look({index: self._progress[index] for index in self._runs.values()})
        for run, index in list(self._runs.items()):
            if index in silent:
                self.lost.append(
                    f"actor {index} on {self._nodes[index].address}: {silent[index]}, so that its process was ended"
                )
                del self._runs[run]
                ray.kill(self._actors[index])

    def _compare_clocks(self) -> None:
        """See how far the machines' clocks have come apart over the run."""
        for node in self._away:
            with suppress(RayError):
                ask = partial(self._run_clock_s, self._nodes.index(node))
                self._drifts_s[node] = measure_clock_offset(ask, self._clock.now_s).offset_s

    def _wall_clock_s(self, index: int) -> float:
        return float(self._answer(index, self._actors[index].wall_clock_s.remote()))

    def _run_clock_s(self, index: int) -> float:
        return float(ray.get(self._actors[index].now_s.remote(), timeout=_ASK_TIMEOUT_S))

    def dismiss(self) -> None:
        """End the actors' processes, and fetch what they wrote on other nodes."""
        for actor in self._actors:
            ray.kill(actor)
        if self._runs:  # these may still be writing
            ray.wait(list(self._runs), num_returns=len(self._runs), timeout=_STOP_TIMEOUT_S)
        self._end_those_that_write()
        for node, name in self._away.items():
            try:
                fetch_folder(partial(_do_on, node), name, self._parts[0].parent)
            except (RayError, OSError) as error:
                is_gone = isinstance(error, TaskUnschedulableError)
                self.lost.append(
                    f"node {node.address}: not all that its actors wrote could be fetched "
                    f"({'the cluster has no such node now' if is_gone else _first_line(error)}); if the machine is up, "
                    f"it lies in {name} in the folder for temporary files there"
                )
                self.unread += [index for index, other in enumerate(self._nodes) if other == node]

    def _end_those_that_write(self) -> None:
        """See that none of this machine's actors sends on, whoever of Ray was too frozen to end it.

        Its file is locked for as long as it lives, so that its process id is still its own.
        """
        writing = [
            (part, process)
            for part, process, node in zip(self._parts, self._processes, self._nodes, strict=False)
            if node.is_driver
        ]
        until_s = time.monotonic() + _STOP_TIMEOUT_S
        while writing := [each for each in writing if each[0].exists() and is_locked(each[0])]:
            if time.monotonic() > until_s:
                for _, process in writing:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return
            time.sleep(0.05)

    def _answer(self, index: int, asked: Any) -> Any:
        return answer(self._nodes[index], asked)

    def _poll(self, timeout_s: float) -> None:
        """Take the results of those that have finished within `timeout_s`, and ask the others how far they are."""
        over, _ = ray.wait(list(self._runs), num_returns=len(self._runs), timeout=timeout_s)
        for run in over:
            index = self._runs.pop(run)
            try:
                self._progress[index] = ray.get(run)
            except RayError as error:
                self.lost.append(f"actor {index} on {self._nodes[index].address}: {_first_line(error)}")
        for index, progress in self._questions.answers(self._runs.values(), _POLL_INTERVAL_S).items():
            if index in self._runs.values():
                self._progress[index] = progress


def _do_on(node: Node, work: Callable[..., Any], *arguments: Any) -> Any:
    return ray.get(begin_on(node, work, *arguments), timeout=_FETCH_TIMEOUT_S)


def _first_line(error: Exception) -> str:
    said = error.cause if isinstance(error, RayTaskError) else error  # what the actor raised, not Ray's words for it
    return str(said).strip().split("\n", 1)[0]
