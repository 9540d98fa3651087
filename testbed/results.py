"""The results folder: one per run, never overwritten, readable by a person and by `burstscale report`.

config.yaml       the resolved experiment: `burstscale simulate FOLDER/config.yaml` repeats the run
environment.json  versions, machine, seed, commit, how the run was made
plan.parquet      what a replay was going to send, written before it began: a trace file that any command takes
attempts.parquet  each sending of each request, where clients were to send again what did not end well
records.parquet   one row for every request of the trace (parts of it in records.parts/ while a live run goes on)
decisions.jsonl   one line per policy decision: what it saw in short, what it chose, why
replicas.parquet  one row per replica and state: from when to when
engine.parquet    what each engine had running, waiting and in its KV cache, per interval
summary.json      the figures; written last, so a folder without it holds a run that goes on or was killed (one that was
                  cut short and could still end in order, or was recovered, says so in its key 'cut_short')
report.html       the page for a person
run.lock          while a live run goes on (`testbed.run_lock`); one that is killed leaves it, for `burstscale recover`
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from autoscaler.decision_record import DecisionRecord
from autoscaler.fleet_tables import ENGINE_SCHEMA, REPLICA_SCHEMA
from loadgen.errors import InputError
from loadgen.records import RECORD_SCHEMA
from loadgen.whole_file import written_whole

CONFIG, ENVIRONMENT, RECORDS, DECISIONS = "config.yaml", "environment.json", "records.parquet", "decisions.jsonl"
REPLICAS, ENGINE, SUMMARY, REPORT = "replicas.parquet", "engine.parquet", "summary.json", "report.html"
PLAN, ATTEMPTS, RECORD_PARTS = "plan.parquet", "attempts.parquet", "records.parts"


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """A results folder in memory. `complete` is False for a run that was cut short; `summary` may then be None."""

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    records: pd.DataFrame
    decisions: list[dict[str, Any]]
    replicas: pd.DataFrame
    engine: pd.DataFrame
    summary: dict[str, Any] | None
    complete: bool


def create_results_folder(path: Path) -> Path:
    """Make the folder of a new run.

    Raises:
        InputError: it holds something already; nothing is overwritten.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: already holds a run or other files; give -o a new folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); give -o another folder") from error
    return path


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved experiment."""
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    with written_whole(folder / CONFIG) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write what the run was made with."""
    _write_json(folder / ENVIRONMENT, environment)


def append_decisions(folder: Path, decisions: Iterable[DecisionRecord]) -> None:
    """Add lines to decisions.jsonl; a live run calls this as decisions come in."""
    with (folder / DECISIONS).open("a", encoding="utf-8") as file:
        for decision in decisions:
            file.write(json.dumps(decision.as_json(), allow_nan=False) + "\n")


def write_tables(folder: Path, *, replicas: pa.Table, engine: pa.Table) -> None:
    """Write what the fleet did: replica states and engine samples."""
    write_table(replicas.cast(REPLICA_SCHEMA), folder / REPLICAS)
    write_table(engine.cast(ENGINE_SCHEMA), folder / ENGINE)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, in place of what is there."""
    with written_whole(path) as unfinished:
        pq.write_table(table, unfinished)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the figures. This ends a run: a folder with a summary is complete."""
    _write_json(folder / SUMMARY, summary)


def read_results(path: Path) -> Results:
    """Read a results folder, also one whose run was cut short.

    Raises:
        InputError: the folder holds no run.
    """
    if not (path / CONFIG).is_file():
        raise InputError(
            f"{path}: holds no run ({CONFIG} is missing); give the folder of `burstscale run` or `simulate`"
        )
    summary = _read_json(path / SUMMARY)
    return Results(
        path=path,
        config=yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")) or {},
        environment=_read_json(path / ENVIRONMENT) or {},
        records=_read_records(path).to_pandas(),
        decisions=_read_decisions(path / DECISIONS),
        replicas=_read_table(path / REPLICAS, REPLICA_SCHEMA).to_pandas(),
        engine=_read_table(path / ENGINE, ENGINE_SCHEMA).to_pandas(),
        summary=summary,
        complete=summary is not None and summary.get("cut_short") is None,
    )


def _read_records(folder: Path) -> pa.Table:
    """The records; none where the run did not get to put them together."""
    return pq.read_table(folder / RECORDS) if (folder / RECORDS).is_file() else RECORD_SCHEMA.empty_table()


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    return pq.read_table(path, schema=schema) if path.is_file() else schema.empty_table()


def _read_decisions(path: Path) -> list[dict[str, Any]]:
    """The decisions in order; a last line that was cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
