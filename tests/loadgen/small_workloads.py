"""Workload models of which a test states only what it is about, and traces drawn from them."""

from typing import Any

import numpy as np

from loadgen.strict_config import parse
from loadgen.trace import Trace
from loadgen.workload import WorkloadModel, draw_trace

LENGTHS = {"distribution": "constant", "value": 100}


def model(*streams: dict[str, Any], duration_s: float = 1000.0) -> WorkloadModel:
    """A model of these streams, each of API requests of 100 tokens unless it says otherwise."""
    plain = {"service": "api", "model": "llama", "prompt_tokens": LENGTHS, "output_tokens": LENGTHS}
    values = {"name": "test", "duration_s": duration_s, "streams": [{**plain, **stream} for stream in streams]}
    return parse(WorkloadModel, values, "test.yaml")


def gamma(**keys: Any) -> dict[str, Any]:
    """A stream's arrivals."""
    return {"arrivals": {"process": "gamma", **keys}}


def draw(workload: WorkloadModel, seed: int = 0) -> Trace:
    """One trace of the model."""
    return draw_trace(workload, np.random.default_rng(seed))


def rates_per_s(trace: Trace, *edges_s: float) -> list[float]:
    """Mean rates between each two edges."""
    counts, _ = np.histogram(trace.arrival_s, edges_s)
    return (counts / np.diff(edges_s)).tolist()
