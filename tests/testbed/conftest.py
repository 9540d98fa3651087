"""A results folder with a story that is known in advance, written through the product's own writers.

Three minutes at 4 requests/s, and at 18 requests/s from 0:50 to 1:30. Two replicas at first, each with eight places.
The policy asks for six at 0:53, they are ready at 1:03, and two are left from 2:20 on. At 1:26 one replica dies with
what it has. Requests go to the first free place in the order of their arrival; what waits 5 s is answered 504.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from autoscaler.decision_record import DecisionRecord, ForecastPoint
from autoscaler.fleet_tables import ENGINE_SCHEMA, REPLICA_SCHEMA
from loadgen.records import RECORD_SCHEMA, Cause, Status
from serve_app.config import read_serve_file
from testbed.environment import describe_environment
from testbed.results import (
    RECORDS,
    append_decisions,
    create_results_folder,
    write_config,
    write_environment,
    write_tables,
)

SERVE_FILE = Path(__file__).parents[2] / "configs/serve/emulated.yaml"
TRACE_S, RUN_S = 180.0, 200.0
BURST_S = (50.0, 90.0)
PLACES, PATIENCE_S, DEATH_S = 8, 5.0, 86.0
LEVELS = (0.1, 0.5, 0.9, 0.95, 0.99)
# replica, asked for at, ready from, ready until, gone at
FLEET = (
    ("replica-1", 0.0, 0.0, 200.0, 200.0),
    ("replica-2", 0.0, 0.0, 200.0, 200.0),
    ("replica-3", 53.0, 63.0, 140.0, 146.0),
    ("replica-4", 53.0, 63.0, DEATH_S, DEATH_S),
    ("replica-5", 53.0, 63.5, 140.0, 149.0),
    ("replica-6", 53.0, 64.0, 140.0, 143.0),
)
Floats = NDArray[np.float64]
WriteRun = Callable[..., Path]


@dataclass(frozen=True)
class Story:
    """What a run is made of; a test changes a part of it."""

    records: list[dict[str, Any]]
    decisions: list[DecisionRecord] = field(default_factory=list)
    replicas: list[dict[str, Any]] = field(default_factory=list)
    engine: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A Ray that the runs of a module use one after the other, as RAY_ADDRESS says: it takes seconds to start."""
    from ray._common.utils import reset_ray_address
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 16, "include_dashboard": False, "object_store_memory": 100 * 2**20},
    )
    reset_ray_address()  # or other programs on this machine would take it for theirs
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="session")
def story() -> Story:
    """The run that the first lines of this file tell."""
    rng = np.random.default_rng(7)
    arrivals_s = draw_arrivals(rng)
    records = serve(arrivals_s, rng)
    return Story(records, decide(arrivals_s, records), replica_rows(), engine_rows(records))


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """Writes a story into a new folder, all but the summary: what a run leaves before it is concluded."""
    return write_story


def write_story(
    folder: Path,
    story: Story,
    *,
    name: str = "burst-story",
    kind: str = "simulated",
    planned: int | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write the files of a run; `config` replaces that of an experiment with the emulated fleet."""
    create_results_folder(folder)
    if config is None:
        config = {"name": name, "seed": 7, "serve": story_application()}
    write_config(folder, config)
    requests = len(story.records) if planned is None else planned
    trace = {"name": "story", "requests": requests, "duration_s": TRACE_S, "prompt_tokens": 0, "output_tokens": 0}
    write_environment(folder, describe_environment(kind=kind, seed=7, trace=trace))
    pq.write_table(pa.Table.from_pylist(story.records, schema=RECORD_SCHEMA), folder / RECORDS)
    append_decisions(folder, story.decisions)
    write_tables(
        folder,
        replicas=pa.Table.from_pylist(story.replicas, schema=REPLICA_SCHEMA),
        engine=pa.Table.from_pylist(story.engine, schema=ENGINE_SCHEMA),
    )
    return folder


def story_application() -> dict[str, Any]:
    """The shipped emulated fleet, with what the story tells of it put in place of its own sizes and promises."""
    application: dict[str, Any] = read_serve_file(SERVE_FILE)[0].model_dump(mode="json", exclude_none=True)
    application["fleet"] |= {"min_replicas": 1, "max_replicas": 12, "initial_replicas": 2, "cold_start_s": 10.0}
    application["services"]["conversation"] |= {"deadline_s": 30.0, "ttft_s": 2.0, "tpot_s": 0.2}
    application["services"]["api"] |= {"deadline_s": 300.0, "ttft_s": 60.0, "tpot_s": 0.5}
    application["forecaster"] = {"name": "last-value", "params": {}, "bin_s": 5.0, "horizon_s": 30.0}
    return application


def rate_at(time_s: float) -> float:
    """Requests per second of the traffic."""
    return 18.0 if BURST_S[0] <= time_s < BURST_S[1] else 4.0


def draw_arrivals(rng: np.random.Generator) -> Floats:
    """Poisson arrivals at that rate."""
    per_second = [rng.uniform(second, second + 1, rng.poisson(rate_at(second))) for second in range(int(TRACE_S))]
    return np.sort(np.concatenate(per_second))


def serve(arrivals_s: Floats, rng: np.random.Generator) -> list[dict[str, Any]]:
    """First come, first served over the places of the replicas that are ready."""
    places = [(ready_s, replica, until_s) for replica, _, ready_s, until_s, _ in FLEET for _ in range(PLACES)]
    heapq.heapify(places)
    return [_serve_one(request, float(arrival_s), places, rng) for request, arrival_s in enumerate(arrivals_s)]


def _serve_one(
    request: int, arrival_s: float, places: list[tuple[float, str, float]], rng: np.random.Generator
) -> dict[str, Any]:
    tokens = int(rng.integers(20, 90))
    record = {
        "request_id": request,
        "service": "conversation" if rng.random() < 0.7 else "api",
        "model": "llama-2-13b",
        "prompt_tokens": int(rng.integers(50, 900)),
        "output_tokens": 0,
        "scheduled_s": arrival_s,
        "sent_s": arrival_s + float(rng.exponential(0.001)),
        "attempts": 1,
    }
    while places and places[0][0] >= places[0][2]:
        heapq.heappop(places)
    free_s, replica, until_s = places[0]
    start_s = max(arrival_s, free_s)
    if start_s > arrival_s + PATIENCE_S:
        error = "504: deadline passed at the router after 5.0 s, <b>0 places</b> free"
        end_s = arrival_s + PATIENCE_S
        return record | {
            "finished_s": end_s,
            "status": Status.TIMED_OUT,
            "cause": Cause.DEADLINE_IN_QUEUE,
            "error": error,
        }
    first_s, end_s = start_s + float(rng.gamma(4, 0.02)), start_s + 0.1 + tokens * 0.035
    heapq.heapreplace(places, (end_s, replica, until_s))
    if replica == "replica-4" and start_s <= DEATH_S < end_s:
        lost = {"status": Status.FAILED, "cause": Cause.REPLICA_LOST, "error": "replica-4 died", "finished_s": DEATH_S}
        return record | lost | {"replica_id": replica, "first_token_s": first_s if first_s < DEATH_S else None}
    done = {"status": Status.OK, "first_token_s": first_s, "finished_s": end_s, "output_tokens": tokens}
    return record | done | {"replica_id": replica}


def replica_rows() -> list[dict[str, Any]]:
    """The fleet as intervals."""
    rows = []
    for replica, asked_s, ready_s, until_s, gone_s in FLEET:
        for state, start_s, end_s in (
            ("starting", asked_s, ready_s),
            ("ready", ready_s, until_s),
            ("draining", until_s, gone_s),
        ):
            if end_s > start_s:
                rows.append({"replica_id": replica, "state": state, "start_s": start_s, "end_s": end_s})
    return rows


def engine_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample a second of each engine that is up."""
    rows = []
    for replica, _, ready_s, _, gone_s in FLEET:
        own = [record for record in records if record.get("replica_id") == replica]
        starts_s = np.array([record["first_token_s"] or record["finished_s"] for record in own])
        ends_s = np.array([record["finished_s"] for record in own])
        for time_s in np.arange(np.ceil(ready_s), gone_s, 1.0):
            running = int(((starts_s <= time_s) & (time_s < ends_s)).sum())
            row = {"time_s": float(time_s), "replica_id": replica, "running": running, "waiting": 0}
            rows.append(row | {"kv_cache_fraction": running / 10, "output_tokens": running * 28, "interval_s": 1.0})
    return rows


def decide(arrivals_s: Floats, records: list[dict[str, Any]]) -> list[DecisionRecord]:
    """One decision a second: six replicas from 0:53 to 2:20, else two; a forecast from 0:05 on."""
    starts_s = np.array([record.get("first_token_s") or record["finished_s"] for record in records])
    ends_s = np.array([record["finished_s"] for record in records])
    decisions = []
    for second in range(1, int(RUN_S)):
        recent = float(((arrivals_s >= second - 5) & (arrivals_s < second)).sum()) / 5
        target = 6 if 53 <= second < 140 else 2
        spread = np.array([-1.3, 0, 1.3, 1.6, 2.3]) * np.sqrt(recent / 5 + 0.05)
        point = ForecastPoint(
            issued_at_s=float(second // 5 * 5),
            at_s=second + 10.0,
            levels=LEVELS,
            requests_per_s=tuple(float(rate) for rate in np.maximum(recent + spread, 0)),
        )
        decisions.append(
            DecisionRecord(
                time_s=float(second),
                target_replicas=target,
                proposed_replicas=target,
                reason=f"q0.9 of {recent:.1f} requests/s in 10 s -> {target} replicas; reactive asks {target}",
                starting=4 if 53 <= second < 63 else 0,
                ready=6 if 63 <= second < 140 else 2,
                draining=0,
                queued=int(((arrivals_s <= second) & (second < starts_s)).sum()),
                running=int(((starts_s <= second) & (second < ends_s)).sum()),
                waiting=0,
                arrivals_per_s=float(((arrivals_s >= second - 1) & (arrivals_s < second)).sum()),
                forecast=point if second >= 5 else None,
            )
        )
    return decisions
