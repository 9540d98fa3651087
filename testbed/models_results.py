"""The results of an experiment of several models, in all or of one model, as those of an experiment of one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from testbed.results import Results

# Stands between a model's name, which has none, and what is its own.
OF_MODEL = "/"


def names_of_models(results: Results) -> list[str]:
    """The models that share the cluster, in the experiment's order; none where the experiment has but one."""
    return [str(model["name"]) for model in results.config.get("models") or []]


def own_name(model: str, name: str) -> str:
    """'gpt-4/replica-3'."""
    return f"{model}{OF_MODEL}{name}"


def of_model(results: Results, name: str) -> Results:
    """The part of the results that is of one model. Instants count from the start of the whole run."""
    settings: Mapping[str, Any] = next(model for model in results.config["models"] if model["name"] == name)
    facts = (results.environment.get("models") or {}).get(name) or {}
    return replace(
        results,
        config={
            "name": name,
            **{key: results.config[key] for key in ("seed", "window_s") if key in results.config},
            "serve": settings["serve"],
            **{key: settings[key] for key in ("faults",) if key in settings},
        },
        environment={**{key: value for key, value in results.environment.items() if key != "models"}, **facts},
        records=results.records[results.records["model"] == name],
        decisions=[decision for decision in results.decisions if decision.get("model") == name],
        replicas=_of(results.replicas, name),
        engine=_of(results.engine, name),
        summary=None if results.summary is None else results.summary["models"][name],
    )


def by_model_and_service(results: Results) -> Results:
    """The same with services that are told apart by model, since each promises what it likes: 'gpt-4 api'."""
    records = results.records
    labels = records["model"].astype(str) + " " + records["service"].astype(str)
    promises = {
        f"{model['name']} {label}": service
        for model in results.config["models"]
        for label, service in model["serve"]["services"].items()
    }
    return replace(results, records=records.assign(service=labels), config={**results.config, "services": promises})


def _of(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """The rows of the model's replicas."""
    return table[table["replica_id"].str.startswith(model + OF_MODEL)]
