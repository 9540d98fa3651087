"""The log of an engine's steps: a line of limits, then one line for each step; read, and made a table to fit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from autoscaler.profile_fit.step_table import StepTable, Times
from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError
from loadgen.strict_config import StrictModel, parse

STEP_LOG_VARIABLE = "BURSTSCALE_STEP_LOG"


class StepLogHeader(StrictModel):
    """The first line of a step log: what engine it is, and its limits as it tells them itself."""

    vllm_version: str
    device: str
    model: str
    gpus: PositiveInt
    blocks: PositiveInt
    block_tokens: PositiveInt
    max_sequences: PositiveInt
    max_batched_tokens: PositiveInt
    max_model_tokens: PositiveInt
    has_prefix_cache: bool
    is_asynchronous: bool

    def limits(self) -> EngineLimits:
        """As the engine kernel takes them: one block is vLLM's null block."""
        return EngineLimits(
            self.blocks - 1, self.block_tokens, self.max_sequences, self.max_batched_tokens, self.max_model_tokens
        )


class LoggedStep(NamedTuple):
    """Every further line, as a list: one step. Times are monotonic seconds of the engine's machine.

    Attributes:
        scheduled_s, started_s: when the scheduler was asked for it, and had decided on it.
        finished_s: when its tokens had come back.
        prefill_tokens, prefill_context, decodes, kv_tokens: as in `step_seconds`.
        unfinished_requests: in the engine after it; with none the engine may have been idle until the next one.
    """

    scheduled_s: float
    started_s: float
    finished_s: float
    prefill_tokens: int
    prefill_context: float
    decodes: int
    kv_tokens: int
    unfinished_requests: int


@dataclass(frozen=True, slots=True, eq=False)
class StepLog:
    """The steps of an engine in their order; `steps` f64[steps, fields of LoggedStep]."""

    header: StepLogHeader
    steps: NDArray[np.float64]

    def column(self, name: str) -> Times:
        """One field of all steps."""
        return self.steps[:, LoggedStep._fields.index(name)]

    def after(self, steps: int) -> "StepLog":
        """All but the first so many steps."""
        return StepLog(self.header, self.steps[steps:])

    def between(self, windows: Sequence[tuple[float, float]]) -> "StepLog":
        """The steps that began in one of these spans of monotonic seconds."""
        started_s = self.column("started_s")
        kept = np.any([(start_s <= started_s) & (started_s < end_s) for start_s, end_s in windows], axis=0)
        return StepLog(self.header, self.steps[kept])


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSteps:
    """Steps as they were measured, and the engine's own time between them.

    Attributes:
        table: durations without `host_s`; what the time between steps grows by with the batch is in them.
        host_s, host_s_range: median of the time between steps, and its 10th and 90th percentile.
    """

    table: StepTable
    host_s: float
    host_s_range: tuple[float, float]


def read_step_log(path: Path) -> StepLog:
    """Read a log; a last line that is cut short, as in a log that is still written, is left out.

    Raises:
        InputError: there is no such file, or it is no step log.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); want the file of {STEP_LOG_VARIABLE}") from error
    rows = [row for number, line in enumerate(lines, 1) if (row := _row(path, number, line, len(lines))) is not None]
    if not rows:
        raise InputError(f"{path}: is empty, want a step log; was the engine started with {STEP_LOG_VARIABLE}?")
    header = parse(StepLogHeader, rows[0], f"{path} line 1")
    width = len(LoggedStep._fields)
    for number, row in enumerate(rows[1:], 2):
        if not isinstance(row, list) or len(row) != width:
            raise InputError(f"{path} line {number}: want a list of {width} numbers, got {str(row)[:40]}")
    return StepLog(header, np.array(rows[1:], dtype=np.float64).reshape(-1, width))


def measured_steps(log: StepLog) -> MeasuredSteps:
    """What each step took, as the requests in it felt it.

    A step begins when it has been scheduled, or when the step before is done where that is later (asynchronous
    scheduling). Between the end of a step that leaves work and the beginning of the next lies the engine's own time.
    The median of it is `host_s`; the rest of each gap is counted to the step it precedes, so that the sum stays what
    it was. Before the first step of an idle engine the gap is not known and taken as that median.
    """
    finished_s = log.column("finished_s")
    before_s = np.concatenate([[-np.inf], finished_s[:-1]])
    began_s = np.maximum(log.column("started_s"), before_s)
    follows = np.concatenate([[False], log.column("unfinished_requests")[:-1] > 0])
    if not follows.any():
        raise InputError("step log: no step follows another at once, so the time between steps is not known")
    gap_s = np.where(follows, began_s - np.where(follows, before_s, 0.0), np.nan)
    low_s, host_s, high_s = np.nanquantile(gap_s, (0.1, 0.5, 0.9)).tolist()
    table = StepTable(
        prefill_tokens=log.column("prefill_tokens"),
        prefill_context=log.column("prefill_context"),
        decodes=log.column("decodes"),
        kv_tokens=log.column("kv_tokens"),
        duration_s=finished_s - began_s + np.where(follows, gap_s - host_s, 0.0),
    )
    return MeasuredSteps(table, host_s, (low_s, high_s))


def _row(path: Path, number: int, line: str, lines: int) -> Any:
    """A line's value; None for a last line that is not complete yet."""
    try:
        return json.loads(line)
    except ValueError as error:
        if number == lines:
            return None
        raise InputError(f"{path} line {number}: no JSON ({error}); want a step log") from error
