"""What the fleet did during a live run, collected while it goes on: decisions, engine samples, replica states."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
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
from serve_app.fleet_api import Cursor, FleetPage
from serve_app.traffic import Collected, EngineSample
from testbed.repeated import Repeated
from testbed.results import append_decisions, write_tables
from testbed.within import within

SURELY_DRAINING_S = 1.0
# Who asks sets shorter limits to each of its steps; this one holds where even those are in somebody else's hands.
_ASK_TIMEOUT_S = 30.0
_COLLECT_TIMEOUT_S = 60.0  # of page after page; the next time goes on from there


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

    def had_ready_replica(self, start_s: float, end_s: float) -> bool:
        """Whether a replica was ready at some time between two instants."""
        return any(
            each.state is ReplicaState.READY and each.start_s <= end_s and each.end_s >= start_s
            for each in (*self._closed, *self._open.values())
        )

    def table(self) -> pa.Table:
        """The intervals so far with `REPLICA_SCHEMA`, in order of their start."""
        intervals = sorted([*self._closed, *self._open.values()], key=lambda each: (each.start_s, each.replica_id))
        rows = [
            {"replica_id": each.replica_id, "state": each.state.value, "start_s": each.start_s, "end_s": each.end_s}
            for each in intervals
        ]
        return pa.Table.from_pylist(rows, schema=REPLICA_SCHEMA)


class Collector:
    """Asks a fleet every `interval_s`, from a thread, and writes into the results folder; a context manager.

    Decisions are appended as they come. The tables are rewritten now and then, so that a run that dies leaves them.
    Instants of the fleet are its own epoch seconds; those in the folder count from `start`.

    Args:
        ask: the replicas that exist now, and decisions and samples since a cursor; None = from the last decision on.
        clock: epoch seconds.
        clock_offset_s: the fleet's clock less ours.
    """

    def __init__(
        self,
        folder: Path,
        ask: Callable[[Cursor | None], FleetPage],
        clock: Callable[[], float] = time.time,
        *,
        clock_offset_s: float = 0.0,
        interval_s: float = 0.5,
        flush_every: int = 20,
    ) -> None:
        self._folder, self._ask = folder, ask
        self._clock, self._clock_offset_s = clock, clock_offset_s
        self._flush_every = flush_every
        self._timeline = ReplicaTimeline()
        self._samples: list[EngineSample] = []
        self._cut_off: dict[str, Phase] = {}
        self._cursor: Cursor | None = None
        self._start_epoch_s: float | None = None
        self._ticks = self._lost_lines = 0
        self._problem: str | None = None
        self._thread = Repeated(self._tick, interval_s, "collector")
        self.latest: DecisionRecord | None = None
        self._target_at_start: int | None = None

    def start(self, start_epoch_s: float) -> None:
        """The run's instant 0 by our clock is fixed: what happens from it on is collected."""
        self._start_epoch_s = start_epoch_s + self._clock_offset_s

    def problems(self) -> list[str]:
        """What could not be collected, for the summary."""
        lost = [f"{self._lost_lines} lines were lost"] if self._lost_lines else []
        return [self._problem] if self._problem else lost

    def replicas_now(self) -> str:
        """How many replicas there are, and how many are wanted."""
        return f"{self.latest.ready} ready, {self.latest.target_replicas} wanted" if self.latest else "fleet unknown"

    def target_at_start(self) -> int | None:
        """How many replicas were wanted when the run began; None = nothing had been decided."""
        return self._target_at_start

    def server_word(self, run_tag: str) -> ServerWord:
        """What the fleet told of the requests of a run whose ids begin with '{run_tag}-'."""
        cut_off = {
            attempt: phase
            for request_id, phase in self._cut_off.items()
            if (attempt := attempt_of(run_tag, request_id)) is not None
        }
        had_ready_replica = None if self.problems() else self._timeline.had_ready_replica
        return ServerWord(cut_off, self._timeline.was_draining, had_ready_replica)

    def __enter__(self) -> Self:
        self._find_cursor()
        self._thread.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.__exit__(kind, error, traceback)
        if self._start_epoch_s is not None:
            if not self._collect():
                self._problem = self._problem or f"not all was told within {_COLLECT_TIMEOUT_S:g} s after the end"
            self._flush()

    def _tick(self) -> None:
        if self._start_epoch_s is None:
            self._find_cursor()
            return
        self._collect()
        self._ticks += 1
        if self._ticks % self._flush_every == 0:
            self._flush()

    def _find_cursor(self) -> None:
        """Fix where to begin before the run does: then nothing of it is missed, and nothing older is read."""
        if self._cursor is None:
            with suppress(Exception):  # it is asked again; if it never answers, the run's own questions tell
                log = within(_ASK_TIMEOUT_S, lambda: self._ask(None)).log
                self._cursor = log.cursor
                self._note_before(log.decisions)

    def _collect(self) -> bool:
        """Ask for all there is; says whether that is all. What failed is noted: a controller may restart in a run."""
        until_s = time.monotonic() + _COLLECT_TIMEOUT_S
        while time.monotonic() < until_s:
            now_s = self._now_s()
            try:
                page = within(_ASK_TIMEOUT_S, lambda: self._ask(self._cursor))
            except Exception as error:
                self._problem = f"the fleet did not answer at {now_s:.1f} s: {error}".splitlines()[0]
                return False
            self._timeline.observe(now_s, page.replicas.items())
            self._take(page.log)
            if not page.log.has_more:
                return True
        return False

    def _take(self, log: Collected) -> None:
        self._cursor = log.cursor
        self._lost_lines += log.lost_lines
        start_epoch_s = self._start_epoch_s or 0.0
        self._note_before([each for each in log.decisions if each.time_s < start_epoch_s])
        decisions = [self._rebased(each) for each in log.decisions if each.time_s >= start_epoch_s]
        if decisions:
            self.latest = decisions[-1]
            append_decisions(self._folder, decisions)
        self._cut_off.update({each.request_id: each.phase for sample in log.samples for each in sample.cut_off})
        self._samples.extend(sample for sample in log.samples if sample.time_s >= start_epoch_s)

    def _note_before(self, decisions: Sequence[DecisionRecord]) -> None:
        """What was decided before the start is not this run's, but holds at its start."""
        if decisions:
            self.latest = decisions[-1]
            self._target_at_start = self.latest.target_replicas

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
        return self._clock() + self._clock_offset_s - (self._start_epoch_s or 0.0)

    def _rebased(self, decision: DecisionRecord) -> DecisionRecord:
        """The same decision with instants that count from the run's start."""
        start = self._start_epoch_s or 0.0
        forecast = decision.forecast
        if forecast is not None:
            forecast = replace(forecast, issued_at_s=forecast.issued_at_s - start, at_s=forecast.at_s - start)
        return replace(decision, time_s=decision.time_s - start, forecast=forecast)
