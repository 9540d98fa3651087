"""The report's section on bursts: what they did in all, and a row for each of the worst."""

from dataclasses import dataclass
from typing import Any

from loadgen.windows import HELD_FRACTION
from testbed.report.facts import RunFacts
from testbed.report.number_text import NOTHING, percent, quantity
from testbed.report.time_bins import length, moment


@dataclass(frozen=True, slots=True)
class BurstRow:
    """One burst as text; times after its onset. `model` is empty where there is but one."""

    model: str
    onset: str
    length: str
    growth: str
    requests: str
    failed: str
    decided: str
    ready: str
    slo: str


def burst_sentences(facts: RunFacts) -> list[str]:
    """What the bursts did to the run, or to each model; nothing where it is too short to have any."""
    parts = facts.models or {"": facts}
    told = {name: _tell(part) for name, part in parts.items() if part.summary.get("bursts") is not None}
    return [f"{name}: {sentence}" if name else sentence for name, sentence in told.items()]


def burst_rows(facts: RunFacts) -> list[BurstRow]:
    """The worst bursts in order of time, of each model in turn."""
    return [
        BurstRow(
            model=name,
            onset=moment(burst["onset_s"], facts.duration_s),
            length=length(burst["length_s"]),
            growth=NOTHING if burst["growth"] is None else f"{quantity(burst['growth'], 2)} x",
            requests=f"{burst['requests']:,}",
            failed=f"{burst['failed']:,}",
            decided=_seconds(burst["decided_after_s"]),
            ready=_seconds(burst["ready_after_s"]),
            slo=_slo(burst),
        )
        for name, part in (facts.models or {"": facts}).items()
        for burst in part.bursts
    ]


def _tell(facts: RunFacts) -> str:
    bursts: dict[str, Any] = facts.summary["bursts"]
    count, bin_s = bursts["bursts"], length(bursts["bin_s"])
    if not count:
        return f"The load never jumped: no stretch of {bin_s} stood out from those before it."
    sentences = [
        f"The load jumped {'once' if count == 1 else f'{count:,} times'}: {bursts['failed']:,} of the "
        f"{bursts['requests']:,} requests in {'this burst' if count == 1 else 'these bursts'} failed",
        _tell_slo(bursts),
    ]
    if facts.fleet is not None:
        sentences.append(_tell_fleet(bursts))
    if bursts["slo_lost"]:
        sentences.append(f"Lost means: more than {percent(1 - HELD_FRACTION)} of the requests of {bin_s} missed it")
    return ". ".join(sentences) + "."


def _tell_slo(bursts: dict[str, Any]) -> str:
    count, lost, regained = bursts["bursts"], bursts["slo_lost"], bursts["slo_regained"]
    if not lost:
        return "The SLO was held in it" if count == 1 else "The SLO was held in all of them"
    if not regained:
        return "The SLO was lost" + ("" if count == 1 else f" in {lost:,} of them") + " and not held again"
    again = f"held again {_after_onset(bursts['regained_after_s'], count)}"
    if count == 1:
        return f"The SLO was lost in it and {again}"
    return f"The SLO was lost in {lost:,} of them and, after {regained:,} of these, {again}"


def _tell_fleet(bursts: dict[str, Any]) -> str:
    decided_s, ready_s, count = bursts["decided_after_s"], bursts["ready_after_s"], bursts["bursts"]
    if decided_s is None:
        return "No more replicas were asked for"
    asked = f"More replicas were asked for {_after_onset(decided_s, count)}"
    return f"{asked} and " + (
        "none was ready in time" if ready_s is None else f"the first was ready after {_seconds(ready_s)}"
    )


def _after_onset(after_s: float, bursts: int) -> str:
    """'45 s after its onset'; a median where there are several."""
    return f"{_seconds(after_s)} after " + ("its onset" if bursts == 1 else "the onset (median)")


def _slo(burst: dict[str, Any]) -> str:
    if not burst["is_slo_lost"]:
        return "held"
    regained_s = burst["regained_after_s"]
    return "lost to the end" if regained_s is None else f"lost, held again after {length(regained_s)}"


def _seconds(value_s: float | None) -> str:
    return NOTHING if value_s is None else length(value_s) if value_s >= 1 else f"{value_s:.1f} s"
