"""Replay: a trace sent to a server by Ray actors, and one record for each of its requests."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.client_config import SEND_ONCE, ClientConfig
from loadgen.crew import Crew, ReplayProgress, SendingNode
from loadgen.errors import InputError
from loadgen.merge_records import merge_records
from loadgen.pacing import BY_ARRIVAL, ByUser, Pacing, shards
from loadgen.plan import Prompts, RequestForm, planned_columns
from loadgen.records import read_partial_records
from loadgen.retries import ATTEMPT_SCHEMA, attempts_path, read_attempts
from loadgen.sent_log import read_sent_log, sent_log_path
from loadgen.target import Target
from loadgen.trace import SERVICE_LABELS, Trace


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """What a replay leaves.

    Attributes:
        table: one record per request of the trace, with `RECORD_SCHEMA`; in a closed loop of those a user came to.
        start_epoch_s: the run's start (instant 0 of the records) on the machine's wall clock.
        is_interrupted: it was ended by KeyboardInterrupt.
        lost_actors: why, for each actor that ended before its work was done.
        parts: the files that the actors wrote; the tables hold all that is in them.
        run_tag: the ids of the requests that were sent are '{run_tag}-{number of the record}'.
        attempts: each sending of each request, with `ATTEMPT_SCHEMA`; None = nothing was to be sent again.
        senders: the machines that requests were sent from.
    """

    table: pa.Table
    start_epoch_s: float
    is_interrupted: bool
    lost_actors: tuple[str, ...]
    parts: tuple[Path, ...]
    run_tag: str
    attempts: pa.Table | None = None
    senders: tuple[SendingNode, ...] = ()


def replay(
    trace: Trace,
    target: Target,
    *,
    deadlines_s: Mapping[str, float],
    actors: int,
    out_dir: Path,
    prompts: Prompts,
    rng: np.random.Generator,
    on_start: Callable[[float], None] | None = None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    keeps_chunk_offsets: bool = True,
    pacing: Pacing = BY_ARRIVAL,
    client: ClientConfig = SEND_ONCE,
    on_planned: Callable[[NDArray[np.int64]], None] | None = None,
    spreads: bool = False,
) -> ReplayOutcome:
    """Send each request of `trace` to `target` when it is due, and give one record for each.

    Needs an initialised Ray; the actors run on this machine, or spread over the cluster's, and reserve no CPU, so that
    they never wait behind replicas. KeyboardInterrupt ends the run early: what has not ended by then is
    CANCELLED, RUN_ENDED. An actor that dies leaves its requests without a record as CANCELLED, CLIENT_LOST.

    Args:
        deadlines_s: by service label; from a request's instant.
        out_dir: each actor appends its records to a file there as they come.
        on_start: called with the wall-clock instant of the run's start, shortly before it.
        on_progress: called about twice a second.
        extra_body: added to the body of every request; None as a value leaves a key out.
        keeps_chunk_offsets: the records hold when each chunk came: 4 bytes a chunk.
        pacing: when a request is due.
        client: when a request is given up, and when it is sent again.
        on_planned: called with the bytes of each request's body (i64[n]) before anything is sent.
        spreads: the actors are spread over the nodes of the cluster; all start at one instant, by clocks that are
            compared before, and what they write is fetched in the end.

    Raises:
        InputError: the trace is empty, a service has no deadline, or `out_dir` holds records already.
    """
    _check(trace, deadlines_s, actors, out_dir)
    # The tag is not drawn from `rng`: two replays with one seed at the same time must not share request ids.
    form = RequestForm(
        target.model,
        dict(deadlines_s),
        int(rng.integers(2**63)),
        secrets.token_hex(4),
        dict(extra_body or {}),
        client.timeout_s,
    )
    rows = shards(pacing, trace, actors)
    parts = _part_paths(out_dir, len(rows))
    crew = Crew(target, parts, form.run_tag, keeps_chunk_offsets=keeps_chunk_offsets, spreads=spreads)
    try:
        body_bytes = crew.prepare(trace, rows, form, prompts, pacing, client)
        if on_planned is not None:
            on_planned(body_bytes)
        start_epoch_s = crew.start()
        if on_start is not None:
            on_start(start_epoch_s)
        is_interrupted = crew.watch(on_progress)
    finally:
        crew.dismiss()
    written = [part for part in parts if part.exists()]
    logs = [log for part in written if (log := sent_log_path(part)).exists()]  # of actors that did not end in order
    records = [read_partial_records(part) for part in written]
    sent_s = {request_id: sent_s for log in logs for request_id, sent_s in read_sent_log(log).items()}
    planned = planned_columns(trace, target.model)
    if isinstance(pacing, ByUser):
        known = [*sent_s, *(request_id for part in records for request_id in part["request_id"].to_pylist())]
        planned = planned.filter(pa.array(np.isin(planned["request_id"].to_numpy(), known)))
    table = merge_records(records, planned, ended_s=time.time() - start_epoch_s, sent_s=sent_s)
    told = [path for part in written if (path := attempts_path(part)).exists()]
    attempts = None
    if client.max_attempts > 1:
        attempts = pa.concat_tables([ATTEMPT_SCHEMA.empty_table(), *map(read_attempts, told)])
    return ReplayOutcome(
        table,
        start_epoch_s,
        is_interrupted,
        tuple(crew.lost),
        (*written, *logs, *told),
        form.run_tag,
        attempts,
        crew.senders(),
    )


def _check(trace: Trace, deadlines_s: Mapping[str, float], actors: int, out_dir: Path) -> None:
    if not len(trace):
        raise InputError(f"trace '{trace.name}': holds no request, so there is nothing to replay; widen its window")
    if actors < 1:
        raise InputError(f"replay: actors is {actors}, want an integer >= 1")
    missing = [label for label in SERVICE_LABELS if label not in deadlines_s]
    if missing:
        raise InputError(f"replay: service {', '.join(missing)} has no deadline; give one for each service")
    if not out_dir.is_dir():
        raise InputError(f"{out_dir}: is not a folder; make it first")
    held = sorted(out_dir.glob("records.part-*.jsonl"))
    if held:
        raise InputError(f"{held[0]}: exists, so the folder holds a run already; choose another folder")


def _part_paths(out_dir: Path, actors: int) -> tuple[Path, ...]:
    return tuple(out_dir / f"records.part-{index:03d}.jsonl" for index in range(actors))
