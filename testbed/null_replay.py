"""A whole replay, Ray actors and all, against the null server: what a user's run is measured by."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from loadgen.null_run import FIRST_NUMBER, NullRun, NullServerProcess
from loadgen.prompts.synthetic import synthetic_prompts
from loadgen.records import Status
from loadgen.replay import replay
from loadgen.target import Target
from loadgen.trace import SERVICE_LABELS, make_trace
from testbed.ray_cluster import ray_cluster

_DEADLINE_S = 30.0


def replay_to_null_server(planned_s: Sequence[float], actors: int) -> NullRun:
    """Replay one request at each instant of `planned_s` (from the start) by so many actors."""
    requests = len(planned_s)
    trace = make_trace(
        "null",
        planned_s,
        np.ones(requests, np.int64),
        FIRST_NUMBER + np.arange(requests),
        duration_s=float(planned_s[-1]) + 1.0,
    )
    with ray_cluster(needed_cpus=1), tempfile.TemporaryDirectory() as folder, NullServerProcess() as server:
        monotonic_less_epoch_s = time.monotonic() - time.time()
        outcome = replay(
            trace,
            Target(server.url, "null"),
            deadlines_s=dict.fromkeys(SERVICE_LABELS, _DEADLINE_S),
            actors=actors,
            out_dir=Path(folder),
            prompts=synthetic_prompts(),
            rng=np.random.default_rng(0),
        )
    ok = pc.sum(pc.equal(outcome.table["status"], Status.OK.value)).as_py()
    cpu_s = sum(sum(node.cpu_s) for node in outcome.senders)
    start_s = outcome.start_epoch_s + monotonic_less_epoch_s
    return NullRun.seen_by(server, planned_s, start_s, ok=ok, client_cpu_s=cpu_s)
