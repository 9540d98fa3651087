"""A trace in three or four sentences of plain words: how much, how bursty, how regular, how reliable."""

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from testbed.report.number_text import failure_percent, percent, quantity
from testbed.report.time_bins import MINUTE_S

# A CV this far from 1 is worth a word.
POISSON_CV = (0.9, 1.15)
# From this share on, the clock explains a cycle; below the lower one, it says next to nothing.
CLEAR_CYCLE, FAINT_CYCLE = 0.5, 0.2
FEW_REQUESTS = 30
DAY_HOURS = 24
# From this variance / mean of the requests per minute on, they are worth a word.
CLEAR_FANO = 1.5


def write_trace_verdict(description: TraceDescription) -> list[str]:
    """What this traffic is like, and what it means for a server; one sentence each."""
    traffic = description.all
    if not traffic.requests:
        return ["The trace has no requests."]
    if traffic.requests < FEW_REQUESTS:
        count = f"{traffic.requests} request" + ("s" if traffic.requests != 1 else "")
        return [f"The trace has only {count}: too few to say what the traffic is like."]
    # No line may begin with a percent sign.
    return [
        sentence.replace(" %", "\N{NO-BREAK SPACE}%")
        for sentence in (_load(traffic), _gaps(description), _cycles(description), _failures(description))
        if sentence
    ]


def _load(traffic: TrafficDescription) -> str:
    """The mean against the busiest hour, or the busiest 10 s of a trace of less than a day."""
    mean, bursts = quantity(traffic.mean_rate_per_s), traffic.bursts
    if bursts.peak_to_mean is None or bursts.hours < DAY_HOURS:
        peak, ratio = "peak", traffic.peak_rate_per_s / traffic.mean_rate_per_s
        rates = f"and {quantity(traffic.peak_rate_per_s)} in the busiest 10 s, {quantity(ratio)} times as many"
    else:
        peak, ratio = "hour", bursts.peak_to_mean
        rates = f"but {quantity(ratio)} times as many in the busiest hour"
        if bursts.busiest_hours_fraction is not None:
            rates += f", and the busiest 5 % of the hours hold {percent(bursts.busiest_hours_fraction)} of the requests"
    busy = f"a fleet that is sized for that {peak} would be {quantity(100 / ratio, 2)} % busy on average"
    return f"{mean} requests/s on average, {rates}: {busy}."


def _gaps(description: TraceDescription) -> str:
    """How arrivals are spaced within 20 minutes, by service."""
    said: dict[str, list[tuple[str, str]]] = {}
    for label, traffic in description.services.items():
        fits = None if traffic.gaps is None else traffic.gaps.by_window
        if fits is not None:
            cv = fits.cv.median
            kind = "burstier than" if cv > POISSON_CV[1] else "more evenly than" if cv < POISSON_CV[0] else "just like"
            said.setdefault(kind, []).append((label, quantity(cv, 2)))
    clauses = [
        f"{' and '.join(label for label, _ in who)} requests arrive {kind} chance would have it (CV of the gaps "
        f"{' and '.join(cv for _, cv in who)})"
        for kind, who in said.items()
    ]
    text = f"Within 20 minutes, {', '.join(clauses)}." if clauses else ""
    return f"{text} {_wandering(description.all)}".strip()


def _wandering(traffic: TrafficDescription) -> str:
    """How far the load wanders from minute to minute, in a trace too short to show its hours."""
    at_minute = np.flatnonzero(traffic.dispersion.window_s == MINUTE_S)
    if traffic.bursts.hours >= DAY_HOURS or not len(at_minute):
        return ""
    fano = float(traffic.dispersion.fano[at_minute[0]])
    if not fano > CLEAR_FANO:
        return ""
    return f"The requests per minute have {quantity(fano, 2)} times the variance that chance would give them."


def _cycles(description: TraceDescription) -> str:
    """Which services follow the clock."""
    said = []
    for label, traffic in description.services.items():
        cycles = traffic.periodicity
        by_week = cycles.weekly_fraction is not None
        fraction = cycles.weekly_fraction if by_week else cycles.daily_fraction
        if fraction is None:
            continue
        period = "week" if by_week else "day"
        explains = f"the hour of the {period} explains {percent(fraction)} of how its hourly counts vary"
        if fraction >= CLEAR_CYCLE:
            said.append(f"{label} repeats with the {period} ({explains}): the clock forecasts most of it")
        elif fraction >= FAINT_CYCLE:
            said.append(f"{label} repeats with the {period} in part ({explains})")
        else:
            said.append(f"{label} does not follow the clock ({explains}): its bursts come unannounced")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _failures(description: TraceDescription) -> str:
    traffic = description.all
    if not traffic.failures:
        return "No request failed in the recorded system."
    if traffic.failures == traffic.requests:
        return "Every request failed in the recorded system."
    said = f"{failure_percent(traffic.failed_fraction)} of the requests failed in the recorded system"
    for label, part in description.services.items():
        found = part.failure_outliers.by_hour
        if found is not None and found.outliers:
            said += f", of {label} far more than usual in {found.outliers:,} of {found.periods:,} hours"
    return f"{said}."
