"""Replays on two Ray nodes of this machine, the second with a clock that is ahead; prints what came of them as JSON.

Run as a program, so that Ray's processes end with it: `two_nodes.py FOLDER CLOCK_AHEAD_S`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray._common.utils import reset_ray_address
from ray.cluster_utils import Cluster

from loadgen.null_run import FIRST_NUMBER, NullServerProcess
from loadgen.prompts.synthetic import synthetic_prompts
from loadgen.replay import replay
from loadgen.replay_progress import ReplayProgress
from loadgen.target import Target
from loadgen.trace import Trace, make_trace

# Ray puts the machine's own address in place of 127.0.0.1.
HERE, THERE = "127.0.0.2", "127.0.0.3"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


class PromptsThatTellTheNode:
    """Leave a file for each node with the rows that are made there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:
        path = self._folder / f"{ray.util.get_node_ip_address()}-{os.getpid()}.json"
        path.write_text(json.dumps(list(rows)))
        return synthetic_prompts().texts(trace, rows, seed)


def start_cluster(folder: Path, clock_ahead_s: float) -> tuple[Cluster, Any]:
    """Two nodes; every Python process of the second sees a wall clock that is ahead."""
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(
        f"import time\nread_clock_s = time.time\ntime.time = lambda: read_clock_s() + {clock_ahead_s}\n"
    )
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "node_ip_address": HERE})
    reset_ray_address()  # or other programs on this machine would take it for theirs
    second = cluster.add_node(**NODE, node_ip_address=THERE, env_vars={"PYTHONPATH": path})
    return cluster, second


def play(
    folder: Path, requests: int, gap_s: float, on_progress: Callable[[ReplayProgress], None] | None = None
) -> dict[str, Any]:
    """Replay an even trace against the null server from four actors; what came of it."""
    for name in ("nodes", "parts"):
        (folder / name).mkdir(parents=True)
    instants_s = np.arange(requests) * gap_s
    numbers = FIRST_NUMBER + np.arange(requests)  # by which the server tells the requests apart
    trace = make_trace("even", instants_s, np.full(requests, 4), numbers, duration_s=requests * gap_s)
    with NullServerProcess() as server:
        outcome = replay(
            trace,
            Target(server.url, "null"),
            deadlines_s={"conversation": 10.0, "api": 10.0},
            actors=4,
            out_dir=folder / "parts",
            prompts=PromptsThatTellTheNode(folder / "nodes"),
            rng=np.random.default_rng(0),
            on_progress=on_progress,
            spreads=True,
        )
        start_monotonic_s = outcome.start_epoch_s + time.monotonic() - time.time()
    rows_by_node: dict[str, list[int]] = {}
    for path in (folder / "nodes").iterdir():
        rows_by_node.setdefault(path.name.split("-")[0], []).extend(json.loads(path.read_text()))
    return {
        "rows_by_node": rows_by_node,
        "arrived_s": {number - FIRST_NUMBER: instant - start_monotonic_s for number, instant in server.arrivals},
        "records": outcome.table.drop_columns(["chunk_offsets_s"]).to_pylist(),
        "lost": outcome.lost_actors,
        "senders": [asdict(node) for node in outcome.senders],
        "parts": sorted(path.name for path in outcome.parts),
        "left_there": sorted(path.name for path in Path(os.environ["TMPDIR"]).glob("burstscale-replay-*")),
    }


def main(folder: Path, clock_ahead_s: float) -> None:
    """Replay on both nodes, then replay again and kill the second in the middle."""
    cluster, second = start_cluster(folder, clock_ahead_s)
    killed: list[float] = []

    def kill(progress: ReplayProgress) -> None:
        if progress.ok >= 40 and not killed:
            killed.append(progress.now_s)
            cluster.remove_node(second, allow_graceful=False)

    try:
        ray.init(address=cluster.address, _node_ip_address=HERE, log_to_driver=False)
        found = {"whole": play(folder / "whole", 80, 0.02), "killed": play(folder / "killed", 160, 0.04, kill)}
        print(json.dumps(found))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
