"""Replay: a trace sent to a server by Ray actors, and one record for each of its requests."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.client_config import SEND_ONCE, ClientConfig
from loadgen.crew import Crew, SendingNode
from loadgen.errors import InputError
from loadgen.pacing import BY_ARRIVAL, ByUser, Pacing, shards
from loadgen.plan import Prompts, RequestForm
from loadgen.replay_files import ReplayFacts, found_parts, gather, note_alive, part_paths, write_facts
from loadgen.replay_progress import ReplayProgress
from loadgen.target import Target
from loadgen.trace import SERVICE_LABELS, Trace


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """What a replay leaves.

    Attributes:
        table: one record per request of the trace, with `RECORD_SCHEMA`; in a closed loop of those a user came to.
        start_epoch_s: the run's start (instant 0 of the records) on the machine's wall clock.
        interrupted_s: when it was ended by KeyboardInterrupt, in seconds from its start; None = it was not.
        lost_actors: why, for each actor that ended before its work was done.
        parts: the files that the actors wrote; the tables hold all that is in them.
        run_tag: requests were sent as '{run_tag}-{number of the record}', from the second attempt on '....{attempt}'.
        attempts: each sending of each request, with `ATTEMPT_SCHEMA`; None = nothing was to be sent again.
        senders: the machines that requests were sent from.
    """

    table: pa.Table
    start_epoch_s: float
    interrupted_s: float | None
    lost_actors: tuple[str, ...]
    parts: tuple[Path, ...]
    run_tag: str
    attempts: pa.Table | None = None
    senders: tuple[SendingNode, ...] = ()

    @property
    def is_interrupted(self) -> bool:
        """It was ended before its time."""
        return self.interrupted_s is not None


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
    asks_chunk_tokens: bool = False,
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
        keeps_chunk_offsets: the records hold when each chunk came (4 bytes a chunk).
        asks_chunk_tokens: and how many tokens each carried where that is not one; the server is asked for it.
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
        running_usage=asks_chunk_tokens and keeps_chunk_offsets,
    )
    rows = shards(pacing, trace, actors)
    parts = part_paths(out_dir, len(rows))
    facts = ReplayFacts(target.model, form.run_tag, isinstance(pacing, ByUser), client.max_attempts > 1, len(rows))
    write_facts(out_dir, facts)

    def follow(progress: ReplayProgress) -> None:
        note_alive(out_dir)
        if on_progress is not None:
            on_progress(progress)

    crew = Crew(target, parts, form.run_tag, keeps_chunk_offsets=keeps_chunk_offsets, spreads=spreads)
    try:
        body_bytes = crew.prepare(trace, rows, form, prompts, pacing, client)
        if on_planned is not None:
            on_planned(body_bytes)
        start_epoch_s = crew.start()
        write_facts(out_dir, replace(facts, start_epoch_s=start_epoch_s))
        if on_start is not None:
            on_start(start_epoch_s)
        interrupted_s = crew.watch(follow)
    finally:
        crew.dismiss()
    unread = {int(row) for index in crew.unread for row in rows[index]}
    gathered = gather(out_dir, trace, facts, ended_s=time.time() - start_epoch_s, unread=unread)
    return ReplayOutcome(
        gathered.table,
        start_epoch_s,
        interrupted_s,
        tuple(crew.lost),
        gathered.files,
        form.run_tag,
        gathered.attempts,
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
    held = found_parts(out_dir)
    if held:
        raise InputError(f"{held[0]}: exists, so the folder holds a run already; choose another folder")
