"""The figures of a run, simulated or live, from its results folder."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from autoscaler.interface import Slo
from loadgen.metrics import summarise_records
from loadgen.validity import failed_requests, judge_validity
from loadgen.windows import default_window_s, summarise_windows, windowed_metrics
from serve_app.start_settings import planned_start_s
from testbed.burst_response import summarise_bursts
from testbed.cache_metrics import summarise_prefix_cache
from testbed.client_cost import client_cost, senders_standstill
from testbed.counted_part import (
    counted_records,
    counted_until_s,
    ended_records,
    lost_requests,
    planned_records,
    warm_up_until_s,
)
from testbed.fleet_metrics import summarise_fleet
from testbed.results import Results


def summarise(
    results: Results, *, cut_short: str | None = None, problems: Sequence[str] = (), window_s: float | None = None
) -> dict[str, Any]:
    """The figures of a run as plain JSON values; `window_s` = other windows than the run's own."""
    planned = int(results.environment["trace"]["requests"])
    until_s, duration_s = counted_until_s(results), run_duration_s(results)
    warm_up_s, ended, counted = warm_up_until_s(results), ended_records(results), counted_records(results)
    slos = service_slos(results.config)
    summary: dict[str, Any] = {
        "kind": results.environment["kind"],
        "cut_short": cut_short,
        "problems": list(problems),
        "planned_requests": planned,
        "recorded_requests": len(results.records),
        "requests_without_end": len(results.records) - len(ended),
        "lost_requests": lost_requests(results),
        "warm_up": {"until_s": warm_up_s, "requests": len(ended) - len(counted)} if warm_up_s else None,
        "validity": judge_validity(
            planned_records(results), senders_standstill(results.environment), duration_s
        ).as_json(),
        "requests": summarise_records(counted, slos, until_s - warm_up_s).as_json(),
        "failed_requests": failed_requests(counted),
    }
    cost = client_cost(results.environment, results.records, duration_s)
    summary["client"] = None if cost is None else cost.as_json()
    if not results.replicas.empty:
        fleet = results.config["serve"]["fleet"]
        summary["fleet"] = summarise_fleet(
            results.replicas,
            results.decisions,
            duration_s=duration_s,
            initial_replicas=initial_replicas(results),
            cold_start_s=planned_start_s(fleet),
            gpus_per_replica=gpus_per_replica(results),
            pool_holds_gpus=bool((fleet.get("warm_pool") or {}).get("holds_gpus")),
        ).as_json()
    bursts = summarise_bursts(
        ended,
        results.decisions,
        results.replicas,
        slos,
        duration_s=until_s,
        initial_replicas=initial_replicas(results),
        warm_up_s=warm_up_s,
    )
    summary["windows"] = windows_summary(results, window_s)
    summary["prefix_cache"] = summarise_prefix_cache(results.engine)
    summary["bursts"] = None if bursts is None else bursts.as_json()
    return summary


def window_length_s(results: Results) -> float:
    """How long the windows of the figures over time are: as configured, or as the run's length suggests."""
    chosen = results.config.get("window_s")
    return default_window_s(_trace_s(results)) if chosen is None else float(chosen)


def windows_summary(results: Results, window_s: float | None = None) -> dict[str, Any]:
    """The figures per window in a few numbers; by default in the run's own windows."""
    window_s = window_length_s(results) if window_s is None else window_s
    return summarise_windows(measured_windows(results, window_s), window_s).as_json()


def measured_windows(results: Results, window_s: float, *, until_s: float | None = None) -> pd.DataFrame:
    """The figures per window (`windowed_metrics`) from the end of the warm-up to the traffic's, or a later instant."""
    return windowed_metrics(
        counted_records(results),
        service_slos(results.config),
        window_s=window_s,
        start_s=warm_up_until_s(results),
        end_s=counted_until_s(results) if until_s is None else until_s,
    )


def run_duration_s(results: Results) -> float:
    """From instant 0 to the end of all that was seen: the traffic, its last request, the last replica."""
    ends_s = [counted_until_s(results)]
    for frame, column in ((ended_records(results), "finished_s"), (results.replicas, "end_s")):
        if not frame.empty:
            ends_s.append(float(frame[column].max()))
    return max(ends_s)


def _trace_s(results: Results) -> float:
    return float(results.environment["trace"]["duration_s"])


def initial_replicas(results: Results) -> int:
    """The target at the run's start, as it was seen or else as it was configured; 0 where the run knew of no fleet."""
    configured = results.config.get("serve", {}).get("fleet", {}).get("initial_replicas", 0)
    return int(results.environment.get("target_replicas_at_start", configured))


def gpus_per_replica(results: Results) -> float:
    """The GPUs that one replica held; where the folder does not say, one without a GPU stands for one that has one."""
    said = results.environment.get("gpus_per_replica") or results.config["serve"]["fleet"].get("gpus_per_replica")
    return float(said or 1.0)


def service_slos(config: dict[str, Any]) -> dict[str, Slo]:
    """What each service promises, from the plain values of config.yaml; a load generator's own promise goes first."""
    services = config["services"] if "services" in config else config["serve"]["services"]
    return {
        label: Slo(float(service["ttft_s"]), float(service["tpot_s"]), float(service["deadline_s"]))
        for label, service in services.items()
    }
