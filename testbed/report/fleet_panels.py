"""The rows of the figure that decisions, replicas and engines tell: fleet size, forecast, queues, KV cache."""

import math
from typing import Any

import numpy as np
import pandas as pd

from autoscaler.fleet_tables import RecordedState
from testbed.report import palette
from testbed.report.panels import Floats, Panel, Series, Shape, Unit, until_end
from testbed.report.time_bins import MOST_BINS, TimeBins, bins_over, length

Decisions = list[dict[str, Any]]
# Up to so many changes are drawn as they were; beyond, one mean per bin.
MOST_STEPS = 2 * MOST_BINS
STATE_COLOURS = {
    RecordedState.READY: palette.READY,
    RecordedState.STARTING: palette.STARTING,
    RecordedState.DRAINING: palette.DRAINING,
}
# Drawn only where there are any. Dead replicas that nobody knows of, and those that wait for work.
RARE_STATE_COLOURS = {
    RecordedState.FAILED: palette.FAILED,
    RecordedState.FILLING: palette.FILLING,
    RecordedState.POOLED: palette.POOLED,
}
ENGINE_LOAD = (("running", "running", palette.RUNNING), ("waiting", "waiting in engines", palette.WAITING))


def replica_panel(replicas: pd.DataFrame, decisions: Decisions, duration_s: float) -> Panel | str:
    """Replicas wanted and in each state, and how many died at an instant, or why there is nothing to draw."""
    if replicas.empty and not decisions:
        return "the run had no fleet of its own"
    edges_s = np.unique(np.concatenate([[0.0, duration_s], _floats(replicas, "start_s"), _floats(replicas, "end_s")]))
    note = "ready, starting and draining stand on top of each other"
    if len(edges_s) > MOST_STEPS:
        bins = bins_over(duration_s)
        edges_s = np.append(bins.starts_s, duration_s)
        note += f"; mean per {length(bins.width_s)}"
    lasting = replicas[replicas["end_s"] > replicas["start_s"]]
    rare = {state: colour for state, colour in RARE_STATE_COLOURS.items() if (lasting["state"] == state).any()}
    stacks = tuple(
        Series(state.value, colour, Shape.STACK, *mean_replicas(replicas[replicas["state"] == state], edges_s))
        for state, colour in (STATE_COLOURS | rare).items()
    )
    wanted = (_wanted(decisions, duration_s),) if decisions else ()
    return Panel("Replicas", "replicas", note, Unit.COUNT, (*stacks, *wanted, *_died(replicas)), height_pixels=130)


def _died(replicas: pd.DataFrame) -> tuple[Series, ...]:
    """How many replicas died at an instant, where any did."""
    deaths_s, died = np.unique(
        _floats(replicas[replicas["state"] == RecordedState.FAILED], "start_s"), return_counts=True
    )
    if not len(deaths_s):
        return ()
    return (Series("died then", palette.FAILED, Shape.POINTS, deaths_s, died.astype(np.float64)),)


def forecast_panel(
    decisions: Decisions, arrivals_s: Floats, duration_s: float, forecast_bin_s: float | None
) -> Panel | str:
    """The forecast for the lead time, drawn at the instant it speaks of, against what then arrived."""
    points = [decision["forecast"] for decision in decisions if decision.get("forecast")]
    if not points:
        return "no forecast was made" if decisions else "no policy ran"
    bins = _forecast_bins(duration_s, forecast_bin_s)
    at_s = np.array([point["at_s"] for point in points], dtype=np.float64)
    rates = np.array([point["requests_per_s"] for point in points], dtype=np.float64)
    lead_s = float(np.median([point["at_s"] - point["issued_at_s"] for point in points]))
    inside = at_s <= duration_s
    at_s, rates = _thin(at_s[inside], rates[inside], duration_s)
    arrived_s, arrived = until_end(bins.starts_s, bins.count_of(arrivals_s) / bins.width_s, duration_s)
    return Panel(
        title="Forecast",
        axis="requests/s",
        note=f"made about {length(lead_s)} ahead; arrivals per {length(bins.width_s)}",
        unit=Unit.RATE,
        series=(
            Series("arrived", palette.OFFERED, Shape.AREA, arrived_s, arrived, bins.width_s),
            *_fan(at_s, rates, [float(level) for level in points[0]["levels"]]),
        ),
    )


def queue_panel(client: Series, decisions: Decisions, engine: pd.DataFrame, duration_s: float) -> Panel:
    """Requests on their way, those that run in the engines, wait in them, and wait at the router."""
    series = [client]
    note = "engines as the policy saw them" if decisions else "mean, as the load generator saw them"
    if not engine.empty:
        bins = _engine_bins(engine, duration_s)
        note = f"engines: mean per {length(bins.width_s)}"
        for column, label, colour in ENGINE_LOAD:
            total = _array(_per_replica(engine, column, bins).sum(axis=1))
            times_s, total = until_end(bins.starts_s, total, duration_s)
            series.append(Series(label, colour, Shape.STEP, times_s, total, bins.width_s))
    seen = [*ENGINE_LOAD] if engine.empty else []
    seen.append(("queued", "queued at the router", palette.QUEUED))
    if decisions:
        series.extend(_seen(decisions, key, label, colour, duration_s) for key, label, colour in seen)
    return Panel("Requests in the system", "requests", note, Unit.COUNT, tuple(series), height_pixels=110)


def kv_cache_panel(engine: pd.DataFrame, duration_s: float) -> Panel | str:
    """Share of the KV cache in use: the mean over the replicas, and the fullest one."""
    if engine.empty:
        return "no engine samples were recorded"
    bins = _engine_bins(engine, duration_s)
    per_replica = _per_replica(engine, "kv_cache_fraction", bins)
    series = []
    for values, label, colour in (
        (per_replica.mean(axis=1), "mean of the replicas", palette.KV_CACHE),
        (per_replica.max(axis=1), "fullest replica", palette.KV_CACHE_MOST),
    ):
        times_s, fractions = until_end(bins.starts_s, _array(values), duration_s)
        series.append(Series(label, colour, Shape.STEP, times_s, fractions, bins.width_s))
    note = f"per {length(bins.width_s)}"
    return Panel("KV cache in use", "% of blocks", note, Unit.FRACTION, tuple(series), height_pixels=90)


def mean_replicas(intervals: pd.DataFrame, edges_s: Floats) -> tuple[Floats, Floats]:
    """The mean number of replicas between one edge and the next, as steps (the edges, f64[len(edges_s)]).

    Where the edges hold every start and end, this is the exact number.
    """
    held_s = _held_until(_floats(intervals, "start_s"), edges_s) - _held_until(_floats(intervals, "end_s"), edges_s)
    return until_end(edges_s[:-1], np.diff(held_s) / np.diff(edges_s), float(edges_s[-1]))


def _held_until(starts_s: Floats, edges_s: Floats) -> Floats:
    """Replica-seconds up to each edge if every replica went on for ever from its start."""
    starts_s = np.sort(starts_s)
    begun = np.searchsorted(starts_s, edges_s, side="right")
    sums_s = np.concatenate([[0.0], np.cumsum(starts_s)])
    held_s: Floats = begun * edges_s - sums_s[begun]
    return held_s


def _wanted(decisions: Decisions, duration_s: float) -> Series:
    """The target over time; only its changes where there are few, else the highest target of each bin."""
    times_s = np.array([decision["time_s"] for decision in decisions], dtype=np.float64)
    targets = np.array([decision["target_replicas"] for decision in decisions], dtype=np.float64)
    changed = np.append(True, targets[1:] != targets[:-1])
    if changed.sum() > MOST_STEPS:
        bins = bins_over(duration_s)
        highest = pd.Series(targets).groupby(bins.index_of(times_s)).max().reindex(range(bins.count)).ffill()
        times_s, targets = bins.starts_s, _array(highest)
    else:
        times_s, targets = times_s[changed], targets[changed]
    return Series("wanted", palette.WANTED, Shape.STEP, *until_end(times_s, targets, duration_s))


def _seen(decisions: Decisions, key: str, label: str, colour: str, duration_s: float) -> Series:
    """A number that every decision carries; the highest of each bin, since a short queue is what one looks for."""
    times_s = np.array([decision["time_s"] for decision in decisions], dtype=np.float64)
    values = pd.Series([float(decision[key]) for decision in decisions])
    bins = bins_over(duration_s)
    if len(times_s) > bins.count:
        highest = values.groupby(bins.index_of(times_s)).max().reindex(range(bins.count)).ffill()
        return Series(label, colour, Shape.STEP, *until_end(bins.starts_s, _array(highest), duration_s))
    return Series(label, colour, Shape.STEP, *until_end(times_s, _array(values), duration_s))


def _forecast_bins(duration_s: float, forecast_bin_s: float | None) -> TimeBins:
    """The forecaster's own bins, where they are known and not too many."""
    if forecast_bin_s and duration_s <= forecast_bin_s * MOST_BINS:
        return TimeBins(forecast_bin_s, math.floor(duration_s / forecast_bin_s) + 1)
    return bins_over(duration_s, least_width_s=forecast_bin_s or 1.0)


def _thin(at_s: Floats, rates: Floats, duration_s: float) -> tuple[Floats, Floats]:
    """At most one forecast per bin: the mean of those that speak of it. f64[n], f64[n, levels]."""
    bins = bins_over(duration_s)
    if len(at_s) <= bins.count:
        return at_s, rates
    means = pd.DataFrame(rates).groupby(bins.index_of(at_s)).mean()
    return bins.centres_s[means.index.to_numpy()], _array(means)


def _fan(at_s: Floats, rates: Floats, levels: list[float]) -> list[Series]:
    """Bands between neighbouring levels, paler away from the median, and the median as a line."""
    middle = min(range(len(levels)), key=lambda index: abs(levels[index] - 0.5))
    fan = []
    for index, level in enumerate(levels):
        shape = Shape.FLOOR if index == 0 else Shape.BAND
        distance = index - middle if index > middle else middle - index + 1
        label = "" if index == middle else f"q{level:g}"
        fan.append(Series(label, palette.FORECAST, shape, at_s, rates[:, index], opacity=0.5 * 0.55**distance))
    name = "median" if levels[middle] == 0.5 else f"q{levels[middle]:g}"
    fan.append(Series(name, palette.FORECAST, Shape.LINE, at_s, rates[:, middle]))
    return fan


def _engine_bins(engine: pd.DataFrame, duration_s: float) -> TimeBins:
    """Bins that hold two samples of each engine, so that a late sample leaves no hole."""
    return bins_over(duration_s, least_width_s=2 * float(engine["interval_s"].median()))


def _per_replica(engine: pd.DataFrame, column: str, bins: TimeBins) -> pd.DataFrame:
    """Mean of `column` per bin (rows, all of them) and replica (columns); NaN where an engine gave no sample."""
    indices = pd.Series(bins.index_of(_floats(engine, "time_s")), index=engine.index, name="bin")
    means = engine.groupby([indices, "replica_id"])[column].mean().unstack()
    return means.reindex(range(bins.count))


def _floats(table: pd.DataFrame, column: str) -> Floats:
    return _array(table[column])


def _array(values: pd.Series | pd.DataFrame) -> Floats:
    return np.asarray(values, dtype=np.float64)
