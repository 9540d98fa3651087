"""One comparison case, run by Dynamo's offline replay and by our fleet simulator from the same file."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dynamo_inputs import EngineSize, StepTimes, engine_arguments, hardware_profile, write_mooncake, write_timing_table
from numpy.typing import NDArray
from token_gaps import TokenTimes, token_times

from autoscaler.interface import Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.policies import make_policy
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.router_state import RouterConfig, Routing
from autoscaler.simulator.run import simulate
from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.trace import Trace

PACKAGE = "ai-dynamo==1.4.2"
NEVER_S = 1e9


@dataclass(frozen=True, slots=True)
class Case:
    """What both simulate.

    Attributes:
        trace: 'azure' or 'mooncake'.
        gap_s: arrivals are set at least so far apart, for both.
    """

    name: str
    trace: str
    workers: int
    times: StepTimes
    size: EngineSize
    prefix_caching: bool
    routing: Routing = Routing.ROUND_ROBIN
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one simulator answered. Rows are in order of (arrival, prompt tokens, output tokens).

    Attributes:
        ttft_s, e2e_s: f64[requests].
        output_tokens: i64[requests].
        token_gap_s: mean, p50, p90, p99 of all gaps between tokens.
        duration_s: from the first arrival to the last token.
        reused_fraction: prompt tokens that the prefix cache had.
        preemptions: None = it does not say.
    """

    ttft_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]
    output_tokens: NDArray[np.int64]
    token_gap_s: dict[str, float]
    duration_s: float
    reused_fraction: float
    preemptions: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What reading the file, simulating and reporting cost.

    Attributes:
        simulating_cpu_s: without reading the file. Dynamo says how much of the wall time that is; its CPU time is
            taken to be divided alike.
    """

    cpu_s: float
    wall_s: float
    simulating_cpu_s: float


def python_with_dynamo(venv: Path) -> Path:
    """The Python of a virtual environment that has Dynamo; makes it where it is not there (600 MB)."""
    python = venv / "bin" / "python"
    found = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True) if python.exists() else None
    if found is None or PACKAGE not in found.stdout.split():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    return python


def prepare(case: Case, trace: Trace, folder: Path) -> tuple[Path, Path]:
    """Write the case's requests and Dynamo's timing table; both simulators read the first."""
    requests, table = folder / f"{case.name}.jsonl", folder / f"{case.name}.npz"
    write_mooncake(requests, trace, case.gap_s)
    write_timing_table(table, case.times)
    return requests, table


def run_dynamo(case: Case, requests: Path, table: Path, python: Path, *, detailed: bool) -> tuple[dict[str, Any], Cost]:
    """Replay the case in a process of its own: Dynamo's report, and what it cost.

    Args:
        detailed: also write one line for each request, beside the requests (see `dynamo_outcome`).

    Raises:
        InputError: it failed; with its last line.
    """
    request = {
        "trace": str(requests),
        "engine": engine_arguments(case.size, table, case.prefix_caching),
        "num_workers": case.workers,
        "router_mode": _DYNAMO_ROUTERS[case.routing],
        "trace_block_size": 512,
        "report_jsonl_path": str(_details(requests)) if detailed else None,
    }
    question, answer = requests.with_suffix(".request.json"), requests.with_suffix(".answer.json")
    question.write_text(json.dumps(request), encoding="utf-8")
    command = [python, Path(__file__).with_name("dynamo_replay.py"), question, answer]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "DYN_LOG": "error"})
    if done.returncode != 0:
        raise InputError(f"{case.name}: Dynamo's replay failed: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(answer.read_text(encoding="utf-8"))
    simulating = found["report"]["wall_time_ms"] / 1000 / found["wall_s"]
    return found["report"], Cost(found["cpu_s"], found["wall_s"], simulating * found["cpu_s"])


def dynamo_outcome(report: dict[str, Any], requests: Path) -> Outcome:
    """Dynamo's report and its lines for each request, read."""
    lines = pd.read_json(_details(requests), lines=True).sort_values(
        ["arrival_time_ms", "input_length", "requested_output_length"], kind="stable"
    )
    if not (lines["terminal_status"] == "completed").all():
        raise InputError(f"{requests.name}: Dynamo did not complete every request; choose limits that fit the trace")
    gaps_s = {name: report[f"{key}_itl_ms"] / 1000 for name, key in _DYNAMO_STATISTICS.items()}
    return Outcome(
        ttft_s=lines["ttft_ms"].to_numpy() / 1000,
        e2e_s=lines["e2e_latency_ms"].to_numpy() / 1000,
        output_tokens=lines["output_length"].to_numpy(),
        token_gap_s=gaps_s,
        duration_s=report["duration_ms"] / 1000,
        reused_fraction=report["prefix_cache_reused_ratio"],
        preemptions=None,
    )


def run_ours(case: Case, requests: Path) -> tuple[pd.DataFrame, Cost]:
    """Simulate the case: the records, and what it cost."""
    start_wall_s, start_s = time.perf_counter(), time.process_time()
    trace = read_trace(requests)
    read_s = time.process_time()
    policy = make_policy("static", replicas=case.workers)
    result = simulate(trace, policy, fleet_config(case), rng=np.random.default_rng(0))
    end_s = time.process_time()
    cost = Cost(end_s - start_s, time.perf_counter() - start_wall_s, end_s - read_s)
    records = result.records.to_pandas()
    assert (records["status"] == "ok").all(), "there is no deadline, and every request fits"
    return records, cost


def our_outcome(case: Case, requests: Path, records: pd.DataFrame) -> Outcome:
    """Our records read, with the gaps between tokens from running each worker's requests step by step.

    Raises:
        AssertionError: step by step a first or last token comes at another time than in the fleet.
    """
    trace, fleet = read_trace(requests), fleet_config(case)
    workers: list[TokenTimes] = []
    for _, mine in records.groupby("replica_id"):
        times = token_times(trace.take(mine.index.to_numpy()), fleet)
        assert np.array_equal(times.first_token_s, mine["first_token_s"]), "the fleet's first tokens"
        assert np.array_equal(times.finished_s, mine["finished_s"]), "the fleet's last tokens"
        workers.append(times)
    gaps_s = np.concatenate([times.gaps_s for times in workers])
    order = records.sort_values(["scheduled_s", "prompt_tokens", "output_tokens"], kind="stable")
    return Outcome(
        ttft_s=(order["first_token_s"] - order["scheduled_s"]).to_numpy(),
        e2e_s=(order["finished_s"] - order["scheduled_s"]).to_numpy(),
        output_tokens=order["output_tokens"].to_numpy(),
        token_gap_s=statistics(gaps_s),
        duration_s=float(records["finished_s"].max()),
        reused_fraction=sum(times.reused_tokens for times in workers) / int(trace.prompt_tokens.sum()),
        preemptions=sum(times.preemptions for times in workers),
    )


def statistics(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean and quantiles."""
    quantiles = np.percentile(values, [50, 90, 99])
    return dict(zip(_DYNAMO_STATISTICS, (float(values.mean()), *quantiles.tolist()), strict=True))


def fleet_config(case: Case) -> FleetConfig:
    """Workers that take every request at once and never change."""
    never = ServiceClass(Priority.INTERACTIVE, Slo(ttft_s=NEVER_S, tpot_s=NEVER_S, deadline_s=NEVER_S))
    return FleetConfig(
        hardware=hardware_profile(case.times, case.size),
        limits=ScalingLimits(case.workers, case.workers),
        initial_replicas=case.workers,
        cold_start_s=0.0,
        max_ongoing_requests=4096,
        router=RouterConfig(routing=case.routing),
        services={"conversation": never},
        period_s=60.0,
        metrics_interval_s=60.0,
        prefix_caching=case.prefix_caching,
    )


_DYNAMO_ROUTERS = {Routing.ROUND_ROBIN: "round_robin", Routing.KV_AWARE: "kv_router"}
_DYNAMO_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}


def _details(requests: Path) -> Path:
    """Where Dynamo writes one line for each request."""
    return requests.with_suffix(".details.jsonl")
