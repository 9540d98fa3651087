"""The experiment file of several models: each has traffic and a fleet of its own, all share one budget of GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from loadgen.errors import InputError
from loadgen.strict_config import StrictModel, parse, read_yaml
from loadgen.trace import Trace
from serve_app.config import AppConfig, ForecasterSettings, PolicySettings, gpus_per_replica
from testbed.client_settings import ClientSettings
from testbed.config import (
    Experiment,
    ExperimentConfig,
    Overrides,
    WindowSeconds,
    WorkloadSettings,
    read_source,
    resolve_experiment,
    resolve_workload,
    select_traffic,
    with_traffic,
)
from testbed.fault_settings import FaultSettings

ModelLabel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class ModelSettings(StrictModel):
    """One model. Paths are relative to the experiment file.

    Attributes:
        name: in the results; replicas' names begin with it.
        trace_model: its requests are those for this model of the experiment's traffic.
        workload: traffic of its own instead.
        serve, policy, forecaster, client, faults: as in an experiment of one model.
    """

    name: ModelLabel
    trace_model: str | None = None
    workload: WorkloadSettings | None = None
    serve: Path | AppConfig
    policy: PolicySettings | None = None
    forecaster: ForecasterSettings | None = None
    client: ClientSettings | None = None
    faults: tuple[FaultSettings, ...] = ()

    @model_validator(mode="after")
    def _check_traffic(self) -> Self:
        if (self.trace_model is None) == (self.workload is None):
            raise ValueError("give either trace_model, a model of the experiment's workload, or a workload of its own")
        return self


class ModelsConfig(StrictModel):
    """An experiment of several models in one cluster.

    Attributes:
        workload: the traffic from which models with a `trace_model` take theirs.
        gpu_budget: GPUs of the cluster (`autoscaler.simulator.shared_budget` says who gets them).
        settle_s: the fleets are watched for so long after the last request.
        window_s: as in an experiment of one model.
    """

    name: str
    seed: NonNegativeInt
    workload: WorkloadSettings | None = None
    gpu_budget: PositiveFloat
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]
    settle_s: NonNegativeFloat = 30.0
    window_s: WindowSeconds | None = None

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"models must have different names, got {', '.join(names)}")
        if self.workload is None and (parts := [model.name for model in self.models if model.trace_model]):
            raise ValueError(f"model '{parts[0]}' names a trace_model; add the workload that it is a part of")
        return self


@dataclass(frozen=True, slots=True)
class ModelsExperiment:
    """A resolved experiment of several models; `parts` are the models' own experiments, by name and in order."""

    config: ModelsConfig
    parts: Mapping[str, Experiment]

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of all models."""
        return tuple(f"{name}: {note}" for name, part in self.parts.items() for note in part.notes)


def load_models_experiment(path: Path, overrides: Overrides) -> ModelsExperiment:
    """Read an experiment file of several models, apply the overrides, and read the files that it names.

    A model with traffic of its own draws it with the experiment's seed plus its place in the list.

    Raises:
        InputError: as `load_experiment`; or an override says nothing to several models; or the budget is too small.
    """
    config = parse(ModelsConfig, read_yaml(path), str(path), path.parent)
    _check_overrides(path, config, overrides)
    seed = config.seed if overrides.seed is None else overrides.seed
    shared = None if config.workload is None else resolve_workload(config.workload, path.parent, overrides)
    parts = {}
    for place, model in enumerate(config.models):
        is_own = model.workload is not None
        part = ExperimentConfig(
            name=model.name,
            seed=seed + place if is_own else seed,
            workload=_own_or_part(model, shared),
            serve=model.serve,
            policy=model.policy,
            forecaster=model.forecaster,
            client=model.client,
            faults=model.faults,
            settle_s=config.settle_s,
        )
        own = replace(overrides, seed=None, traffic=None, selection=overrides.selection if is_own else {})
        parts[model.name] = resolve_experiment(part, path.parent, own, f"{path}: model '{model.name}'")
    resolved = config.model_copy(update={"workload": shared, "seed": seed, "models": _resolved(config, parts)})
    experiment = ModelsExperiment(resolved, parts)
    _check_budget(path, experiment)
    return experiment


def load_models_traffic(experiment: ModelsExperiment) -> tuple[ModelsExperiment, dict[str, Trace]]:
    """Read or draw each model's traffic, and fill in what only that tells.

    Raises:
        InputError: a trace is malformed, or a model has no request.
    """
    config = experiment.config
    shared = None if config.workload is None else read_source(config.workload, config.seed)
    traces, parts = {}, {}
    for model in config.models:
        part = experiment.parts[model.name]
        workload, seed = part.config.workload, part.config.seed
        source = shared if shared is not None and model.workload is None else read_source(workload, seed)
        traces[model.name] = select_traffic(source, workload, seed)
        parts[model.name] = with_traffic(part, traces[model.name])
    resolved = config.model_copy(update={"models": _resolved(config, parts)})
    return ModelsExperiment(resolved, parts), traces


def as_yaml_values(experiment: ModelsExperiment) -> dict[str, Any]:
    """The resolved experiment as plain values, for config.yaml."""
    values: dict[str, Any] = experiment.config.model_dump(mode="json", exclude_none=True)
    return values


def _own_or_part(model: ModelSettings, shared: WorkloadSettings | None) -> WorkloadSettings:
    """The model's own traffic, or its part of what all share."""
    if model.workload is not None:
        return model.workload
    assert shared is not None, "ModelsConfig checks it"
    return shared.model_copy(update={"model_name": model.trace_model})


def _resolved(config: ModelsConfig, parts: Mapping[str, Experiment]) -> tuple[ModelSettings, ...]:
    """The models with what they name read in."""
    return tuple(
        model.model_copy(
            update={
                "serve": parts[model.name].app,
                "workload": None if model.workload is None else parts[model.name].config.workload,
                "policy": None,
                "forecaster": None,
            }
        )
        for model in config.models
    )


def _check_overrides(path: Path, config: ModelsConfig, overrides: Overrides) -> None:
    given = {"--serve": overrides.serve, "--hardware": overrides.hardware, "--replicas": overrides.replicas}
    if said := [option for option, value in given.items() if value is not None]:
        raise InputError(f"{path}: has several models, and {said[0]} does not say which; set it in the file")
    if overrides.traffic is not None and any(model.workload is not None for model in config.models):
        raise InputError(f"{path}: --trace replaces traffic that all models share; here a model has its own")


def _check_budget(path: Path, experiment: ModelsExperiment) -> None:
    """The GPUs that are held from the start must be there; a minimum is never above what the fleet starts with."""
    budget = experiment.config.gpu_budget
    held = {
        name: part.app.fleet.initial_replicas * gpus_per_replica(part.app) for name, part in experiment.parts.items()
    }
    if sum(held.values()) > budget:
        each = ", ".join(f"{name} {gpus:g}" for name, gpus in held.items())
        raise InputError(
            f"{path}: gpu_budget is {budget:g}, and the initial replicas hold {sum(held.values()):g} ({each})"
        )
