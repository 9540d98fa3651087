"""What a simulated fleet is made of: its hardware, size, router and control loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.interface import HardwareProfile, ScalingLimits, ServiceClass
from autoscaler.simulator.cold_start import ColdStart, plain_start
from autoscaler.simulator.engine_options import EngineOptions
from autoscaler.simulator.faults import Fault
from autoscaler.simulator.replica_starts import WarmPool
from autoscaler.simulator.router_state import RouterConfig
from loadgen.client_config import ClientConfig


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """The fleet, its router and its control loop, as they are live.

    Attributes:
        hardware: of every replica.
        limits: the range of the number of replicas; every decision is kept within it.
        initial_replicas: ready at the start.
        cold_start_s: from the decision to a ready replica; the median where it varies. Decisions are recorded with
            the forecast for so long ahead.
        cold_start_sigma: standard deviation of its logarithm (lognormal); 0 = always the same.
        cold_start: its phases, where it is told apart into some; their medians add up to `cold_start_s`.
        warm_pool: loaded replicas that start sooner; None = there are none.
        max_ongoing_requests: that the router gives to one replica at a time.
        max_queued_requests: that wait at the router; further ones are refused.
        router: which replica gets a request, and which request goes first.
        retry_after_s: a request that is refused is told to come again after so long.
        client: None = clients send each request once and wait for it up to its deadline.
        services: class, promise and deadline, by label.
        period_s: the policy is asked once per period.
        metrics_interval_s: replicas report once per interval.
        arrivals_bin_s: arrivals are counted per bin; the policy sees the last `history_bins` complete ones.
        drain_timeout_s: a replica that is taken away may finish its requests for so long.
        settle_s: simulated after the last request has ended, so that the fleet is seen to shrink.
        idle_s: how long the fleet has been up when the trace begins; the policy and the forecasters have seen that
            nothing came in that time.
        prefix_caching: as in vLLM; which prompts begin alike says `Trace.prefix`.
        engine: how the engines order their requests and what they do when KV blocks run out.
        faults: what goes wrong, and when.
        failure_notice_s: after a ready replica's death, until the controller knows and starts another in its place;
            the router gives it nothing from its death on.
        replicas_per_node: as many share a node, and its death.
        check_invariants: go step by step and hold requests, tokens and KV blocks against each other after each; slow.
    """

    hardware: HardwareProfile
    limits: ScalingLimits
    initial_replicas: int
    cold_start_s: float
    max_ongoing_requests: int
    services: Mapping[str, ServiceClass]
    cold_start_sigma: float = 0.0
    max_queued_requests: int = 1000
    retry_after_s: float = 5.0
    client: ClientConfig | None = None
    router: RouterConfig = field(default_factory=RouterConfig)
    period_s: float = 1.0
    metrics_interval_s: float = 1.0
    arrivals_bin_s: float = 1.0
    history_bins: int = 300
    drain_timeout_s: float = 60.0
    settle_s: float = 0.0
    idle_s: float = 0.0
    prefix_caching: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)
    cold_start: ColdStart | None = None
    warm_pool: WarmPool | None = None
    faults: tuple[Fault, ...] = ()
    failure_notice_s: float = 0.0
    replicas_per_node: int = 1
    check_invariants: bool = False

    def __post_init__(self) -> None:
        if self.cold_start is not None and abs(self.cold_start.median_s - self.cold_start_s) > 1e-9:
            raise ValueError(f"the phases take {self.cold_start.median_s} s, cold_start_s is {self.cold_start_s}")

    @property
    def start(self) -> ColdStart:
        """The cold start, in one phase where it has no others."""
        return self.cold_start or plain_start(self.cold_start_s, self.cold_start_sigma)
