"""Replicas for a quantile of the forecast over the cold start, never fewer than the reactive rule asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from autoscaler.interface import ClusterSnapshot, ScalingDecision
from autoscaler.policies.parameters import Level, NonNegative, Positive, SecondsByService
from autoscaler.policies.reactive import DRAIN_S, HOLD_S, WINDOW_S, Reactive, whole_replicas
from forecasting.interface import Forecast

FALLBACK = "no usable forecast"
# Levels are typed by people on both sides: 0.9 is meant to find 0.9, however it was computed.
LEVEL_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class ForecastPeak:
    """The highest forecast rate ahead: its quantile level, and how far ahead the forecast was looked at."""

    level: float
    requests_per_s: float
    reach_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastQuantile:
    """Replicas for a quantile of the forecast until a replica asked for now is ready; the reactive rule is the floor.

    Replicas = max(ceil(highest rate forecast within `horizon_s` / rate of one replica), what `Reactive` asks). A
    forecast that ends before the horizon is used as far as it reaches. Without a usable one (none made, too old, over
    already, no such level, not a number) the reactive rule decides alone, and the reason says so. So a bad forecast
    can cost replicas, but never takes one away.

    Where the forecast lacks the level, the nearest higher one is taken: between two quantiles nothing is known, and
    the higher one errs to the safe side. Services are summed level by level, which at high levels is as a rule more
    than the quantile of the sum, as services seldom peak together: conservative.

    Attributes:
        replica_requests_per_s: what one replica carries within the SLO (see autoscaler.capacity).
        horizon_s: how far ahead to look: the cold start plus the control period, after which the next decision takes
            over. `with_fleet_defaults` fills it in from the fleet's configuration.
        level: the quantile; higher keeps more replicas in reserve.
        stale_after_s: a forecast issued longer ago is not used. It is renewed once per bin, so that the limit is never
            under two bins.
        window_s, hold_s, drain_s, patience_s: the reactive floor's, see `Reactive`. The forecast of a patient service
            is left out as its arrivals are: its backlog is what counts.
    """

    replica_requests_per_s: Positive
    horizon_s: Positive
    level: Level = 0.9
    stale_after_s: Positive = 30.0
    window_s: Positive = WINDOW_S
    hold_s: NonNegative = HOLD_S
    drain_s: Positive = DRAIN_S
    patience_s: SecondsByService = field(default_factory=dict)

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """Take the larger of what the forecast and the reactive rule ask for."""
        reactive = Reactive(
            replica_requests_per_s=self.replica_requests_per_s,
            window_s=self.window_s,
            hold_s=self.hold_s,
            drain_s=self.drain_s,
            patience_s=self.patience_s,
        ).decide(cluster)
        peak = self._peak(cluster)
        if isinstance(peak, str):
            return ScalingDecision(reactive.target_replicas, f"{FALLBACK} ({peak}): reactive {reactive.reason}")
        wanted = whole_replicas(peak.requests_per_s / self.replica_requests_per_s)
        replicas = max(wanted, reactive.target_replicas)
        return ScalingDecision(
            replicas,
            f"q{peak.level:g} of {peak.requests_per_s:.3g} requests/s within {peak.reach_s:.3g} s -> {wanted}; "
            f"reactive {reactive.reason}; max {replicas}",
        )

    def _peak(self, cluster: ClusterSnapshot) -> ForecastPeak | str:
        """The peak of the usable forecast, or why there is none."""
        forecasts = {name: ahead for name, ahead in (cluster.forecast or {}).items() if name not in self.patience_s}
        if not forecasts:
            return "none was made" if not cluster.forecast else "none for a service that can't wait"
        for forecast in forecasts.values():
            if problem := self._problem(forecast, cluster.now_s):
                return problem
        end_s = min(cluster.now_s + self.horizon_s, *(_ends_s(forecast) for forecast in forecasts.values()))
        return forecast_peak(forecasts, self.level, cluster.now_s, end_s)

    def _problem(self, forecast: Forecast, now_s: float) -> str | None:
        """Why a forecast can't be used; None where it can."""
        age_s = now_s - forecast.issued_at_s
        limit_s = max(self.stale_after_s, 2 * forecast.bin_s)
        if age_s > limit_s:
            return f"it is {age_s:.3g} s old, limit {limit_s:.3g}"
        if _ends_s(forecast) <= now_s:
            return f"it ended {now_s - _ends_s(forecast):.3g} s ago"
        if self.level > forecast.levels[-1] + LEVEL_TOLERANCE:
            return f"it has no level {self.level:g} or above, its highest is {forecast.levels[-1]:g}"
        if not np.isfinite(forecast.values[_level_row(forecast, self.level)]).all():
            return "it holds values that are no numbers"
        return None


def forecast_peak(forecasts: Mapping[str, Forecast], level: float, start_s: float, end_s: float) -> ForecastPeak:
    """The highest rate in [start_s, end_s) of the sum over services of the quantile `level` (or the next higher one).

    The services' bins need not be aligned: the sum of steps changes only where one of them does. Every forecast holds a
    level >= `level` and reaches `end_s`.
    """
    instants_s = {start_s}
    for forecast in forecasts.values():
        edges_s = forecast.issued_at_s + forecast.bin_s * np.arange(forecast.values.shape[1])
        instants_s.update(edges_s[(edges_s > start_s) & (edges_s < end_s)].tolist())
    rows = {name: _level_row(forecast, level) for name, forecast in forecasts.items()}
    peak_per_s = max(
        sum(_rate_at(forecast, rows[name], instant_s) for name, forecast in forecasts.items())
        for instant_s in instants_s
    )
    used_level = max(float(forecast.levels[rows[name]]) for name, forecast in forecasts.items())
    return ForecastPeak(used_level, peak_per_s, end_s - start_s)


def is_fallback(reason: str) -> bool:
    """Whether a decision's reason says that the reactive rule decided without a forecast."""
    return reason.startswith(FALLBACK)


def _level_row(forecast: Forecast, level: float) -> int:
    """The row of the lowest quantile at or above `level`."""
    return int(np.searchsorted(forecast.levels, level - LEVEL_TOLERANCE))


def _rate_at(forecast: Forecast, row: int, instant_s: float) -> float:
    """Requests per second of the bin that holds an instant; before the first bin, those of the first."""
    # The tolerance keeps an instant that is a bin's own edge, computed as above, out of the bin before it.
    index = int((instant_s - forecast.issued_at_s) / forecast.bin_s + 1e-9)
    requests = float(forecast.values[row, min(max(index, 0), forecast.values.shape[1] - 1)])
    return requests / forecast.bin_s


def _ends_s(forecast: Forecast) -> float:
    """The end of the forecast's last bin."""
    bins: int = forecast.values.shape[1]
    return forecast.issued_at_s + forecast.bin_s * bins
