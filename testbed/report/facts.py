"""What every part of the report of a run starts from: the run, its figures, its length."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoscaler.interface import Slo
from testbed.counted_part import ended_records
from testbed.models_results import by_model_and_service, names_of_models, of_model
from testbed.models_summary import NO_SUMMARY, summarise_results
from testbed.report.time_bins import length
from testbed.results import Results
from testbed.summary import run_duration_s, service_slos, window_length_s

SIMULATED, LIVE, LOAD = "simulated", "live", "load"


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """A run with its figures.

    Attributes:
        summary: as in summary.json, also for a run that was cut short and has no such file.
        duration_s: until the last thing that happened.
        slos: what each service promises; empty where the run knew of none.
        models: the same of each model by name, where several share a cluster; services are then told apart by model.
    """

    results: Results
    summary: dict[str, Any]
    duration_s: float
    slos: dict[str, Slo]
    models: "Mapping[str, RunFacts]" = field(default_factory=dict)

    @property
    def total(self) -> dict[str, Any]:
        """The figures over all services."""
        total: dict[str, Any] = self.summary["requests"]["total"]
        return total

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The figures by service label."""
        services: dict[str, dict[str, Any]] = self.summary["requests"]["services"]
        return services

    @property
    def fleet(self) -> dict[str, Any] | None:
        """The figures of the fleet; None where the run had none of its own."""
        return self.summary.get("fleet")

    @property
    def has_fleet(self) -> bool:
        """Whether anything is to be said of a fleet: all runs but a load on a server of which nothing else is known."""
        found = self.results
        return self.summary.get("kind") != LOAD or bool(found.decisions) or not found.replicas.empty

    @property
    def bursts(self) -> list[dict[str, Any]]:
        """The worst bursts, of all models, as in summary.json and in order of time."""
        summaries = [model.summary for model in self.models.values()] or [self.summary]
        worst = [burst for summary in summaries for burst in (summary.get("bursts") or {"worst": ()})["worst"]]
        return sorted(worst, key=lambda burst: float(burst["onset_s"]))

    @property
    def faults(self) -> list[tuple[str, dict[str, Any]]]:
        """What the experiment lets go wrong, and of which model; '' where there is but one."""
        parts = self.models or {"": self}
        return [(name, fault) for name, part in parts.items() for fault in part.results.config.get("faults") or ()]

    @property
    def found_fraction(self) -> float | None:
        """Share of the admitted requests' tokens that the prefix caches had; None where there is no such cache."""
        found: float | None = (self.summary.get("prefix_cache") or {}).get("found_fraction")
        return found

    @property
    def application(self) -> dict[str, Any]:
        """The served application's configuration; empty where the run knew of none."""
        return _mapping(self.results.config.get("serve"))

    @property
    def window_s(self) -> float:
        """Length of the windows in which figures are told over time."""
        windows = self.summary.get("windows") or {"window_s": window_length_s(self.results)}
        return float(windows["window_s"])

    @property
    def notes(self) -> list[str]:
        """What was worked out or chosen for the run, one line each."""
        notes = list(self.results.environment.get("notes") or ())
        warm_up = self.summary.get("warm_up")
        if warm_up:
            notes.append(
                f"the first {warm_up['until_s']:g} s are a warm-up: the {warm_up['requests']:,} requests in it count "
                "for no figure; the plots show them, shaded"
            )
        if self.window_s != (own_s := window_length_s(self.results)):
            notes.append(
                f"figures over time are in windows of {length(self.window_s)}; summary.json has those of the run's own "
                f"{length(own_s)}"
            )
        if self.summary.get("client"):
            notes.append(describe_client(self.summary["client"], self.summary["validity"]))
        return notes

    @property
    def name(self) -> str:
        """The experiment's name, or the folder's."""
        return str(self.results.config.get("name") or self.results.path.resolve().name)


def gather_facts(results: Results) -> RunFacts:
    """Take a run's figures from its folder; compute them where it was cut short before they were written."""
    summary = summarise_results(results, cut_short=NO_SUMMARY) if results.summary is None else results.summary
    results = replace(results, records=ended_records(results))
    names, duration_s = names_of_models(results), run_duration_s(results)
    if not names:
        return RunFacts(results, summary, duration_s, service_slos(results.config))
    parts = {name: of_model(replace(results, summary=summary), name) for name in names}
    models = {
        name: RunFacts(part, summary["models"][name], duration_s, service_slos(part.config))
        for name, part in parts.items()
    }
    labelled = by_model_and_service(results)
    return RunFacts(labelled, summary, duration_s, service_slos(labelled.config), models)


def describe_client(client: Mapping[str, Any], validity: Mapping[str, Any]) -> str:
    """How punctual the load generator was, and what sending cost it, in a sentence."""
    lateness_p99_s, stood_s = validity["lateness_p99_s"], validity.get("longest_standstill_s")
    busy = f"its busiest process took {100 * client['busiest_fraction']:.0f} % of a processor"
    busy += "" if stood_s is None else f", and none stood still for more than {1000 * stood_s:.0f} ms"
    if lateness_p99_s is None or client["cpu_ms_per_request"] is None:
        return f"the load generator sent nothing; {busy}"
    return (
        f"the load generator sent 99 % of the requests within {1000 * lateness_p99_s:.1f} ms of their instants, for "
        f"{client['cpu_ms_per_request']:.2f} ms of processor time each; {busy}"
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
