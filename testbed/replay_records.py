"""The records of a replay in the results folder: parts while it runs, records.parquet after it."""

from pathlib import Path

from loadgen.records import write_records
from loadgen.replay import ReplayOutcome
from testbed.results import RECORD_PARTS, RECORDS


def make_parts_folder(folder: Path) -> Path:
    """Make the subfolder that the replay's actors append their records to."""
    parts = folder / RECORD_PARTS
    parts.mkdir()
    return parts


def store_replay(folder: Path, outcome: ReplayOutcome) -> None:
    """Write records.parquet, then remove the parts: it holds all that is in them."""
    write_records(outcome.table, folder / RECORDS)
    for part in outcome.parts:
        part.unlink(missing_ok=True)
    (folder / RECORD_PARTS).rmdir()
