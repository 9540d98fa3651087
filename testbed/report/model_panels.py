"""What the report shows where several models share a cluster: who holds the GPUs, and each model's fleet."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.models_results import names_of_models
from testbed.models_summary import change_instants, held_gpus
from testbed.report import palette
from testbed.report.bands import time_bands
from testbed.report.facts import RunFacts
from testbed.report.fleet_panels import MOST_STEPS, replica_panel
from testbed.report.number_text import failure_percent, latency, percent, quantity
from testbed.report.panels import Floats, Panel, Series, Shape, Unit, until_end
from testbed.report.request_panels import latency_panel, load_panel, request_series
from testbed.report.tables import Row
from testbed.report.time_bins import bins_over
from testbed.summary import gpus_per_replica


def gpu_panel(facts: RunFacts) -> Panel | str:
    """GPUs held by each model on top of each other, all that is asked for, and the budget."""
    if facts.results.replicas.empty:
        return "the run had no fleet of its own"
    duration_s = facts.duration_s
    instants_s = change_instants(facts.results, duration_s)[:-1]
    note = "held by starting, ready and draining replicas, on top of each other"
    if len(instants_s) > MOST_STEPS:
        bins = bins_over(duration_s)
        instants_s, note = bins.starts_s, f"{note}; at one instant in {bins.width_s:g} s"
    held = held_gpus(facts.results, instants_s)
    stacks = tuple(
        Series(name, colour_of_model(facts, name), Shape.STACK, *until_end(instants_s, _floats(held[name]), duration_s))
        for name in facts.models
    )
    budget = float(facts.results.config["gpu_budget"])
    return Panel(
        title="GPUs",
        axis="GPUs",
        note=note,
        unit=Unit.COUNT,
        series=(*stacks, Series("wanted by all", palette.WANTED, Shape.STEP, *_wanted_gpus(facts))),
        height_pixels=150,
        limits=((f"budget {budget:g}", budget),),
    )


def model_panels(facts: RunFacts) -> dict[str, Panel | str]:
    """Load, replicas and latency of each model, by what to call them where they are missing."""
    rows: dict[str, Panel | str] = {}
    for name, model in facts.models.items():
        results, duration_s = model.results, facts.duration_s
        bins = bins_over(duration_s, most_bins=240)
        for panel in (
            load_panel(request_series(results.records, bins), bins, duration_s),
            replica_panel(results.replicas, results.decisions, duration_s),
            latency_panel(results.records, duration_s, model.slos),
        ):
            title = "" if isinstance(panel, str) else f"{name}: {_uncapitalised(panel.title)}"
            row = panel if isinstance(panel, str) else replace(panel, title=title, bands=time_bands(model))
            rows[f"{name} {len(rows)}" if isinstance(row, str) else row.title] = row
    return rows


def model_table(facts: RunFacts) -> tuple[tuple[str, ...], list[Row]]:
    """The columns (models, then all) and the rows: what each got and held."""
    columns = [(model.total, model.fleet or {}) for model in facts.models.values()] + [(facts.total, facts.fleet or {})]

    def row(label: str, of_requests: Any = None, of_fleet: Any = None) -> Row:
        return Row(label, tuple(of_requests(total) if of_requests else of_fleet(fleet) for total, fleet in columns))

    gpus = [f"{gpus_per_replica(model.results):g}" for model in facts.models.values()]
    rows = [
        row("Offered", lambda total: f"{total['offered']:,}"),
        *([row("Attempts", lambda total: f"{total['attempts']:,}")] if facts.total.get("retried") else []),
        row("SLO attainment", lambda total: percent(total["attainment_fraction"])),
        row("Failure rate (R)", lambda total: failure_percent(total["failure_fraction"])),
        row("TTFT p50", lambda total: latency(total["ttft"]["p50_s"])),
        row("TTFT p99", lambda total: latency(total["ttft"]["p99_s"])),
        row("Token latency (L)", lambda total: latency(total["tpot"]["mean_s"])),
        row("Throughput (P, output tokens/s)", lambda total: quantity(total["output_tokens_per_s"])),
    ]
    if facts.fleet is not None:
        rows += [
            Row("GPUs of a replica", (*gpus, "")),
            row("Peak replicas", of_fleet=lambda fleet: f"{fleet['peak_ready_replicas']}"),
            row("GPU-hours", of_fleet=lambda fleet: quantity(fleet["gpu_hours"])),
        ]
    return (*facts.models, "all"), rows


def describe_budget(gpus: Mapping[str, float]) -> str:
    """What became of the shared GPUs, in a sentence."""
    waited = gpus["waited_gpu_hours"]
    lacked = (
        f"{quantity(waited)} GPU-hours were asked for and not there" if waited > 0 else "nobody had to wait for one"
    )
    return (
        f"Of {gpus['gpu_budget']:g} GPUs, {quantity(gpus['mean_held_gpus'])} were held on average and "
        f"{gpus['peak_held_gpus']:g} at most; for {percent(gpus['full_fraction'])} of the time there was no room for "
        f"another replica; {lacked}."
    )


def colour_of_model(facts: RunFacts, name: str) -> str:
    """The same colour for a model everywhere on the page."""
    return palette.MODELS[names_of_models(facts.results).index(name) % len(palette.MODELS)]


def _wanted_gpus(facts: RunFacts) -> tuple[Floats, Floats]:
    """The GPUs that the policies ask for together, as steps."""
    changes: dict[str, tuple[Floats, Floats]] = {}
    for name, model in facts.models.items():
        decisions = model.results.decisions
        first = float(model.application["fleet"]["initial_replicas"])
        times_s = np.array([0.0, *(decision["time_s"] for decision in decisions)])
        targets = np.array([first, *(decision["target_replicas"] for decision in decisions)], dtype=np.float64)
        changed = np.append(True, targets[1:] != targets[:-1])
        changes[name] = times_s[changed], targets[changed] * gpus_per_replica(model.results)
    instants_s = np.unique(np.concatenate([times_s for times_s, _ in changes.values()]))
    wanted = sum(
        (gpus[np.searchsorted(times_s, instants_s, side="right") - 1] for times_s, gpus in changes.values()),
        start=np.zeros(len(instants_s)),
    )
    return until_end(instants_s, wanted, facts.duration_s)


def _uncapitalised(title: str) -> str:
    return title[0].lower() + title[1:]


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)
