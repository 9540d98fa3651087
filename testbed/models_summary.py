"""The figures of an experiment of several models: of each, in all, and of the GPUs that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadgen.metrics import summarise_records
from testbed.cache_metrics import summarise_prefix_cache
from testbed.fleet_metrics import summarise_fleet
from testbed.models_results import by_model_and_service, names_of_models, of_model
from testbed.results import Results
from testbed.summary import gpus_per_replica, run_duration_s, service_slos, summarise, windows_summary

ADDED_UP = ("gpu_hours", "scale_ups", "scale_downs", "flaps", "decisions", "policy_errors", "forecast_fallbacks")
ROUNDING = 1e-9
# How a run ended that was killed before its figures were written.
NO_SUMMARY = "its folder has no summary. The figures cover what was recorded."
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BudgetSummary:
    """What became of the GPUs that the models share.

    Attributes:
        mean_held_gpus, peak_held_gpus: held by starting, ready and draining replicas of all models.
        full_fraction: share of the time in which no model could have started another replica.
        waited_gpu_hours: GPUs that policies asked for and that were not there, over time.
    """

    gpu_budget: float
    mean_held_gpus: float
    peak_held_gpus: float
    full_fraction: float
    waited_gpu_hours: float


def summarise_results(
    results: Results, *, cut_short: str | None = None, problems: Sequence[str] = (), window_s: float | None = None
) -> dict[str, Any]:
    """The figures of a run of one model or of several, as plain JSON values; arguments as of `summarise`."""
    models = names_of_models(results)
    if not models:
        return summarise(results, cut_short=cut_short, problems=problems, window_s=window_s)
    parts = {name: of_model(results, name) for name in models}
    trace, duration_s = results.environment["trace"], run_duration_s(results)
    labelled = by_model_and_service(results)
    requests = summarise_records(labelled.records, service_slos(labelled.config), float(trace["duration_s"]))
    summary: dict[str, Any] = {
        "kind": results.environment["kind"],
        "cut_short": cut_short,
        "problems": list(problems),
        "planned_requests": int(trace["requests"]),
        "recorded_requests": len(results.records),
        "requests": requests.as_json(),
        "windows": windows_summary(labelled, window_s),
        "prefix_cache": summarise_prefix_cache(results.engine),
        "models": {name: summarise(replace(part, summary=None), window_s=window_s) for name, part in parts.items()},
    }
    if all("fleet" in part for part in summary["models"].values()):
        summary["fleet"] = _fleets_together(results, summary["models"], duration_s)
        summary["gpus"] = asdict(_summarise_budget(results, parts, duration_s))
    return summary


def with_windows(results: Results, window_s: float) -> Results:
    """The same run, its figures over time in windows of another length; nothing is written."""
    said = results.summary or {"cut_short": NO_SUMMARY, "problems": ()}
    summary = summarise_results(
        results, cut_short=said.get("cut_short"), problems=said.get("problems") or (), window_s=window_s
    )
    return replace(results, summary=summary)


def held_gpus(results: Results, instants_s: Floats) -> pd.DataFrame:
    """GPUs that each model holds at each instant, a column for each model; a change counts from its instant on."""
    held = {}
    for name in names_of_models(results):
        part = of_model(results, name)
        begun, ended = (
            np.searchsorted(np.sort(part.replicas[column].to_numpy(np.float64)), instants_s, side="right")
            for column in ("start_s", "end_s")
        )
        held[name] = (begun - ended) * gpus_per_replica(part)
    return pd.DataFrame(held)


def change_instants(results: Results, duration_s: float) -> Floats:
    """The run's start and end, and every instant between at which a replica comes, goes or changes; f64[n]."""
    instants_s = np.concatenate([[0.0, duration_s], results.replicas["start_s"], results.replicas["end_s"]])
    inside: Floats = np.unique(instants_s[(instants_s >= 0) & (instants_s <= duration_s)])
    return inside


def _fleets_together(results: Results, models: Mapping[str, Any], duration_s: float) -> dict[str, Any]:
    """What the fleets did together: replicas as if they were one fleet, decisions added up."""
    together = summarise_fleet(results.replicas, [], duration_s=duration_s, initial_replicas=0, cold_start_s=0.0)
    sums = {key: sum(part["fleet"][key] for part in models.values()) for key in ADDED_UP}
    return {**together.as_json(), **sums}


def _summarise_budget(results: Results, parts: Mapping[str, Results], duration_s: float) -> BudgetSummary:
    budget = float(results.config["gpu_budget"])
    edges_s = change_instants(results, duration_s)
    held, lengths_s = held_gpus(results, edges_s[:-1]).sum(axis=1).to_numpy(np.float64), np.diff(edges_s)
    smallest = min(gpus_per_replica(part) for part in parts.values())
    return BudgetSummary(
        gpu_budget=budget,
        mean_held_gpus=float(held @ lengths_s) / duration_s if duration_s else 0.0,
        peak_held_gpus=float(held.max(initial=0.0)),
        full_fraction=float(lengths_s[held > budget - smallest + ROUNDING].sum()) / duration_s if duration_s else 0.0,
        waited_gpu_hours=sum(_waited_gpu_seconds(part, duration_s) for part in parts.values()) / 3600,
    )


def _waited_gpu_seconds(part: Results, duration_s: float) -> float:
    """GPUs asked for and not granted, each from one decision that is written down to the next."""
    times_s = np.array([decision["time_s"] for decision in part.decisions] + [duration_s], dtype=np.float64)
    missing = [
        max(0, decision["target_replicas"] - (decision.get("granted_replicas") or 0)) for decision in part.decisions
    ]
    return float(np.array(missing, dtype=np.float64) @ np.maximum(np.diff(times_s), 0.0)) * gpus_per_replica(part)
