"""What went wrong in a simulated run, as its configuration has it, and which replicas died of it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from autoscaler.fleet_tables import RecordedState
from testbed.report.facts import RunFacts
from testbed.report.time_bins import instant

WORDS = {
    "replica_dies": "replicas die",
    "node_dies": "a node dies",
    "replicas_die_at_random": "replicas die at random, each after {mean_time_between_failures_s:g} s on average",
    "provisioning_blocked": "provisioning is blocked",
    "slow_start": "cold starts take {factor:g} times as long",
    "lost_metrics": "the replicas' reports are lost",
    "stale_forecast": "the forecast is not renewed",
}
MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault: what it is, when it holds, and the replicas that died then."""

    what: str
    when: str
    died: str


def fault_table(facts: RunFacts) -> list[FaultRow]:
    """One row per fault of the configuration, in its order, of each model in turn."""
    rows = []
    for model, fault in facts.faults:
        replicas = (facts.models[model] if model else facts).results.replicas
        rows.append(_row(model, fault, replicas[replicas["state"] == RecordedState.FAILED]))
    return rows


def _row(model: str, fault: dict[str, Any], deaths: pd.DataFrame) -> FaultRow:
    what = (f"{model}: " if model else "") + WORDS[fault["kind"]].format(**fault)
    if "at_s" in fault:
        return FaultRow(what, instant(fault["at_s"]), _named(deaths[deaths["start_s"] == fault["at_s"]]))
    when = f"{instant(fault['start_s'])} to {instant(fault['end_s'])}"
    if fault["kind"] != "replicas_die_at_random":
        return FaultRow(what, when, "")
    inside = (deaths["start_s"] >= fault["start_s"]) & (deaths["start_s"] < fault["end_s"])
    return FaultRow(what, when, _named(deaths[inside]))


def _named(deaths: pd.DataFrame) -> str:
    names = [str(name) for name in deaths["replica_id"]]
    rest = len(names) - MOST_NAMED
    return (", ".join(names[:MOST_NAMED]) or "none") + (f" and {rest} more" if rest > 0 else "")
