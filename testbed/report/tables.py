"""The report's tables as rows of text: services, changes of the target, failures, what each figure means."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from loadgen.records import Status
from testbed.counted_part import counted_records
from testbed.report.facts import RunFacts
from testbed.report.number_text import NOTHING, failure_percent, latency, percent, quantity
from testbed.report.palette import colour_of_cause
from testbed.report.time_bins import instant, length
from testbed.report.verdict import reason_of
from testbed.summary import initial_replicas

MOST_CHANGES = 2000
NOT_KNOWN = "not known"
LATENCIES = (
    ("ttft", "Time to first token (TTFT)"),
    ("tpot", "Time per further token (TPOT; its mean is token latency L)"),
    ("e2e", "End to end (E2E)"),
    ("gap_per_chunk", "Between chunks"),
    ("gap_per_token", "Between tokens (ITL)"),
)
FIGURES = (("mean_s", "mean"), ("p50_s", "p50"), ("p90_s", "p90"), ("p99_s", "p99"))


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure: what it is, its value, its unit, and a remark."""

    label: str
    value: str
    unit: str = ""
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of services; kind: 'group' (a heading), '' or 'sub' (a part of the row above)."""

    label: str
    cells: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class TargetChange:
    """One change of the number of replicas that the policy wants; `model` is empty where there is but one."""

    time: str
    model: str
    before: str
    after: str
    arrivals_per_s: str
    ready: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One cause of failure: how often, when, in which phases how many requests were, and one error in full."""

    cause: str
    meaning: str
    colour: str
    count: str
    share: str
    when: str
    phases: tuple[tuple[str, str], ...]
    example: str


def key_figures(facts: RunFacts) -> list[Tile]:
    """The tiles: reliability and latency first, then what the fleet did."""
    total, fleet = facts.total, facts.fleet
    tiles = [
        Tile("SLO attainment", *_split(percent(total["attainment_fraction"])), "of all offered"),
        *_lost_windows(facts.summary.get("windows")),
        Tile(
            "Failure rate (R)",
            *_split(failure_percent(total["failure_fraction"])),
            f"{total['offered'] - total['ok']:,} of {total['offered']:,}",
        ),
        Tile("TTFT p50", *_split(latency(total["ttft"]["p50_s"])), f"p90 {latency(total['ttft']['p90_s'])}"),
        Tile("TTFT p99", *_split(latency(total["ttft"]["p99_s"])), "of ok requests"),
        Tile("Token latency (L)", *_split(latency(total["tpot"]["mean_s"])), "mean TPOT"),
        Tile("E2E p99", *_split(latency(total["e2e"]["p99_s"])), f"p50 {latency(total['e2e']['p50_s'])}"),
        Tile("Goodput", quantity(total["goodput_per_s"]), "/s", "requests within the SLO"),
        Tile("Throughput (P)", quantity(total["output_tokens_per_s"]), "tokens/s", "output, of ok requests"),
    ]
    if facts.found_fraction is not None:
        tiles.append(Tile("Prefix cache", percent(facts.found_fraction), "", "of the tokens to prefill"))
    if fleet is None:
        return tiles
    died = [Tile("Replicas that died", str(fleet["failed_replicas"]))] if fleet.get("failed_replicas") else []
    return [
        *tiles,
        *died,
        Tile("Peak replicas", str(fleet["peak_ready_replicas"]), "", f"mean {quantity(fleet['mean_ready_replicas'])}"),
        Tile(
            "GPU-hours",
            quantity(fleet["gpu_hours"]),
            "h",
            f"{percent(fleet['starting_fraction'])} of it starting",
        ),
        Tile(
            "Scale events",
            f"{fleet['scale_ups'] + fleet['scale_downs']:,}",
            "",
            f"{fleet['scale_ups']} up, {fleet['scale_downs']} down, {fleet['flaps']} taken back",
        ),
    ]


def _lost_windows(windows: dict[str, Any] | None) -> list[Tile]:
    """In how many windows the SLO was lost, where there is one."""
    if not windows or windows["slo_lost"] is None:
        return []
    each = length(windows["window_s"])
    return [Tile("SLO lost in", f"{windows['slo_lost']:,}", f"of {windows['windows']:,}", f"windows of {each}")]


def service_table(facts: RunFacts) -> tuple[tuple[str, ...], list[Row]]:
    """The columns (services, then all) and the rows."""
    columns = [*facts.services.items(), ("all", facts.total)]
    causes = sorted(facts.total["by_cause"], key=lambda cause: -facts.total["by_cause"][cause])

    def row(label: str, cell: Any, kind: str = "") -> Row:
        return Row(label, tuple(cell(figures) for _, figures in columns), kind)

    rows = [
        Row("Requests", kind="group"),
        row("Offered", lambda figures: f"{figures['offered']:,}"),
        *_attempt_rows(columns),
        row("Ok", lambda figures: f"{figures['ok']:,}"),
        row("Failed", lambda figures: f"{figures['offered'] - figures['ok']:,}"),
        *(_cause_row(cause, columns) for cause in causes),
        *_phase_rows(columns),
        row("Failure rate (R)", lambda figures: failure_percent(figures["failure_fraction"])),
        row("SLO attainment", lambda figures: percent(figures["attainment_fraction"])),
        row("Goodput (requests/s)", lambda figures: quantity(figures["goodput_per_s"])),
        row("Throughput (P, output tokens/s)", lambda figures: quantity(figures["output_tokens_per_s"])),
    ]
    for key, title in LATENCIES:
        if facts.total.get(key, {}).get("p50_s") is None and key.startswith("gap"):
            continue  # not measured
        rows.append(Row(title, kind="group"))
        rows.extend(_latency_row(key, field, name, columns) for field, name in FIGURES)
    return tuple(label for label, _ in columns), rows + _averaged_rows(columns)


def _averaged_rows(columns: list[tuple[str, Any]]) -> list[Row]:
    """Of how many answers the gaps between tokens rest on the mean of its chunks; nothing where of none."""
    counts = [figures.get("gap_per_token_requests") or {"counted": 0, "averaged": 0} for _, figures in columns]
    if not any(count["averaged"] for count in counts):
        return []
    cells = tuple(f"{count['averaged']:,} of {sum(count.values()):,}" for count in counts)
    return [Row("answers that do not tell the tokens of each chunk", cells, "sub")]


def split_latencies(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of requests and those of latencies, each part with its headings."""
    first = [place for place, row in enumerate(rows) if row.kind == "group"][1]
    return rows[:first], rows[first:]


def target_changes(facts: RunFacts) -> list[TargetChange]:
    """The decisions that changed the target, in order of time, each with the policy's reason."""
    before = {name: _first_target(model) for name, model in facts.models.items()} or {"": _first_target(facts)}
    changes = []
    for decision in facts.results.decisions:
        model, after = decision.get("model") or "", decision["target_replicas"]
        if after != before[model]:
            changes.append(
                TargetChange(
                    time=instant(decision["time_s"]),
                    model=model,
                    before=NOTHING if before[model] is None else str(before[model]),
                    after=str(after),
                    arrivals_per_s=quantity(decision["arrivals_per_s"]),
                    ready=str(decision["ready"]),
                    reason=decision.get("error") or decision["reason"],
                )
            )
        before[model] = after
    return changes


def _first_target(facts: RunFacts) -> int | None:
    """How many replicas were wanted before the first decision."""
    return initial_replicas(facts.results) if facts.application else None


def failure_table(facts: RunFacts) -> list[FailureRow]:
    """One row per cause, the most frequent first; a warm-up does not count."""
    records = counted_records(facts.results)
    failed = records[records["status"] != Status.OK]
    rows = []
    for cause, part in failed.groupby(failed["cause"].fillna("unknown")):
        errors = part["error"].dropna()
        first_s, last_s = float(part["scheduled_s"].min()), float(part["scheduled_s"].max())
        rows.append(
            (
                len(part),
                FailureRow(
                    cause=str(cause),
                    meaning=reason_of(str(cause), facts),
                    colour=colour_of_cause(str(cause)),
                    count=f"{len(part):,}",
                    share=failure_percent(len(part) / len(records)),
                    when=instant(first_s) if len(part) == 1 else f"{instant(first_s)} to {instant(last_s)}",
                    phases=_phases(part),
                    example=str(errors.iloc[0]) if len(errors) else "",
                ),
            )
        )
    return [row for _, row in sorted(rows, key=lambda item: -item[0])]


def _phases(part: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """(phase, failed requests) of one cause, the most frequent first; none where nothing is known of any."""
    counts = part["phase"].value_counts() if "phase" in part else pd.Series()
    known = [(str(phase).replace("_", " "), f"{count:,}") for phase, count in counts.items() if count]
    unknown = len(part) - int(counts.sum())
    return (*known, *([(NOT_KNOWN, f"{unknown:,}")] if known and unknown else []))


def _attempt_rows(columns: list[tuple[str, dict[str, Any]]]) -> list[Row]:
    """How many requests were sent more than once, and how often all of them were; nothing where none was."""
    if not columns[-1][1].get("retried"):
        return []
    return [
        Row(label, tuple(f"{figures[key]:,}" for _, figures in columns), "sub")
        for label, key in (("sent more than once", "retried"), ("attempts", "attempts"))
    ]


def _phase_rows(columns: list[tuple[str, dict[str, Any]]]) -> list[Row]:
    """Where failed requests were, the most frequent phase first; nothing where that is known of none."""
    known = [figures.get("by_phase") or {} for _, figures in columns]
    failed = [figures["offered"] - figures["ok"] for _, figures in columns]
    unknown = [count - sum(phases.values()) for count, phases in zip(failed, known, strict=True)]
    if not known[-1]:
        return []
    return [
        Row("Failed in phase", ("",) * len(columns)),
        *(
            Row(phase.replace("_", " "), tuple(f"{phases.get(phase, 0):,}" for phases in known), "sub")
            for phase in sorted(known[-1], key=lambda phase: -known[-1][phase])
        ),
        *([Row(NOT_KNOWN, tuple(f"{count:,}" for count in unknown), "sub")] if unknown[-1] else []),
    ]


def _cause_row(cause: str, columns: list[tuple[str, dict[str, Any]]]) -> Row:
    cells = tuple(f"{figures['by_cause'].get(cause, 0):,}" for _, figures in columns)
    return Row(cause.replace("_", " "), cells, "sub")


def _latency_row(key: str, field: str, name: str, columns: list[tuple[str, dict[str, Any]]]) -> Row:
    return Row(name, tuple(latency(figures[key][field]) for _, figures in columns))


def _split(text: str) -> tuple[str, str]:
    """'98.7 %' -> ('98.7', '%')."""
    number, _, unit = text.partition(" ")
    return number, unit
