"""Hold our fleet simulator against NVIDIA Dynamo's offline replay: equal requests, step times and limits.

Installs ai-dynamo 1.4.2 in a virtual environment of its own, lets both simulate the same files, and prints latencies,
differences and CPU time. What it found is in docs/fidelity.md.
"""

import json
import platform
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from dynamo_inputs import EngineSize, StepTimes
from dynamo_runs import (
    PACKAGE,
    Case,
    Outcome,
    dynamo_outcome,
    our_outcome,
    prepare,
    python_with_dynamo,
    run_dynamo,
    run_ours,
    statistics,
)
from rich.console import Console
from rich.table import Table

from autoscaler.simulator.router_state import Routing
from loadgen.errors import InputError
from loadgen.fetch import data_folder
from loadgen.formats.detect import read_trace
from loadgen.trace import Trace

TARGET_PERCENT = 3.0
TARGETS = {(measure, statistic) for measure in ("TTFT", "ITL") for statistic in ("mean", "p99")}
CLOSE_S = 0.001
# Much like an H100 with Llama-3-8B: 6 ms a step, 22 ms more for 1,000 prefill tokens, 5 ms for 100,000 KV tokens.
TIMES = StepTimes(step_s=0.006, prefill_token_s=22e-6, kv_token_s=50e-9)
SIZE = EngineSize(kv_blocks=27_000, block_tokens=16, max_sequences=256, max_batched_tokens=8192)
AZURE = Case("azure-conv-1-worker", "azure", 1, TIMES, SIZE, prefix_caching=False)
MOONCAKE = Case("mooncake-conversation-4-workers", "mooncake", 4, TIMES, SIZE, prefix_caching=True)
APART = replace(MOONCAKE, name="mooncake-arrivals-1-us-apart", gap_s=1e-6)
CASES = (
    AZURE,
    MOONCAKE,
    APART,
    replace(AZURE, name="azure-no-kv-term", times=replace(TIMES, kv_token_s=0.0)),
    replace(APART, name="mooncake-apart-no-kv-term", times=replace(TIMES, kv_token_s=0.0)),
    replace(APART, name="mooncake-apart-kv-aware", routing=Routing.KV_AWARE),
    replace(AZURE, name="azure-tight-kv", size=replace(SIZE, kv_blocks=1000, max_batched_tokens=2048)),
)
console = Console()


def main(
    azure: Annotated[Path, typer.Option(help="AzureLLMInferenceTrace_conv.csv (`burstscale trace fetch azure2023`).")],
    mooncake: Annotated[Path, typer.Option(help="Mooncake's conversation_trace.jsonl of FAST'25.")],
    venv: Annotated[Path | None, typer.Option(help="Where ai-dynamo is, or is to be; default: the cache.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 5,
    only: Annotated[list[str] | None, typer.Option("--case", help="Run this case alone; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Write all figures as JSON.")] = None,
) -> None:
    """Run every case, print its figures beside each other, and write them down."""
    try:
        python = python_with_dynamo((venv or data_folder() / "ai-dynamo-1.4.2").absolute())
        traces = {"azure": read_trace(azure), "mooncake": read_trace(mooncake)}
        found: dict[str, Any] = {"environment": environment(), "cases": {}}
        with tempfile.TemporaryDirectory() as folder:
            for case in chosen_cases(only):
                figures = compare(case, traces[case.trace], python, repeats, Path(folder))
                found["cases"][case.name] = figures
                show(case, figures)
                if output is not None:
                    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except InputError as error:
        console.print(str(error), soft_wrap=True)
        raise typer.Exit(2) from error


def chosen_cases(names: list[str] | None) -> list[Case]:
    """The cases of these names, None = all.

    Raises:
        InputError: there is no such case; lists those that there are.
    """
    known = {case.name: case for case in CASES}
    for name in names or ():
        if name not in known:
            raise InputError(f"unknown case '{name}'; known: {', '.join(known)}")
    return [known[name] for name in names or known]


def environment() -> dict[str, str]:
    """What it was measured with."""
    packages = {name: version(name) for name in ("burstscale", "numpy", "numba")}
    return {"dynamo": PACKAGE, "python": platform.python_version(), "machine": platform.machine(), **packages}


def compare(case: Case, trace: Trace, python: Path, repeats: int, folder: Path) -> dict[str, Any]:
    """Run the case on both; the figures as they are printed and written."""
    requests, table = prepare(case, trace, folder)
    theirs = dynamo_outcome(run_dynamo(case, requests, table, python, detailed=True)[0], requests)
    ours = our_outcome(case, requests, run_ours(case, requests)[0])
    costs = [
        (run_dynamo(case, requests, table, python, detailed=False)[1], run_ours(case, requests)[1])
        for _ in range(repeats)
    ]
    return {
        "case": asdict(case),
        "requests": len(trace),
        "latency_ms": latencies(theirs, ours),
        "share_of_requests_within_1_ms": {
            "TTFT": float(np.mean(np.abs(theirs.ttft_s - ours.ttft_s) <= CLOSE_S)),
            "E2E": float(np.mean(np.abs(theirs.e2e_s - ours.e2e_s) <= CLOSE_S)),
        },
        "output_tokens_per_s": side_by_side(*(side.output_tokens.sum() / side.duration_s for side in (theirs, ours))),
        "reused_fraction": {"dynamo": theirs.reused_fraction, "ours": ours.reused_fraction},
        "preemptions_ours": ours.preemptions,
        "cpu_s": cost_of([(dynamo.cpu_s, mine.cpu_s) for dynamo, mine in costs]),
        "cpu_s_without_reading": cost_of([(dynamo.simulating_cpu_s, mine.simulating_cpu_s) for dynamo, mine in costs]),
        "wall_s": cost_of([(dynamo.wall_s, mine.wall_s) for dynamo, mine in costs]),
    }


def cost_of(runs: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians of (Dynamo, ours) over the runs, and of how many times as much Dynamo took in each."""
    return {
        "dynamo": median(dynamo for dynamo, _ in runs),
        "ours": median(ours for _, ours in runs),
        "ratio": median(dynamo / ours for dynamo, ours in runs),
        "runs": runs,
    }


def latencies(theirs: Outcome, ours: Outcome) -> dict[str, dict[str, dict[str, float]]]:
    """Of each measure and statistic, in ms: Dynamo's, ours, and by how many percent ours is more."""
    sides = []
    for side in (theirs, ours):
        several = side.output_tokens > 1
        per_token_s = (side.e2e_s - side.ttft_s)[several] / (side.output_tokens[several] - 1)
        sides.append(
            {
                "TTFT": statistics(side.ttft_s),
                "ITL": side.token_gap_s,
                "TPOT": statistics(per_token_s),
                "E2E": statistics(side.e2e_s),
            }
        )
    return {
        measure: {name: side_by_side(1000 * sides[0][measure][name], 1000 * sides[1][measure][name]) for name in values}
        for measure, values in sides[0].items()
    }


def side_by_side(theirs: float, ours: float) -> dict[str, float]:
    """Both values, and by how many percent ours is more."""
    return {"dynamo": float(theirs), "ours": float(ours), "difference_percent": float(100 * (ours / theirs - 1))}


def show(case: Case, figures: dict[str, Any]) -> None:
    """Print a case's figures."""
    table = Table("", "Dynamo", "ours", "difference", f"within {TARGET_PERCENT:g} %", title=case.name)
    for measure, statistic in ((measure, name) for measure, names in figures["latency_ms"].items() for name in names):
        row = figures["latency_ms"][measure][statistic]
        met = "yes" if abs(row["difference_percent"]) <= TARGET_PERCENT else "NO"
        verdict = met if (measure, statistic) in TARGETS else ""
        values = (f"{row['dynamo']:,.2f}", f"{row['ours']:,.2f}", f"{row['difference_percent']:+.2f} %")
        table.add_row(f"{measure} {statistic}, ms", *values, verdict)
    rate = figures["output_tokens_per_s"]
    table.add_row(
        "output tokens/s", f"{rate['dynamo']:,.1f}", f"{rate['ours']:,.1f}", f"{rate['difference_percent']:+.2f} %"
    )
    reused = figures["reused_fraction"]
    table.add_row("prompt tokens reused", *(f"{100 * reused[side]:.4f} %" for side in ("dynamo", "ours")))
    table.add_row("preemptions", "not said", f"{figures['preemptions_ours']:,}")
    for key, what in (("cpu_s", "CPU s, file to records"), ("cpu_s_without_reading", "CPU s, simulation alone")):
        cost = figures[key]
        table.add_row(what, f"{cost['dynamo']:.2f}", f"{cost['ours']:.2f}", f"{cost['ratio']:.1f} times")
    console.print(table)
    close = figures["share_of_requests_within_1_ms"]
    console.print(f"within 1 ms of each other: TTFT of {close['TTFT']:.1%}, E2E of {close['E2E']:.1%} of requests\n")


if __name__ == "__main__":
    typer.run(main)
