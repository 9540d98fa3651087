"""The report's section on bursts: one sentence, and a row for each of the worst."""

from dataclasses import dataclass
from typing import Any

from loadgen.windows import HELD_FRACTION
from testbed.report.facts import RunFacts
from testbed.report.number_text import NOTHING, percent, quantity
from testbed.report.time_bins import instant, length


@dataclass(frozen=True, slots=True)
class BurstRow:
    """One burst as text; times after its onset."""

    onset: str
    length: str
    growth: str
    requests: str
    failed: str
    decided: str
    ready: str
    slo: str


def burst_sentence(facts: RunFacts) -> str:
    """What the bursts of the run did to it; empty where the run is too short to have any."""
    bursts: dict[str, Any] | None = facts.summary.get("bursts")
    if bursts is None:
        return ""
    if not bursts["bursts"]:
        return f"The load never jumped: no {length(bursts['bin_s'])} stood out from those before it."
    count = bursts["bursts"]
    pieces = [
        f"The load jumped {'once' if count == 1 else f'{count:,} times'}; {bursts['failed']:,} of the "
        f"{bursts['requests']:,} requests in these bursts failed",
        f"the SLO was lost in {bursts['slo_lost']:,} and held again after {bursts['slo_regained']:,}"
        + _after(bursts["regained_after_s"]),
    ]
    if facts.fleet is not None:
        pieces.append(
            f"more replicas were asked for{_after(bursts['decided_after_s']) or ' never'} "
            f"and the first was ready{_after(bursts['ready_after_s']) or ' never'}"
        )
    return "; ".join(pieces) + f". Times count from the onset; lost means under {percent(HELD_FRACTION)} of a window."


def burst_rows(facts: RunFacts) -> list[BurstRow]:
    """The worst bursts in order of time."""
    bursts = facts.summary.get("bursts") or {"worst": []}
    return [
        BurstRow(
            onset=instant(burst["onset_s"]),
            length=length(burst["length_s"]),
            growth=NOTHING if burst["growth"] is None else f"{quantity(burst['growth'], 2)} x",
            requests=f"{burst['requests']:,}",
            failed=f"{burst['failed']:,}",
            decided=_seconds(burst["decided_after_s"]),
            ready=_seconds(burst["ready_after_s"]),
            slo=_slo(burst),
        )
        for burst in bursts["worst"]
    ]


def _slo(burst: dict[str, Any]) -> str:
    if not burst["is_slo_lost"]:
        return "held"
    regained_s = burst["regained_after_s"]
    return "lost, not regained" if regained_s is None else f"held again after {length(regained_s)}"


def _after(median_s: float | None) -> str:
    return "" if median_s is None else f" after {_seconds(median_s)} (median)"


def _seconds(value_s: float | None) -> str:
    return NOTHING if value_s is None else length(value_s) if value_s >= 1 else f"{value_s:.1f} s"
