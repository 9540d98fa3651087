"""What an engine's order of requests and its way to preempt change for bursty traffic on a tight KV cache."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from autoscaler.interface import HardwareProfile, ScalingLimits
from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.engine_options import AdmissionOrder, EngineOptions, Preemption
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_state import Fate
from loadgen.strict_config import parse
from loadgen.trace import Service, Trace
from loadgen.workload import WorkloadModel, draw_trace
from testbed.bench_simulator import SERVICES

SHORTEST = EngineOptions(order=AdmissionOrder.SHORTEST_PREDICTED)
CASES: Mapping[str, EngineOptions] = {
    "vLLM's defaults": EngineOptions(),
    "watermark 0.05": EngineOptions(watermark_fraction=0.05),
    "swap": EngineOptions(preemption=Preemption.SWAP),
    "priority": EngineOptions(order=AdmissionOrder.PRIORITY),
    "shortest, true lengths": SHORTEST,
    "shortest, sigma 0.5": replace(SHORTEST, prediction_sigma=0.5),
    "shortest, sigma 1": replace(SHORTEST, prediction_sigma=1.0),
    "shortest, true lengths, swap": replace(SHORTEST, preemption=Preemption.SWAP),
}
DURATION_S = 3600.0
ENGINE_REQUESTS = 512  # that the router gives to the engine: the order is the engine's to choose


FIGURES = {
    "conversation_ttft_mean_s": "TTFT mean, conversation, s",
    "api_ttft_mean_s": "TTFT mean, API, s",
    "conversation_ttft_p99_s": "TTFT p99, conversation, s",
    "api_ttft_p99_s": "TTFT p99, API, s",
    "conversation_failed_percent": "late, conversation, %",
    "api_failed_percent": "late, API, %",
    "e2e_mean_s": "E2E mean, s",
    "preemptions_percent": "preemptions, % of requests",
}


@dataclass(frozen=True, slots=True)
class SchedulingFigures:
    """One case: `FIGURES` as means over the seeds.

    A request that got no token counts with its deadline in TTFT; E2E is of those that ended in time.

    Attributes:
        change: from the first case, on the same traffic.
        change_margin: half the width of the change's 95 % interval over the seeds (Student's t).
    """

    name: str
    mean: Mapping[str, float]
    change: Mapping[str, float]
    change_margin: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def two_services(requests_per_s: float, seed: int) -> Trace:
    """An hour of conversation and API requests, Gamma gaps of CV 2, lengths like the Azure conversation trace's."""

    def stream(service: str, fraction: float) -> dict[str, object]:
        return {
            "service": service,
            "model": "llama",
            "arrivals": {"process": "gamma", "rate_per_s": fraction * requests_per_s, "alpha": 0.25},
            "prompt_tokens": {"distribution": "lognormal", "median": 900, "sigma": 0.7, "max": 3500},
            "output_tokens": {"distribution": "lognormal", "median": 150, "sigma": 0.8, "max": 500},
        }

    streams = [stream("conversation", 0.7), stream("api", 0.3)]
    model = parse(WorkloadModel, {"name": "two services", "duration_s": DURATION_S, "streams": streams}, "model")
    return draw_trace(model, np.random.default_rng(seed))


def bench_scheduling(
    hardware_name: str, requests_per_s: float, seeds: int, on_stage: Callable[[str], None]
) -> list[SchedulingFigures]:
    """Serve the same hours with one replica in each case."""
    hardware = load_hardware(hardware_name)
    traces = [two_services(requests_per_s, seed) for seed in range(seeds)]
    figures: list[SchedulingFigures] = []
    first = None
    for name, options in CASES.items():
        on_stage(name)
        runs = np.array([_run(hardware, options, trace, seed) for seed, trace in enumerate(traces)])
        first = runs if first is None else first
        change = runs - first
        margin = stats.t.ppf(0.975, seeds - 1) * change.std(axis=0, ddof=1) / np.sqrt(seeds)
        rows = (runs.mean(axis=0), change.mean(axis=0), margin)
        mean, changed, margins = (dict(zip(FIGURES, row.tolist(), strict=True)) for row in rows)
        figures.append(SchedulingFigures(name, mean, changed, margins))
    return figures


def _run(hardware: HardwareProfile, options: EngineOptions, trace: Trace, seed: int) -> list[float]:
    """`FIGURES`, in their order."""
    config = FleetConfig(
        hardware=hardware,
        limits=ScalingLimits(1, 1),
        initial_replicas=1,
        cold_start_s=0.0,
        max_ongoing_requests=ENGINE_REQUESTS,
        services=SERVICES,
        engine=options,
    )
    fleet = Fleet(trace, config, np.random.default_rng(seed))
    fleet.advance(trace.duration_s + max(service.slo.deadline_s for service in SERVICES.values()))
    assert fleet.all_ended, "every deadline has passed"
    requests = fleet.requests
    is_ok = requests.fate == Fate.OK
    means, tails, failed = [], [], []
    for service, promise in zip((Service.CONVERSATION, Service.API), SERVICES.values(), strict=True):
        mine = trace.service == service
        ttft_s = np.where(np.isnan(requests.first_token_s), np.inf, requests.first_token_s - requests.arrival_s)[mine]
        ttft_s = np.minimum(ttft_s, promise.slo.deadline_s)
        means.append(float(ttft_s.mean()))
        tails.append(float(np.quantile(ttft_s, 0.99)))
        failed.append(100.0 * float(1.0 - is_ok[mine].mean()))
    e2e_s = (requests.finished_s - requests.arrival_s)[is_ok]
    preemptions = int(fleet.compiled[0].states["preemptions"].sum())
    return [*means, *tails, *failed, float(e2e_s.mean()), 100.0 * preemptions / len(trace)]
