"""What a replay has on disk while it goes on: enough to make its records of, whoever of it was killed."""

import json
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadgen.errors import InputError
from loadgen.file_lock import is_locked
from loadgen.merge_records import merge_records
from loadgen.node_files import away_folder_name
from loadgen.plan import planned_columns
from loadgen.records import ATTEMPT_SCHEMA, read_partial_records
from loadgen.retries import attempts_path, read_attempts
from loadgen.sent_log import SENT_SCHEMA, read_sent_log, sent_log_path
from loadgen.trace import Trace
from loadgen.whole_file import written_whole

REPLAY_FACTS = "replay.json"
_PART_NAMES = "records.part-*.jsonl"


@dataclass(frozen=True, slots=True)
class ReplayFacts:
    """What is known of a replay beside its trace and its records.

    Attributes:
        model: that requests ask for.
        run_tag: the ids of the requests that are sent are '{run_tag}-{number of the record}'.
        is_closed_loop: only what a user came to was offered.
        keeps_attempts: each attempt of a request is recorded.
        actors: that send; each has a file of records from before the start on.
        start_epoch_s: the run's start on the machine's wall clock; None = it has not been fixed.
    """

    model: str
    run_tag: str
    is_closed_loop: bool
    keeps_attempts: bool
    actors: int
    start_epoch_s: float | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came of a replay.

    Attributes:
        table: one record per request of the trace, with `RECORD_SCHEMA`; in a closed loop of those a user came to.
        attempts: with `ATTEMPT_SCHEMA`; None = each request had one.
        files: all that the replay has written; the tables hold all that is in them.
    """

    table: pa.Table
    attempts: pa.Table | None
    files: tuple[Path, ...]


def part_paths(folder: Path, actors: int) -> tuple[Path, ...]:
    """Where each actor appends its records."""
    return tuple(folder / _PART_NAMES.replace("*", f"{index:03d}") for index in range(actors))


def found_parts(folder: Path) -> tuple[Path, ...]:
    """The files of records that are there."""
    return tuple(sorted(folder.glob(_PART_NAMES)))


def write_facts(folder: Path, facts: ReplayFacts) -> None:
    """Put the facts down, never torn."""
    with written_whole(folder / REPLAY_FACTS) as path:
        path.write_text(json.dumps(asdict(facts)) + "\n", encoding="utf-8")


def note_alive(folder: Path) -> None:
    """Note that the replay goes on: what is left of one that is killed tells when that was."""
    now_s = time.time()
    os.utime(folder / REPLAY_FACTS, (now_s, now_s))


def gather(
    folder: Path,
    trace: Trace,
    facts: ReplayFacts,
    ended_s: float,
    *,
    is_cut_short: bool = False,
    unread: Collection[int] = (),
) -> Gathered:
    """Make the records of a replay of `trace` out of its files; what has no record gets one.

    Args:
        ended_s: when the run ended, in seconds from its start.
        is_cut_short: nobody was left to send anything after that.
        unread: rows whose actors' files are not all in the folder.
    """
    parts = found_parts(folder)
    logs = [log for part in parts if (log := sent_log_path(part)).exists()]  # of actors that did not end in order
    told = [path for part in parts if (path := attempts_path(part)).exists()]
    records = [read_partial_records(part) for part in parts]
    sent = pa.concat_tables([SENT_SCHEMA.empty_table(), *map(read_sent_log, logs)])
    planned = planned_columns(trace, facts.model)
    if facts.is_closed_loop:
        known = pa.concat_tables([part.select(["request_id"]) for part in [*records, sent]])["request_id"]
        planned = planned.filter(pc.is_in(planned["request_id"], known))
    table = merge_records(records, planned, ended_s, sent, is_cut_short=is_cut_short, unread=unread)
    attempts = None
    if facts.keeps_attempts:
        attempts = pa.concat_tables([ATTEMPT_SCHEMA.empty_table(), *map(read_attempts, told)])
    return Gathered(table, attempts, (*parts, *logs, *told, folder / REPLAY_FACTS))


def recover(folder: Path, trace: Trace) -> tuple[ReplayFacts, float, Gathered]:
    """Make the records of a replay of `trace` that was killed; gives also its facts, and when it ended.

    Raises:
        InputError: it has left no facts, its actors are still sending, or what they wrote lies on other machines.
    """
    facts = _read_facts(folder)
    parts = found_parts(folder)
    if any(map(is_locked, parts)):
        raise InputError(f"{folder}: its actors are still sending; try again in a few seconds")
    if facts.start_epoch_s is not None and (missing := set(part_paths(folder, facts.actors)).difference(parts)):
        raise InputError(
            f"{folder}: {min(missing).name} is missing, as is all that actors on other machines wrote; copy it from "
            f"{away_folder_name(facts.run_tag, '*')} in the folder for temporary files there, or, where it is lost, "
            "put an empty file of this name here"
        )
    ended_s = _last_sign_s(folder, facts, parts)
    return facts, ended_s, gather(folder, trace, facts, ended_s, is_cut_short=True)


def _read_facts(folder: Path) -> ReplayFacts:
    path = folder / REPLAY_FACTS
    try:
        return ReplayFacts(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: does not tell of a replay ({error}), so that there is nothing to recover") from error


def _last_sign_s(folder: Path, facts: ReplayFacts, parts: Iterable[Path]) -> float:
    """When the replay last gave a sign of life, in seconds from its start: its driver, a record, or a sending."""
    if facts.start_epoch_s is None:
        return 0.0
    signs_s = [0.0, (folder / REPLAY_FACTS).stat().st_mtime - facts.start_epoch_s]
    for part in parts:
        records = read_partial_records(part)  # one that was given up before its instant has its end there: not sent
        signs_s.append(pc.max(records.filter(pc.is_valid(records["sent_s"]))["finished_s"]).as_py() or 0.0)
        if (log := sent_log_path(part)).exists():
            signs_s.append(pc.max(read_sent_log(log)["sent_s"]).as_py() or 0.0)
    return float(np.max(signs_s))
