"""What a replay leaves in the results folder: its plan before it, parts while it runs, records.parquet after it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from loadgen.crew import SendingNode
from loadgen.failure_phase import ServerWord, with_phases
from loadgen.records import Cause, write_attempts, write_records
from loadgen.replay import ReplayOutcome
from loadgen.trace import Trace
from loadgen.trace_file import save_trace
from testbed.environment import describe_trace
from testbed.replay_settings import ReplaySettings
from testbed.results import ATTEMPTS, PLAN, RECORD_PARTS, RECORDS

# As late as a client may be that its self-test calls in time.
LIMIT_CLOCK_ERROR_S = 0.010


def store_plan(folder: Path, trace: Trace, body_bytes: NDArray[np.int64]) -> dict[str, object]:
    """Write plan.parquet, a trace file that any command takes; gives what environment.json says of it."""
    save_trace(trace, folder / PLAN, body_bytes)
    digest = hashlib.sha256((folder / PLAN).read_bytes()).hexdigest()
    return {"file": PLAN, "sha256": digest, "body_bytes": int(body_bytes.sum())}


def make_parts_folder(folder: Path) -> Path:
    """Make the subfolder that the replay's actors append their records to."""
    parts = folder / RECORD_PARTS
    parts.mkdir()
    return parts


def store_replay(folder: Path, outcome: ReplayOutcome) -> None:
    """Write records.parquet (after attempts.parquet), then remove the parts: these hold all that is in them."""
    if outcome.attempts is not None:
        order = [("request_id", "ascending"), ("attempt", "ascending")]
        write_attempts(outcome.attempts.sort_by(order), folder / ATTEMPTS)
    write_records(outcome.table, folder / RECORDS)
    for part in outcome.parts:
        part.unlink(missing_ok=True)
    (folder / RECORD_PARTS).rmdir()


def store_phases(
    folder: Path, outcome: ReplayOutcome, deadlines_s: Mapping[str, float], server: ServerWord | None = None
) -> None:
    """Write records.parquet anew, with the phase of each request that failed; what is known of it comes last."""
    write_records(with_phases(outcome.table, deadlines_s, server), folder / RECORDS)


def correct_length(
    environment: dict[str, Any], trace: Trace, outcome: ReplayOutcome, settings: ReplaySettings
) -> list[str]:
    """Put down what was offered of `trace`, and how long, where that came of the answers; gives what is wrong."""
    about, table = environment["trace"], outcome.table
    if settings.sessions and len(table):
        about["duration_s"] = max(about["duration_s"], pc.max(table["scheduled_s"]).as_py())
    if settings.users is None:
        return []
    offered = describe_trace(trace.take(table["request_id"].to_numpy()))
    about |= {name: offered[name] for name in ("requests", "prompt_tokens", "output_tokens")}
    if len(table) < len(trace) or outcome.is_interrupted:
        return []
    return [
        f"The plan's {len(trace):,} requests were over before the closed loop's time was: the load fell at its end. "
        "Take more of the trace, or a shorter duration_s."
    ]


def senders_sentence(senders: Sequence[SendingNode]) -> str:
    """From where requests were sent, for a person."""
    return "sent from " + ", ".join(map(_sender_in_words, senders))


def _sender_in_words(node: SendingNode) -> str:
    actors = "1 actor" if node.actors == 1 else f"{node.actors} actors"
    offset_ms, known_ms = 1000 * node.clock_offset_s, 1000 * node.clock_uncertainty_s
    clock = "" if node.is_driver else f", its clock {offset_ms:+.2f} ms from this one, known to {known_ms:.2f} ms"
    return f"{node.address} ({actors}{clock})"


def describe_early_end(
    environment: dict[str, Any], outcome: ReplayOutcome, how: str = "it was interrupted", since: str = ""
) -> str | None:
    """Put down where a run was cut short; gives the sentence of it, and of what counts for no figure. None = it ran."""
    if outcome.interrupted_s is None:
        return None
    environment["cut_short_s"] = outcome.interrupted_s
    without_end = outcome.table.filter(pc.equal(outcome.table["cause"], Cause.RUN_ENDED.value))
    not_sent = without_end["sent_s"].null_count
    return (
        f"{how} at {outcome.interrupted_s:.1f} s of {environment['trace']['duration_s']:,.1f} s{since}; in no figure: "
        f"what was on its way ({len(without_end) - not_sent:,}) and what was not sent ({not_sent:,})"
    )


def describe_senders(environment: dict[str, Any], outcome: ReplayOutcome) -> list[str]:
    """Put down from which machines the requests were sent, and how well their clocks are known; gives what is wrong."""
    environment["senders"] = [asdict(node) for node in outcome.senders]
    problems = []
    for node in outcome.senders:
        error_s = node.clock_uncertainty_s + abs(node.clock_drift_s or 0.0)
        if error_s > LIMIT_CLOCK_ERROR_S:
            problems.append(
                f"The instants of requests that {node.address} sent are known to {1000 * error_s:.0f} ms only: its "
                f"clock is known to {1000 * node.clock_uncertainty_s:.1f} ms, and it was "
                f"{1000 * (node.clock_drift_s or 0.0):+.1f} ms away when the run ended."
            )
    return problems
