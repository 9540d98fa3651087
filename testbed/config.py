"""The experiment file: which traffic meets which fleet. `simulate` and `run` take the same one.

`load_experiment` resolves it: files it names are read into it, overrides of the command line are applied, so that
the result, written to config.yaml, repeats the run from anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from autoscaler.policies import parameter_names
from autoscaler.simulator.cost_model import load_hardware
from forecasting.registry import make_forecaster
from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.prompts.source import PromptSettings
from loadgen.prompts.tokenizer import WORDS
from loadgen.selection import Selection, select, with_options
from loadgen.shipped_workloads import find_workload, is_workload, shipped_workloads
from loadgen.strict_config import StrictModel, parse, read_yaml
from loadgen.trace import Trace
from loadgen.workload import WorkloadModel, draw_trace, read_workload_model
from serve_app.config import (
    AppConfig,
    ForecasterSettings,
    PolicySettings,
    ServeAddress,
    VllmEngine,
    read_serve_file,
)
from serve_app.guarded_policy import build_policy
from testbed.client_settings import ClientSettings
from testbed.fault_settings import FaultSettings
from testbed.replay_settings import ReplaySettings
from testbed.replica_hardware import Chosen, with_derived_rate, with_hardware, with_rate, with_static_fleet

WindowSeconds = Annotated[float, Field(ge=1)]


class WorkloadSettings(Selection):
    """The traffic: a trace file or a workload model, and the part of it that is used (the keys of `Selection`).

    Attributes:
        trace: a trace in a known format (detected by its header unless `format` names it).
        model: a workload model, its file, or the name of a shipped one; it is drawn with the experiment's seed.
        prompts: the texts that a live run sends; a simulated one needs none.
    """

    trace: Path | None = None
    model: Path | WorkloadModel | None = None
    format: str = "auto"
    prompts: PromptSettings = PromptSettings()

    @model_validator(mode="after")
    def _check_not_both(self) -> Self:
        if self.trace is not None and self.model is not None:
            raise ValueError("give a trace or a model, not both")
        return self


class ExperimentConfig(StrictModel):
    """One experiment. Paths are relative to the experiment file.

    Attributes:
        serve: the Serve config file whose application is simulated or deployed, or its args.
        policy, forecaster: replace those of the Serve config.
        client: how clients time out and try again; None = they send once and wait for the deadline.
        replay: how a live run sends.
        settle_s: the fleet is watched for so long after the last request, to see it shrink.
        window_s: length of the windows in which figures are told over time; None = as the run's length suggests.
        faults: what goes wrong in a simulated run.
        address: where a live run lets Serve listen; taken from the Serve config file.
    """

    name: str
    seed: NonNegativeInt
    workload: WorkloadSettings
    serve: Path | AppConfig
    policy: PolicySettings | None = None
    forecaster: ForecasterSettings | None = None
    replay: ReplaySettings = ReplaySettings()
    client: ClientSettings | None = None
    settle_s: NonNegativeFloat = 30.0
    window_s: WindowSeconds | None = None
    faults: tuple[FaultSettings, ...] = ()
    address: ServeAddress | None = None


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line replaces in an experiment file; None = as the file says. Paths as the shell gave them.

    Attributes:
        traffic: a trace, or a workload model: its file or the name of a shipped one.
        selection: by key of `Selection`.
        hardware: a profile's name, or its file.
        replicas: a static fleet of so many.
        check_invariants: hold what is simulated against itself at each step (slow).
    """

    traffic: Path | None = None
    serve: Path | None = None
    selection: Mapping[str, object] = field(default_factory=dict)
    hardware: str | None = None
    policy: str | None = None
    replicas: int | None = None
    seed: int | None = None
    check_invariants: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """A resolved experiment: `config` names no other file than a trace, and that by its absolute path.

    `notes` say what was worked out or left as it was in choices that its file does not make, one line each.
    """

    config: ExperimentConfig
    app: AppConfig
    address: ServeAddress
    notes: tuple[str, ...] = ()
    check_invariants: bool = False


def load_experiment(path: Path, overrides: Overrides) -> Experiment:
    """Read an experiment file, apply the overrides, and read the files that it names.

    Raises:
        InputError: a file is unreadable, a key or name unknown, no traffic is named, or it has several models.
    """
    document = read_yaml(path)
    if has_models(document):
        raise InputError(f"{path}: has several models with one GPU budget, which only `burstscale simulate` takes")
    return resolve_experiment(
        parse(ExperimentConfig, document, str(path), path.parent), path.parent, overrides, str(path)
    )


def has_models(document: Mapping[str, Any]) -> bool:
    """Whether an experiment file is one of several models (`testbed.models_config`)."""
    return "models" in document


def resolve_experiment(config: ExperimentConfig, folder: Path, overrides: Overrides, where: str) -> Experiment:
    """Apply the overrides and read the files that an experiment names; `where` opens every error message.

    Raises:
        InputError: a file is unreadable, a name unknown, or no traffic is named.
    """
    app, address = _read_app(config, folder, overrides.serve)
    app = app.model_copy(
        update={"policy": config.policy or app.policy, "forecaster": config.forecaster or app.forecaster}
    )
    app, notes = _choose(app, overrides)
    workload = resolve_workload(config.workload, folder, overrides)
    prompts = _resolve_prompts(workload.prompts, folder, app)
    if workload.trace is None and workload.model is None:
        raise InputError(f"{where}: names no traffic; give --trace PATH, or set workload.trace or workload.model")
    resolved = config.model_copy(
        update={
            "workload": workload.model_copy(update={"prompts": prompts}),
            "serve": app,
            "policy": None,
            "forecaster": None,
            "address": address,
            "seed": config.seed if overrides.seed is None else overrides.seed,
        }
    )
    _check_names(app, where)
    return Experiment(resolved, app, address, notes, overrides.check_invariants)


def with_traffic(experiment: Experiment, trace: Trace) -> Experiment:
    """The experiment with what only its traffic tells filled in.

    Raises:
        InputError: what one replica carries of it is to be worked out and cannot be.
    """
    chosen = with_derived_rate(experiment.app, trace)
    config = experiment.config.model_copy(update={"serve": chosen.app})
    return replace(experiment, config=config, app=chosen.app, notes=experiment.notes + chosen.notes)


def _choose(app: AppConfig, overrides: Overrides) -> tuple[AppConfig, tuple[str, ...]]:
    """Put in place what the command line says of policy, hardware and replicas, and say what that left as it was."""
    if overrides.replicas is not None and overrides.policy not in (None, "static"):
        raise InputError(f"--replicas is a static fleet of so many: it does not go with --policy {overrides.policy}")
    chosen = Chosen(app.model_copy(update={"policy": _override_policy(app.policy, overrides.policy)}))
    if overrides.hardware is not None:
        chosen = with_hardware(chosen.app, overrides.hardware)
    if overrides.replicas is not None:
        return with_static_fleet(chosen.app, overrides.replicas), chosen.notes
    return chosen.app, chosen.notes


def _check_names(app: AppConfig, where: str) -> None:
    """Make once what the names stand for, so that a wrong one ends the command before anything is started."""
    try:
        build_policy(with_rate(app, 1.0))
        load_hardware(app.engine.hardware)
        if app.forecaster is not None:
            chosen = app.forecaster
            make_forecaster(chosen.name, bin_s=chosen.bin_s, levels=chosen.levels, **chosen.params)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def as_yaml_values(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment as plain values, for config.yaml."""
    values: dict[str, Any] = experiment.config.model_dump(mode="json", exclude_none=True)
    return values


def load_workload(experiment: Experiment) -> Trace:
    """Read or draw the experiment's traffic and take the part of it that is configured.

    Raises:
        InputError: the trace is malformed, or no request is selected.
    """
    workload, seed = experiment.config.workload, experiment.config.seed
    return select_traffic(read_source(workload, seed), workload, seed)


def select_traffic(source: Trace, workload: WorkloadSettings, seed: int) -> Trace:
    """The part of the traffic that is configured.

    Raises:
        InputError: no request is selected.
    """
    return select(source, workload, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))))


def read_source(workload: WorkloadSettings, seed: int) -> Trace:
    """Read or draw all of the traffic of a resolved workload; raises as `load_workload`."""
    if workload.trace is not None:
        return read_trace(workload.trace, workload.format)
    assert isinstance(workload.model, WorkloadModel), "load_experiment reads the model's file"
    return draw_trace(workload.model, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,))))


def _read_app(config: ExperimentConfig, folder: Path, override: Path | None) -> tuple[AppConfig, ServeAddress]:
    """The application's configuration, from the file that is named or as it stands in the experiment."""
    if override is not None:
        return read_serve_file(override)
    if isinstance(config.serve, AppConfig):
        return config.serve, config.address or ServeAddress()
    app, address = read_serve_file(folder / config.serve)
    return app, config.address or address


def resolve_workload(workload: WorkloadSettings, folder: Path, overrides: Overrides) -> WorkloadSettings:
    """Apply the overrides; make the trace's path absolute; read the model's file."""
    trace, model = workload.trace, workload.model
    if overrides.traffic is not None:
        if is_workload(overrides.traffic):
            trace, model = None, read_workload_model(find_workload(overrides.traffic))
        else:
            trace, model = overrides.traffic.absolute(), None
    elif trace is not None:
        trace = (folder / trace).absolute()
    if isinstance(model, Path):
        model = read_workload_model(shipped_workloads().get(str(model), folder / model))
    return with_options(workload, overrides.selection).model_copy(update={"trace": trace, "model": model})


def _resolve_prompts(prompts: PromptSettings, folder: Path, app: AppConfig) -> PromptSettings:
    """Make paths absolute. Without a tokenizer, count as the engine does: words, or the model's tokens."""
    if prompts.tokenizer is not None:
        return prompts.from_folder(folder)
    if isinstance(app.engine, VllmEngine):
        # As vLLM takes them: relative to where the command runs.
        engines = PromptSettings(tokenizer=str(app.engine.engine_kwargs.get("tokenizer", app.engine.model_source)))
        tokenizer = engines.from_folder(Path()).tokenizer
    else:
        tokenizer = WORDS
    return prompts.from_folder(folder).model_copy(update={"tokenizer": tokenizer})


def _override_policy(policy: PolicySettings, name: str | None) -> PolicySettings:
    """Another policy by name; it keeps those parameters of the file's policy that it knows as well."""
    if name is None or name == policy.name:
        return policy
    known = parameter_names(name)
    return PolicySettings(name=name, params={key: value for key, value in policy.params.items() if key in known})
