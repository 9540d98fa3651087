"""The configuration of one served model: the `args` of the application in configs/serve/*.yaml.

The same values describe the fleet to the simulator, so that one file is simulated and deployed. Ray-free.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from autoscaler.interface import Priority, ScalingLimits, ServiceClass, Slo
from autoscaler.simulator.cost_model import read_hardware
from autoscaler.simulator.engine_options import VLLM_DEFAULTS, AdmissionOrder, EngineOptions, Preemption
from loadgen.errors import InputError
from loadgen.strict_config import StrictModel, parse, read_yaml
from loadgen.trace import SERVICE_LABELS
from serve_app.router_settings import RouterSettings
from serve_app.start_settings import StartSettings, WarmPoolSettings, start_of

# Serve asks each replica so often whether it lives; a dead one is replaced when it does not answer.
HEALTH_CHECK_PERIOD_S = 2.0


class EngineScheduling(StrictModel):
    """How an emulated engine orders its requests and what it does when KV blocks run out; see `EngineOptions`.

    Live, the predicted length of an answer is the request's `max_tokens`; `prediction_sigma` is for the simulator.
    """

    order: AdmissionOrder = VLLM_DEFAULTS.order
    prediction_sigma: NonNegativeFloat = VLLM_DEFAULTS.prediction_sigma
    preemption: Preemption = VLLM_DEFAULTS.preemption
    swap_space_gib: NonNegativeFloat = VLLM_DEFAULTS.swap_space_gib
    watermark_fraction: Annotated[float, Field(ge=0, lt=1)] = VLLM_DEFAULTS.watermark_fraction


class EmulatedEngine(StrictModel):
    """The engine kernel paced by the wall clock: a replica without vLLM, weights or GPU.

    Attributes:
        hardware: name of a profile in configs/hardware, or a path to one.
        stream_interval_s: tokens of this much time share one streamed chunk (a machine carries few chunks a second).
        prefix_caching: KV blocks of a prompt's beginning are used again, as vLLM does it.
    """

    kind: Literal["emulated"]
    hardware: str
    stream_interval_s: PositiveFloat = 0.1
    prefix_caching: bool = False
    scheduling: EngineScheduling = EngineScheduling()

    @property
    def options(self) -> EngineOptions:
        """The same as the engine kernel takes it."""
        return EngineOptions(**self.scheduling.model_dump())


class VllmEngine(StrictModel):
    """Real vLLM, hosted through Ray Serve's LLM API.

    Attributes:
        hardware: the profile that stands for this engine when the file is simulated.
        model_source: a local folder with config, tokenizer and weights, or a hub id.
        accelerator: what vLLM runs on.
        accelerator_type: Ray's name of the GPU type ('A100', 'H100'), None = any.
        engine_kwargs: passed to vLLM's engine arguments as they are.
        env_vars: environment of the replica's processes.
    """

    kind: Literal["vllm"]
    hardware: str
    model_source: str
    accelerator: Literal["gpu", "cpu"] = "gpu"
    accelerator_type: str | None = None
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    env_vars: dict[str, str] = Field(default_factory=dict)

    @property
    def prefix_caching(self) -> bool:
        """Whether vLLM has a prefix cache; where nobody says, it has one.

        Source: vllm 0.29.0, engine/arg_utils.py, EngineArgs._set_default_chunked_prefill_and_prefix_caching_args (on
        wherever the model supports it: all that generate from plain attention).
        """
        is_on = self.engine_kwargs.get("enable_prefix_caching")
        return True if is_on is None else bool(is_on)

    @property
    def options(self) -> EngineOptions:
        """The watermark that vLLM is given; no priorities are sent to it, so that its order is that of arrival."""
        return EngineOptions(
            watermark_fraction=float(self.engine_kwargs.get("watermark", VLLM_DEFAULTS.watermark_fraction))
        )


class FleetSettings(StrictModel):
    """How many replicas there may be and what each takes.

    Attributes:
        cold_start_s: from the decision to a ready replica. The emulated engine makes it take at least so long;
            for vLLM it is what the policy plans with.
        cold_start: instead, a preset of `autoscaler.simulator.cold_start` or phases, which vary in a simulated fleet;
            live, their medians together stand for cold_start_s.
        warm_pool: replicas that start sooner; simulated alone.
        replicas_per_node: that a simulated node's death takes with it.
        max_ongoing_requests: requests that the router gives to one replica at a time.
        drain_timeout_s: a replica that is taken away may finish its requests for so long.
        cpus_per_replica, gpus_per_replica: what Ray reserves.
    """

    min_replicas: NonNegativeInt
    max_replicas: PositiveInt
    initial_replicas: NonNegativeInt
    cold_start_s: NonNegativeFloat | None = None
    cold_start: StartSettings | None = None
    warm_pool: WarmPoolSettings | None = None
    replicas_per_node: PositiveInt = 1
    max_ongoing_requests: PositiveInt
    drain_timeout_s: PositiveFloat = 60.0
    cpus_per_replica: NonNegativeFloat = 0.1
    gpus_per_replica: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.min_replicas <= self.initial_replicas <= self.max_replicas:
            raise ValueError(
                f"want min_replicas <= initial_replicas <= max_replicas, "
                f"got {self.min_replicas}, {self.initial_replicas}, {self.max_replicas}"
            )
        return self

    @model_validator(mode="after")
    def _check_cold_start(self) -> Self:
        if (self.cold_start_s is None) == (self.cold_start is None):
            raise ValueError("give either cold_start_s, a number, or cold_start, a preset or phases")
        return self

    @property
    def planned_cold_start_s(self) -> float:
        """What policies plan with: the number, or the medians of the phases together."""
        return self.cold_start_s or (start_of(self.cold_start).median_s if self.cold_start else 0.0)

    @property
    def limits(self) -> ScalingLimits:
        """The range of the number of replicas."""
        return ScalingLimits(self.min_replicas, self.max_replicas)


class ServiceSettings(StrictModel):
    """Class, deadline and promise of one service. The deadline is the paper's: later than 30 s is a failure."""

    priority: Priority
    deadline_s: PositiveFloat = 30.0
    ttft_s: PositiveFloat = 2.0
    tpot_s: PositiveFloat = 0.2

    @property
    def service_class(self) -> ServiceClass:
        """The same as the router and the metrics take it."""
        return ServiceClass(self.priority, Slo(self.ttft_s, self.tpot_s, self.deadline_s))


class ControlSettings(StrictModel):
    """The control loop: how often and how late the policy sees the fleet, live and simulated alike.

    Attributes:
        period_s: the policy is asked once per period.
        metrics_interval_s: replicas report once per interval.
        arrivals_bin_s: arrivals are counted per bin; history_bins complete bins are kept for the policy.
        up_delay_s, down_delay_s: a change is made only after it was asked for so long without a break.
        decision_timeout_s: a policy that thinks longer is not waited for; the replicas stay.
    """

    period_s: PositiveFloat = 1.0
    metrics_interval_s: PositiveFloat = 1.0
    arrivals_bin_s: PositiveFloat = 1.0
    history_bins: PositiveInt = 300
    up_delay_s: NonNegativeFloat = 0.0
    down_delay_s: NonNegativeFloat = 0.0
    decision_timeout_s: PositiveFloat = 2.0


class PolicySettings(StrictModel):
    """A policy of `autoscaler.policies.POLICIES` and its parameters."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class ForecasterSettings(StrictModel):
    """A forecaster of `forecasting.registry.FORECASTERS`; one instance per service.

    Attributes:
        bin_s: length of a bin of the series (a multiple of the control loop's arrivals_bin_s).
        horizon_s: how far ahead it forecasts; at least the cold start plus a control period.
        levels: quantiles, increasing.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    bin_s: PositiveFloat = 5.0
    horizon_s: PositiveFloat = 60.0
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9, 0.95, 0.99)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if not self.levels or any(low >= high for low, high in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError(f"levels must be increasing and not empty, got {list(self.levels)}")
        return self


class AppConfig(StrictModel):
    """One served model with its engine, fleet, router, services, policy and forecaster.

    Attributes:
        model_id: the name that clients ask for.
        api_key_env: environment variable that holds the key which clients must send; None = open.
        services: by label; a request names its service in the header `x-service`, else chat completions count as
            conversation and completions as API.
    """

    model_id: str
    engine: Annotated[EmulatedEngine | VllmEngine, Field(discriminator="kind")]
    fleet: FleetSettings
    router: RouterSettings = RouterSettings()
    services: dict[str, ServiceSettings]
    control: ControlSettings = ControlSettings()
    policy: PolicySettings
    forecaster: ForecasterSettings | None = None
    api_key_env: str | None = None

    @model_validator(mode="after")
    def _check_services(self) -> Self:
        if sorted(self.services) != sorted(SERVICE_LABELS):
            raise ValueError(f"services must be {', '.join(SERVICE_LABELS)}, got {', '.join(self.services) or 'none'}")
        return self

    @model_validator(mode="after")
    def _check_bins(self) -> Self:
        if self.forecaster is not None:
            bins = self.forecaster.bin_s / self.control.arrivals_bin_s
            if abs(bins - round(bins)) > 1e-9 or bins < 1:
                raise ValueError(
                    f"forecaster.bin_s must be a multiple of control.arrivals_bin_s, "
                    f"got {self.forecaster.bin_s} and {self.control.arrivals_bin_s}"
                )
        return self


def gpus_per_replica(app: AppConfig) -> float:
    """The GPUs that one replica holds: what Ray reserves for it, else those of the profile that it stands for."""
    return app.fleet.gpus_per_replica or float(read_hardware(app.engine.hardware).gpus)


class ServeAddress(StrictModel):
    """Where Serve listens."""

    host: str = "127.0.0.1"
    port: PositiveInt = 8000


APP_IMPORT_PATH = "serve_app.app:build_app"


def read_serve_file(path: Path) -> tuple[AppConfig, ServeAddress]:
    """Read a Serve config file (what `serve run` takes) that deploys this application once.

    Raises:
        InputError: the file is unreadable, or its application is not ours, or its args are wrong.
    """
    document = read_yaml(path)
    applications = document.get("applications")
    if not isinstance(applications, list) or len(applications) != 1:
        raise InputError(f"{path}: want exactly one entry under 'applications'")
    application = applications[0]
    if application.get("import_path") != APP_IMPORT_PATH:
        got = application.get("import_path")
        raise InputError(f"{path}: applications.0.import_path is {got!r}, want {APP_IMPORT_PATH!r}")
    address = parse(ServeAddress, document.get("http_options") or {}, f"{path}: http_options")
    return parse(AppConfig, application.get("args") or {}, f"{path}: args"), address
