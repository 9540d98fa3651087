"""Completes the results folder of a live run that was killed: one record per request of its plan, figures, report."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from loadgen.errors import InputError
from loadgen.failure_phase import ServerWord, with_phases
from loadgen.records import read_records, write_records
from loadgen.replay import ReplayOutcome
from loadgen.replay_files import recover
from loadgen.strict_config import parse
from loadgen.trace_file import load_trace
from testbed.collector import SURELY_DRAINING_S
from testbed.conclude import conclude_run
from testbed.replay_records import correct_length, describe_early_end, store_replay
from testbed.replay_settings import ReplaySettings
from testbed.results import CONFIG, PLAN, RECORD_PARTS, RECORDS, Results, read_results, write_environment
from testbed.run_lock import LIVE_KINDS, goes_on, is_running, run_lock
from testbed.summary import service_slos
from testbed.warm_up import find_warm_up_end

# The processes of a run that is killed end within so long of each other.
ENDS_WITHIN_S = 5.0


def recover_run(folder: Path) -> Results:
    """Make the records of a run that was killed out of what it left, then its summary and report.

    Raises:
        InputError: the folder holds no run, a complete or a simulated one, one that goes on, or one that never sent.
    """
    found = read_results(folder)
    _check_recoverable(found)
    with run_lock(folder):
        environment = found.environment
        cut_short, problems = _recover_records(folder, environment, found.config)
        _fill_phases(folder)
        write_environment(folder, environment)
        return conclude_run(folder, cut_short=cut_short, problems=problems)


def _check_recoverable(found: Results) -> None:
    folder, kind = found.path, found.environment.get("kind")
    if is_running(folder):
        raise InputError(goes_on(folder))
    if found.summary is not None:
        raise InputError(f"{folder}: holds a run with its summary, so that there is nothing to recover")
    if kind == "simulated":
        raise InputError(f"{folder}: holds a simulated run; `burstscale simulate {folder / CONFIG}` repeats it")
    if kind not in LIVE_KINDS or "plan" not in found.environment:
        raise InputError(f"{folder}: its run ended before its plan was made, so that nothing was sent; run it again")


def _recover_records(folder: Path, environment: dict[str, Any], config: dict[str, Any]) -> tuple[str, list[str]]:
    """Write records.parquet, where the run had not got to it, and put `environment` right.

    Gives how the run ended, and what is wrong with its measurement.
    """
    parts, settings = folder / RECORD_PARTS, parse(ReplaySettings, config.get("replay") or {}, str(folder / CONFIG))
    cut_short = "it ended after its last request had, and was recovered from what was on the disk"
    problems: list[str] = []
    if not (folder / RECORDS).is_file():
        trace = load_trace(folder / PLAN)
        facts, ended_s, gathered = recover(parts, trace)
        outcome = ReplayOutcome(
            gathered.table,
            facts.start_epoch_s or 0.0,
            interrupted_s=ended_s,
            lost_actors=(),
            parts=gathered.files,
            run_tag=facts.run_tag,
            attempts=gathered.attempts,
        )
        correct_length(environment, trace, outcome, settings)
        problems = [] if settings.sessions else overdue_problems(gathered.table, ended_s)
        recovered = ", and was recovered from what was on the disk"
        cut_short = describe_early_end(environment, outcome, "it ended", recovered) or cut_short
        store_replay(folder, outcome)
    shutil.rmtree(parts, ignore_errors=True)
    if settings.warm_up_kv:
        environment["warm_up_until_s"], said = find_warm_up_end(
            read_results(folder).engine, environment["trace"]["duration_s"]
        )
        problems += [said] if said else []
    return cut_short, problems


def overdue_problems(records: pa.Table, ended_s: float) -> list[str]:
    """Where requests were not sent that had been due long before the run was killed: a sender had ended before it."""
    is_overdue = pc.and_(pc.is_null(records["sent_s"]), pc.less(records["scheduled_s"], ended_s - ENDS_WITHIN_S))
    overdue = pc.sum(is_overdue).as_py()
    if not overdue:
        return []
    return [
        f"{overdue:,} of the requests had not been sent, though due {ENDS_WITHIN_S:g} s or more before the run ended: "
        "a process that was to send them may have ended earlier."
    ]


def _fill_phases(folder: Path) -> None:
    """Say in which phase each failed request was, as far as the client and the fleet's last known states tell."""
    results = read_results(folder)
    deadlines_s = {label: slo.deadline_s for label, slo in service_slos(results.config).items()}
    server = ServerWord(was_draining=was_draining(results.replicas))
    write_records(with_phases(read_records(folder / RECORDS), deadlines_s, server), folder / RECORDS)


def was_draining(replicas: pd.DataFrame) -> Callable[[str, float], bool]:
    """Whether a replica had been told to drain at an instant, and not just found dead (as `ReplicaTimeline` says)."""
    since_s = replicas[replicas["state"] == "draining"].groupby("replica_id")["start_s"].min().to_dict()

    def told(replica_id: str, at_s: float) -> bool:
        return replica_id in since_s and at_s >= since_s[replica_id] + SURELY_DRAINING_S

    return told
