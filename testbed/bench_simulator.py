"""How fast the fleet simulator is here, and how its time grows with requests and replicas."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from autoscaler.interface import Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.policies import make_policy
from autoscaler.simulator.cost_model import load_hardware
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.run import simulate
from loadgen.shipped_workloads import find_workload
from loadgen.strict_config import parse
from loadgen.trace import Trace
from loadgen.workload import WorkloadModel, draw_trace, read_workload_model
from testbed.bench_target import Target, verdicts
from testbed.resident_memory import resident_bytes
from testbed.simulate import RECORDED_INSTANTS

HARDWARE = "a100-llama-2-13b"
REQUESTS_PER_S_PER_REPLICA = 2.0  # of these lengths a replica of this hardware carries about 2.4
SERVICES = {
    "conversation": ServiceClass(Priority.INTERACTIVE, Slo(ttft_s=2.0, tpot_s=0.2, deadline_s=30.0)),
    "api": ServiceClass(Priority.BATCH, Slo(ttft_s=60.0, tpot_s=0.5, deadline_s=300.0)),
}
TARGETS: dict[str, Target] = {
    "requests_per_s_16_replicas": Target("a million requests on 16 replicas", 250_000, "requests/s", at_least=True),
    "seconds_61_days": Target("61 days of the model of BurstGPT, ray-default asked each second", 30.0, "s"),
    "bytes_per_request": Target("memory that this takes, by request", 200, "bytes"),
}
_REPEATS = 3
_REQUEST_STEPS = (10_000, 100_000, 1_000_000, 5_000_000)
_REPLICA_STEPS = (1, 4, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class Speed:
    """One run of a fleet whose size stays.

    Attributes:
        seconds: of one core (CPU time), without drawing the trace.
    """

    requests: int
    replicas: int
    seconds: float

    @property
    def requests_per_s(self) -> float:
        """Requests that are simulated in a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class SimulatorBenchmark:
    """What was measured; times are CPU seconds of one thread, with the compiled code loaded.

    Attributes:
        requests_per_s_16_replicas: a million requests on 16 replicas, each given to the one with the fewest; median.
        seconds_61_days: the model of BurstGPT under `ray-default`, asked once a second, tables included.
        requests_61_days: how many those were.
        bytes_per_request: how much that run's memory grew at most, its trace and tables included, by request.
        by_requests, by_replicas: how time grows: with the requests on 16 replicas, with the replicas (a million
            requests, at the same load of each); the least of three.
    """

    requests_per_s_16_replicas: float
    seconds_61_days: float
    requests_61_days: int
    bytes_per_request: float
    by_requests: tuple[Speed, ...]
    by_replicas: tuple[Speed, ...]

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)

    def conclusion(self) -> str:
        """One sentence that says what the figures mean."""
        missed = [verdict.what for verdict in verdicts(TARGETS, self) if not verdict.is_met]
        speed = 61 * 86_400 / self.seconds_61_days
        return f"Two months pass in {self.seconds_61_days:.0f} s, {speed:,.0f} times as fast as live; " + (
            f"missed: {', '.join(missed)}." if missed else "every target is met."
        )


def bench_simulator(on_stage: Callable[[str], None], *, scaling: bool) -> SimulatorBenchmark:
    """Measure; `scaling` = also how time grows (minutes more)."""
    on_stage("loading or compiling the simulator")
    fleet_speed(1000, 2)
    rates = []
    for repeat in range(_REPEATS):
        on_stage(f"a million requests on 16 replicas ({repeat + 1} of {_REPEATS})")
        rates.append(fleet_speed(1_000_000, 16).requests_per_s)
    on_stage("61 days with a policy asked each second")
    months = months_in_own_process(61.0)
    by_requests, by_replicas = [], []
    if scaling:
        for requests in _REQUEST_STEPS:
            on_stage(f"{requests:,} requests on 16 replicas")
            by_requests.append(_least_disturbed(requests, 16))
        for replicas in _REPLICA_STEPS:
            on_stage(f"a million requests on {replicas} replicas")
            by_replicas.append(_least_disturbed(1_000_000, replicas))
    return SimulatorBenchmark(
        requests_per_s_16_replicas=median(rates),
        seconds_61_days=months["seconds"],
        requests_61_days=months["requests"],
        bytes_per_request=months["bytes"] / months["requests"],
        by_requests=tuple(by_requests),
        by_replicas=tuple(by_replicas),
    )


def fleet_speed(requests: int, replicas: int) -> Speed:
    """Time a fleet of `replicas` that serves about so many bursty requests of a conversation's lengths."""
    trace = bursty_trace(requests, replicas * REQUESTS_PER_S_PER_REPLICA)
    fleet = Fleet(trace, _fleet_config(replicas, replicas), np.random.default_rng(0))
    start_s = time.process_time()
    fleet.advance(trace.duration_s + 600.0)
    seconds = time.process_time() - start_s
    assert fleet.all_ended, "every deadline has passed"
    return Speed(len(trace), replicas, seconds)


def _least_disturbed(requests: int, replicas: int) -> Speed:
    """The fastest of several runs: others on the machine, who share its caches, can only make a run slower."""
    return min((fleet_speed(requests, replicas) for _ in range(_REPEATS)), key=lambda speed: speed.seconds)


def bursty_trace(requests: int, rate_per_s: float, seed: int = 0) -> Trace:
    """About so many requests with Gamma gaps of CV 2, of lengths like the Azure conversation trace's."""
    stream = {
        "service": "conversation",
        "model": "llama",
        "arrivals": {"process": "gamma", "rate_per_s": rate_per_s, "alpha": 0.25},
        "prompt_tokens": {"distribution": "lognormal", "median": 900, "sigma": 0.7, "max": 3500},
        "output_tokens": {"distribution": "lognormal", "median": 150, "sigma": 0.8, "max": 500},
    }
    values = {"name": "bursty", "duration_s": requests / rate_per_s, "streams": [stream]}
    return draw_trace(parse(WorkloadModel, values, "bursty"), np.random.default_rng(seed))


def print_months(days: float) -> None:
    """In a process of its own: print the time and the memory of simulating so many days of the model of BurstGPT."""
    simulate(bursty_trace(200, 1.0), make_policy("ray-default"), _fleet_config(1, 4), rng=np.random.default_rng(0))
    before_bytes = resident_bytes("VmRSS")
    model = read_workload_model(find_workload("model_of_burstgpt"))
    trace = draw_trace(model, np.random.default_rng(0)).window(0.0, days * 86_400.0)
    start_s = time.process_time()
    result = simulate(
        trace,
        make_policy("ray-default"),
        _fleet_config(1, 16),
        rng=np.random.default_rng(0),
        record_interval_s=trace.duration_s / RECORDED_INSTANTS,
    )
    seconds = time.process_time() - start_s
    assert result.records.num_rows == len(trace)
    peak_bytes = resident_bytes("VmHWM") - before_bytes
    print(json.dumps({"seconds": seconds, "requests": len(trace), "bytes": peak_bytes}))


def months_in_own_process(days: float) -> dict[str, Any]:
    """The same, seen from here: what this process holds already must not count."""
    code = "import sys; from testbed.bench_simulator import print_months; print_months(float(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(days)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _fleet_config(initial_replicas: int, max_replicas: int) -> FleetConfig:
    return FleetConfig(
        hardware=load_hardware(HARDWARE),
        limits=ScalingLimits(1, max_replicas),
        initial_replicas=initial_replicas,
        cold_start_s=70.0,
        max_ongoing_requests=64,
        services=SERVICES,
    )
