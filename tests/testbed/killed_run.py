"""Results folders as runs leave them that were killed, made without a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.records import RecordWriter, RequestRecord, Status
from loadgen.replay_files import ReplayFacts, part_paths, write_facts
from loadgen.sent_log import SentLog, sent_log_path
from loadgen.trace import Trace, make_trace
from testbed.environment import describe_environment, describe_trace
from testbed.replay_records import make_parts_folder, store_plan
from testbed.results import create_results_folder, write_config, write_environment
from testbed.run_lock import RUN_LOCK

START_EPOCH_S = 1_700_000_000.0
PROMISE = {"deadline_s": 10.0, "ttft_s": 2.0, "tpot_s": 0.2}
FACTS = ReplayFacts("m", "tag", is_closed_loop=False, keeps_attempts=False, actors=2, start_epoch_s=START_EPOCH_S)


@dataclass(frozen=True)
class Done:
    """What two actors, one with the even and one with the odd requests, had done when they were killed.

    Attributes:
        ended: requests that ended ok 0.5 s after they were sent.
        sent: when requests were sent that had not ended, by id.
    """

    ended: frozenset[int] = frozenset()
    sent: dict[int, float] = field(default_factory=dict)


def ten_requests() -> Trace:
    """One a second, two of each session."""
    session = np.repeat(np.arange(5), 2)
    return make_trace("ten", np.arange(10.0), [8] * 10, [2] * 10, duration_s=10.0, session=session)


def leave_run(
    folder: Path, done: Done, *, facts: ReplayFacts = FACTS, replay: dict[str, Any] | None = None, kind: str = "load"
) -> Path:
    """Write all that a run of the ten requests leaves that was killed while it was sending."""
    trace = ten_requests()
    create_results_folder(folder)
    services = dict.fromkeys(("conversation", "api"), PROMISE)
    write_config(folder, {"name": "killed", "seed": 1, "replay": replay or {"actors": 2}, "services": services})
    environment = describe_environment(kind=kind, seed=1, trace=describe_trace(trace))
    write_environment(folder, environment | {"plan": store_plan(folder, trace, np.full(10, 100))})
    parts = make_parts_folder(folder)
    write_facts(parts, facts)
    for shard, path in enumerate(part_paths(parts, 2)):
        log = SentLog(sent_log_path(path))
        with RecordWriter(path) as writer:
            for row in range(shard, 10, 2):
                if row in done.ended:
                    log.note(row, float(row), row + 0.001)
                    writer.append(ended_ok(trace, row))
                elif row in done.sent:
                    log.note(row, done.sent[row] - 0.001, done.sent[row])
        log.close()
    (folder / RUN_LOCK).write_text("1\n")  # of a process that is gone: nobody holds its lock
    return folder


def ended_ok(trace: Trace, row: int) -> RequestRecord:
    """The record of a request that was answered half a second after it was sent."""
    return RequestRecord(
        request_id=row,
        service="conversation",
        model="m",
        prompt_tokens=int(trace.prompt_tokens[row]),
        output_tokens=2,
        scheduled_s=float(row),
        sent_s=row + 0.001,
        first_token_s=row + 0.25,
        finished_s=row + 0.501,
        status=Status.OK,
        replica_id=None,
        cause=None,
        error=None,
        attempts=1,
    )
