"""What the fleet did during a live run, collected while it goes on: decisions, engine samples, replica states."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from autoscaler.decision_record import DecisionRecord
from autoscaler.fleet_tables import ENGINE_SCHEMA, REPLICA_SCHEMA
from autoscaler.interface import ReplicaState
from loadgen.failure_phase import ServerWord
from loadgen.records import Phase
from loadgen.retries import attempt_of
from serve_app.traffic import Collected, EngineSample
from testbed.results import append_decisions, write_tables

SURELY_DRAINING_S = 1.0


@dataclass(slots=True)
class _Interval:
    replica_id: str
    state: ReplicaState
    start_s: float
    end_s: float


class ReplicaTimeline:
    """Turns what was seen at instants into intervals: replica, state, from, to."""

    def __init__(self) -> None:
        self._closed: list[_Interval] = []
        self._open: dict[str, _Interval] = {}

    def observe(self, now_s: float, states: Iterable[tuple[str, ReplicaState]]) -> None:
        """Take in the states of all replicas that exist now; one that is missing has ended."""
        seen = dict(states)
        for replica_id, interval in list(self._open.items()):
            interval.end_s = now_s
            if seen.get(replica_id) is not interval.state:
                self._closed.append(self._open.pop(replica_id))
        for replica_id, state in seen.items():
            if replica_id not in self._open:
                self._open[replica_id] = _Interval(replica_id, state, now_s, now_s)

    def was_draining(self, replica_id: str, at_s: float) -> bool:
        """Whether a replica had been told to drain at an instant, and not just found dead.

        Serve calls both the same. A dead one is found after its requests have failed; who drains is left time.
        """
        drains_s = [
            each.start_s
            for each in (*self._closed, *self._open.values())
            if each.replica_id == replica_id and each.state is ReplicaState.DRAINING
        ]
        return bool(drains_s) and at_s >= min(drains_s) + SURELY_DRAINING_S

    def table(self) -> pa.Table:
        """The intervals so far with `REPLICA_SCHEMA`, in order of their start."""
        intervals = sorted([*self._closed, *self._open.values()], key=lambda each: (each.start_s, each.replica_id))
        rows = [
            {"replica_id": each.replica_id, "state": each.state.value, "start_s": each.start_s, "end_s": each.end_s}
            for each in intervals
        ]
        return pa.Table.from_pylist(rows, schema=REPLICA_SCHEMA)


class Collector:
    """A thread that asks the fleet every `interval_s` and writes into the results folder; a context manager.

    Decisions are appended as they come. The tables are rewritten now and then, so that a run that dies leaves them.
    Instants of the fleet are epoch seconds; those in the folder count from `start`.

    Args:
        collect: decisions and samples since a cursor.
        states: the replicas that exist now, with their states.
        clock: epoch seconds.
    """

    def __init__(
        self,
        folder: Path,
        collect: Callable[[tuple[int, int]], Collected],
        states: Callable[[], Iterable[tuple[str, ReplicaState]]],
        clock: Callable[[], float],
        interval_s: float = 0.5,
        flush_every: int = 20,
    ) -> None:
        self._folder, self._collect, self._states, self._clock = folder, collect, states, clock
        self._interval_s, self._flush_every = interval_s, flush_every
        self._timeline = ReplicaTimeline()
        self._samples: list[EngineSample] = []
        self._cut_off: dict[str, Phase] = {}
        self._cursor = (0, 0)
        self._start_epoch_s: float | None = None
        self._lost_lines = 0
        self._problem: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self.latest: DecisionRecord | None = None

    def start(self, start_epoch_s: float) -> None:
        """The run's instant 0 is fixed: what happens from a moment before it on is collected."""
        self._start_epoch_s = start_epoch_s

    @property
    def problem(self) -> str | None:
        """What could not be collected, for the summary; None = all was."""
        return self._problem or (f"{self._lost_lines} lines were lost" if self._lost_lines else None)

    def server_word(self, run_tag: str) -> ServerWord:
        """What the fleet told of the requests of a run whose ids begin with '{run_tag}-'."""
        cut_off = {
            attempt: phase
            for request_id, phase in self._cut_off.items()
            if (attempt := attempt_of(run_tag, request_id)) is not None
        }
        return ServerWord(cut_off, self._timeline.was_draining)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        if self._start_epoch_s is not None:
            self._tick()
            self._flush()

    def _run(self) -> None:
        ticks = 0
        while not self._stop.wait(self._interval_s):
            if self._start_epoch_s is None:
                continue
            self._tick()
            ticks += 1
            if ticks % self._flush_every == 0:
                self._flush()

    def _tick(self) -> None:
        """Ask once. A failed question is noted and asked again: a controller that restarts must not end a run."""
        try:
            self._timeline.observe(self._now_s(), self._states())
            collected = self._collect(self._cursor)
        except Exception as error:
            self._problem = f"the fleet did not answer at {self._now_s():.1f} s: {error}".splitlines()[0]
            return
        self._cursor = collected.cursor
        self._lost_lines += collected.lost_lines
        decisions = [self._rebased(decision) for decision in collected.decisions]
        # What an earlier run of the same application left is before the start and not ours.
        decisions = [decision for decision in decisions if decision.time_s >= 0]
        if decisions:
            self.latest = decisions[-1]
            append_decisions(self._folder, decisions)
        self._cut_off.update({each.request_id: each.phase for sample in collected.samples for each in sample.cut_off})
        self._samples.extend(sample for sample in collected.samples if sample.time_s >= (self._start_epoch_s or 0.0))

    def _flush(self) -> None:
        write_tables(self._folder, replicas=self._timeline.table(), engine=self._engine_table())

    def _engine_table(self) -> pa.Table:
        rows = [
            {
                "time_s": sample.time_s - (self._start_epoch_s or 0.0),
                "replica_id": sample.replica_id,
                "running": sample.running,
                "waiting": sample.waiting,
                "kv_cache_fraction": sample.kv_cache_fraction,
                "output_tokens": sample.output_tokens,
                "interval_s": sample.interval_s,
                "looked_up_tokens": sample.looked_up_tokens,
                "found_tokens": sample.found_tokens,
            }
            for sample in self._samples
        ]
        return pa.Table.from_pylist(rows, schema=ENGINE_SCHEMA)

    def _now_s(self) -> float:
        return self._clock() - (self._start_epoch_s or 0.0)

    def _rebased(self, decision: DecisionRecord) -> DecisionRecord:
        """The same decision with instants that count from the run's start."""
        start = self._start_epoch_s or 0.0
        forecast = decision.forecast
        if forecast is not None:
            forecast = replace(forecast, issued_at_s=forecast.issued_at_s - start, at_s=forecast.at_s - start)
        return replace(decision, time_s=decision.time_s - start, forecast=forecast)
