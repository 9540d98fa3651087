"""Simulated against emulated: the same trace on one replica, once on a virtual clock and once in real time."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile, Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.policies.static import Static
from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.engine_replay import ReplayTimes
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.run import simulate
from loadgen.formats.detect import read_trace
from loadgen.shipped_workloads import find_workload, is_workload
from loadgen.trace import make_trace
from loadgen.workload import draw_trace, read_workload_model
from serve_app.engines.paced_engine import PacedEngine
from testbed.engine_load import OfferedLoad, send_at_times

HARDWARE = "a100-llama-2-13b"
TRAFFIC = Path("burst_demo")
QUANTILES = (0.1, 0.5, 0.9, 0.99)
TARGET_PERCENT, TARGET_S = 3.0, 0.005


@dataclass(frozen=True, slots=True)
class Quantile:
    """One quantile of a latency, simulated and emulated."""

    simulated_s: float
    emulated_s: float

    @property
    def difference_s(self) -> float:
        """How much longer it is in real time."""
        return self.emulated_s - self.simulated_s

    @property
    def difference_percent(self) -> float:
        """The same, of the simulated one."""
        return 100 * self.difference_s / self.simulated_s

    @property
    def is_within_target(self) -> bool:
        """Within 3 %, or within 5 ms."""
        return abs(self.difference_percent) <= TARGET_PERCENT or abs(self.difference_s) <= TARGET_S


@dataclass(frozen=True, slots=True)
class EmulatedCheck:
    """All quantiles, as {"ttft": {"0.5": …}, "e2e": …}, and what was run."""

    traffic: str
    hardware: str
    requests: int
    duration_s: float
    quantiles: Mapping[str, Mapping[str, Quantile]]

    @property
    def is_within_target(self) -> bool:
        """Every one of them."""
        return all(one.is_within_target for row in self.quantiles.values() for one in row.values())

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        rows = {
            name: {
                level: {
                    "simulated_s": one.simulated_s,
                    "emulated_s": one.emulated_s,
                    "difference_percent": one.difference_percent,
                    "difference_s": one.difference_s,
                }
                for level, one in row.items()
            }
            for name, row in self.quantiles.items()
        }
        return {
            "traffic": self.traffic,
            "hardware": self.hardware,
            "requests": self.requests,
            "duration_s": self.duration_s,
            "quantiles": rows,
            "target_percent": TARGET_PERCENT,
            "target_s": TARGET_S,
            "is_within_target": self.is_within_target,
        }


def check_emulated(minutes: float, traffic: Path = TRAFFIC, hardware: str = HARDWARE, seed: int = 0) -> EmulatedCheck:
    """Play so many minutes of `traffic` on the emulated engine in real time, and simulate the same.

    The emulated engine runs in this process, as it does in a replica, without Serve and HTTP around it; tokens are
    reported one by one. What is simulated is a fleet of one replica whose router holds nothing back, so that nothing
    but the clock differs. A workload model that is shorter is drawn again and again.

    Raises:
        InputError: the traffic or the hardware is wrong.
    """
    profile = load_hardware(hardware)
    name, load = _first_minutes(traffic, minutes, np.random.default_rng(seed))
    simulated = _simulate(profile, load)
    emulated = asyncio.run(_emulate(profile, load))
    return EmulatedCheck(
        traffic=name,
        hardware=profile.name,
        requests=len(load.arrival_s),
        duration_s=60 * minutes,
        quantiles={
            "ttft": _quantiles(simulated.ttft_s, emulated.ttft_s),
            "e2e": _quantiles(simulated.e2e_s, emulated.e2e_s),
        },
    )


def _simulate(profile: HardwareProfile, load: OfferedLoad) -> ReplayTimes:
    """Serve the requests by the fleet simulator, with one replica that takes each as it comes and as long as it may."""
    requests = len(load.arrival_s)
    trace = make_trace(
        "offered", load.arrival_s, load.prompt_tokens, load.output_tokens, duration_s=float(load.arrival_s[-1]) + 1.0
    )
    fleet = FleetConfig(
        hardware=profile,
        limits=ScalingLimits(1, 1),
        initial_replicas=1,
        cold_start_s=0.0,
        max_ongoing_requests=requests,
        services={"conversation": ServiceClass(Priority.INTERACTIVE, Slo(math.inf, math.inf, math.inf))},
    )
    records = simulate(trace, Static(replicas=1), fleet, rng=np.random.default_rng(0)).records
    return ReplayTimes(load.arrival_s, records["first_token_s"].to_numpy(), records["finished_s"].to_numpy())


async def _emulate(profile: HardwareProfile, load: OfferedLoad) -> ReplayTimes:
    """Send the requests at their times to an engine that is paced by the wall clock."""
    engine = PacedEngine(profile, chunk_interval_s=0.0)

    async def generate(prompt_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        async for tokens in engine.progress(engine.add(prompt_tokens, output_tokens)):
            yield tokens

    work = asyncio.create_task(engine.run())
    try:
        return await send_at_times(generate, load)
    finally:
        work.cancel()


def _first_minutes(traffic: Path, minutes: float, rng: np.random.Generator) -> tuple[str, OfferedLoad]:
    """Name and first minutes of a trace, or of as many draws of a workload model as it takes."""
    end_s = 60 * minutes
    if is_workload(traffic):
        model = read_workload_model(find_workload(traffic))
        draws = [draw_trace(model, rng) for _ in range(int(np.ceil(end_s / model.duration_s)))]
    else:
        draws = [read_trace(traffic).window(0.0, end_s)]
    starts_s = np.cumsum([0.0, *(draw.duration_s for draw in draws)])
    arrival_s = np.concatenate([start_s + draw.arrival_s for start_s, draw in zip(starts_s, draws, strict=False)])
    prompts = np.concatenate([draw.prompt_tokens for draw in draws]).astype(np.int64)
    outputs = np.concatenate([draw.output_tokens for draw in draws]).astype(np.int64)
    kept = arrival_s < end_s
    return draws[0].name, OfferedLoad(arrival_s[kept], np.maximum(prompts[kept], 1), np.maximum(outputs[kept], 1))


def _quantiles(simulated_s: NDArray[np.float64], emulated_s: NDArray[np.float64]) -> dict[str, Quantile]:
    return {
        f"{level:g}": Quantile(float(np.quantile(simulated_s, level)), float(np.quantile(emulated_s, level)))
        for level in QUANTILES
    }
