"""Simulate an experiment of several models that share a GPU budget, and write its results folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from autoscaler.simulator.fleet_run import SimulationResult
from autoscaler.simulator.shared_run import SharingModel, simulate_together
from loadgen.errors import InputError
from loadgen.records import ATTEMPT_SCHEMA, ENCODED_RECORD_SCHEMA, RECORD_SCHEMA, write_attempts, write_records
from loadgen.trace import Trace
from serve_app.config import gpus_per_replica
from serve_app.guarded_policy import build_policy
from testbed.conclude import conclude_run
from testbed.environment import describe_environment, describe_trace
from testbed.models_config import ModelsExperiment, as_yaml_values, load_models_traffic
from testbed.models_results import own_name
from testbed.results import (
    ATTEMPTS,
    RECORDS,
    append_decisions,
    create_results_folder,
    write_config,
    write_environment,
    write_tables,
)
from testbed.simulate import RECORDED_INSTANTS, cache_notes, fleet_of, forecast_settings_of

PLAIN_SCHEMA = pa.schema([RECORD_SCHEMA.field(name) for name in ENCODED_RECORD_SCHEMA.names])


def simulate_models(experiment: ModelsExperiment, out: Path, progress: Callable[[float, float], None]) -> Path:
    """Simulate and write the results; returns the folder. `progress` is called with (done, 1.0).

    Raises:
        InputError: the input is wrong or the folder is not new.
    """
    experiment, traces = load_models_traffic(experiment)
    models = {
        name: _sharing_model(experiment, name, trace, place) for place, (name, trace) in enumerate(traces.items())
    }
    folder = create_results_folder(out)
    write_config(folder, as_yaml_values(experiment))
    write_environment(folder, _describe_environment(experiment, traces))
    results = simulate_together(
        models,
        experiment.config.gpu_budget,
        progress=lambda share: progress(share, 1.0),
        record_interval_s=max(trace.duration_s for trace in traces.values()) / RECORDED_INSTANTS,
    )
    write_records(records_together(results), folder / RECORDS)
    if (attempts := attempts_together(results)) is not None:
        write_attempts(attempts, folder / ATTEMPTS)
    decisions = [decision for result in results.values() for decision in result.decisions]
    append_decisions(folder, sorted(decisions, key=lambda decision: decision.time_s))
    write_tables(
        folder,
        replicas=_with_model_names({name: result.replicas for name, result in results.items()}),
        engine=_with_model_names({name: result.engine for name, result in results.items()}).sort_by("time_s"),
    )
    conclude_run(folder)
    return folder


def records_together(results: Mapping[str, SimulationResult]) -> pa.Table:
    """The records of all models in order of arrival, numbered anew; each names its model and its model's replica."""
    parts = {
        name: _replaced(result.records, "model", pa.repeat(name, len(result.records)))
        for name, result in results.items()
    }
    together = _with_model_names({name: part.cast(PLAIN_SCHEMA) for name, part in parts.items()})
    ordered = together.take(_order_of_arrival(results))
    return _replaced(ordered, "request_id", pa.array(np.arange(len(ordered))))


def attempts_together(results: Mapping[str, SimulationResult]) -> pa.Table | None:
    """The attempts of the models whose clients send again, numbered as the records; None = nobody's do."""
    numbers = np.argsort(_order_of_arrival(results), kind="stable")
    firsts = np.cumsum([0, *(len(result.records) for result in results.values())])
    parts = [
        _replaced(table.cast(ATTEMPT_SCHEMA), "request_id", pa.array(numbers[first + table["request_id"].to_numpy()]))
        for first, result in zip(firsts, results.values(), strict=False)
        if (table := result.attempts) is not None
    ]
    return pa.concat_tables(parts).sort_by([("request_id", "ascending"), ("attempt", "ascending")]) if parts else None


def _order_of_arrival(results: Mapping[str, SimulationResult]) -> NDArray[np.int64]:
    """In which order requests arrive, by their places in all models' records one after the other."""
    arrivals_s = [result.records["scheduled_s"].to_numpy() for result in results.values()]
    return np.argsort(np.concatenate(arrivals_s), kind="stable")


def _with_model_names(tables: Mapping[str, pa.Table]) -> pa.Table:
    """The tables after each other, each replica's name with its model's before it."""
    named = []
    for name, table in tables.items():
        ids = pc.binary_join_element_wise(own_name(name, ""), table["replica_id"], "")
        named.append(_replaced(table, "replica_id", ids))
    return pa.concat_tables(named)


def _replaced(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    """The table with other values in one column."""
    return table.set_column(
        table.schema.get_field_index(column), table.schema.field(column).with_type(values.type), values
    )


def _describe_environment(experiment: ModelsExperiment, traces: Mapping[str, Trace]) -> dict[str, Any]:
    """What the run was made with; each model's traffic and GPUs as well as all traffic together."""
    described = {name: describe_trace(trace) for name, trace in traces.items()}
    together = {
        "name": ", ".join(dict.fromkeys(trace.name for trace in traces.values())),
        **{
            key: sum(each[key] for each in described.values()) for key in ("requests", "prompt_tokens", "output_tokens")
        },
        "duration_s": max(trace.duration_s for trace in traces.values()),
    }
    cache = tuple(
        f"{name}: {note}" for name, trace in traces.items() for note in cache_notes(experiment.parts[name].app, trace)
    )
    environment = describe_environment(
        kind="simulated", seed=experiment.config.seed, trace=together, notes=(*experiment.notes, *cache)
    )
    environment["models"] = {
        name: {"trace": described[name], "gpus_per_replica": gpus_per_replica(part.app)}
        for name, part in experiment.parts.items()
    }
    return environment


def _sharing_model(experiment: ModelsExperiment, name: str, trace: Trace, place: int) -> SharingModel:
    app = experiment.parts[name].app
    fleet = fleet_of(experiment.parts[name])
    if fleet.warm_pool is not None:
        raise InputError(f"model '{name}': has a warm pool, whose GPUs a shared budget does not count; leave it out")
    return SharingModel(
        trace=trace,
        policy=build_policy(app),
        fleet=fleet,
        forecasting=None if app.forecaster is None else forecast_settings_of(app.forecaster),
        rng=np.random.default_rng(np.random.SeedSequence(experiment.config.seed, spawn_key=(1, place))),
        gpus_per_replica=gpus_per_replica(app),
    )
