"""What the policy sees of a simulated fleet: as late and as coarse as it is live."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import ArrivalHistory, ClusterSnapshot, QueueSnapshot
from autoscaler.simulator.faults import Fault, StaleForecast, holds
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from forecasting.interface import Forecast, Forecaster
from forecasting.registry import make_forecaster
from loadgen.trace import SERVICE_LABELS, Trace

# resent_between(start_s, end_s) -> (service i8[n], at_s f64[n]) of what clients sent again in that time.
ResentBetween = Callable[[float, float], tuple[NDArray[np.int8], NDArray[np.float64]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSettings:
    """Which forecaster runs, one for each service.

    Attributes:
        name, params: of `forecasting.registry.FORECASTERS`.
        bin_s: length of a bin of its series.
        horizon_s: how far ahead it forecasts.
        levels: quantiles, increasing.
    """

    name: str
    bin_s: float
    horizon_s: float
    levels: tuple[float, ...]
    params: Mapping[str, Any] = field(default_factory=dict)

    def make_forecasters(self, services: Iterable[str], start_s: float = 0.0) -> dict[str, Forecaster]:
        """A new forecaster for each service, for series that begin at `start_s`."""
        return {
            service: make_forecaster(self.name, bin_s=self.bin_s, levels=self.levels, start_s=start_s, **self.params)
            for service in services
        }


class ArrivalCounts:
    """Arrivals of each service per bin of `bin_s`, of which only complete bins are given out.

    Bin 0 starts with the trace. Before it come those bins, without arrivals, that are whole within `idle_s`. A request
    that is sent again arrives again, as it does at the live ingress.

    Args:
        resent_between: says what was sent again; None = nothing ever is.
    """

    def __init__(
        self,
        trace: Trace,
        services: Iterable[str],
        bin_s: float,
        idle_s: float = 0.0,
        resent_between: ResentBetween | None = None,
    ) -> None:
        self.bin_s = bin_s
        self._resent_between = resent_between
        self.first_bin = -math.floor(idle_s / bin_s + 1e-9)
        self._counts: dict[str, NDArray[np.unsignedinteger]] = {}  # as narrow as they may be: months have many seconds
        for label in services:
            arrivals_s = trace.arrival_s[trace.service == SERVICE_LABELS.index(label)]
            bins, arrivals = np.unique(self._bins_of(arrivals_s), return_counts=True)
            counts = np.zeros(bins.max(initial=-1) + 1, np.min_scalar_type(arrivals.max(initial=0)))
            counts[bins] = arrivals
            self._counts[label] = counts

    def complete_bins(self, now_s: float) -> int:
        """How many bins have ended by now."""
        return math.floor(now_s / self.bin_s + 1e-9)

    def bins(self, service: str, first: int, end: int) -> NDArray[np.float64]:
        """The counts of complete bins first..end-1, f64[end - first]; 0 before the trace and after what came last."""
        bins = np.zeros(end - first)
        known = self._counts[service][max(first, 0) : max(end, 0)]
        offset = max(-first, 0)
        bins[offset : offset + len(known)] = known
        if self._resent_between is not None:
            # a bin more on either side: which bin an instant at an edge belongs to is said in one place
            services, at_s = self._resent_between((first - 1) * self.bin_s, (end + 1) * self.bin_s)
            places = self._bins_of(at_s[services == SERVICE_LABELS.index(service)]) - first
            bins += np.bincount(places[(places >= 0) & (places < end - first)], minlength=end - first)
        bins.flags.writeable = False
        return bins

    def _bins_of(self, at_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """The bin of each instant, i64[n]."""
        return np.floor(at_s / self.bin_s + 1e-9).astype(np.int64)


def what_is_resent(fleet: Fleet) -> ResentBetween | None:
    """What the clients of a fleet send again, up to its now; None = each sends once and waits."""
    clients, requests = fleet.compiled[0].clients, fleet.requests
    if clients is None:
        return None

    def resent_between(start_s: float, end_s: float) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        resent_s = clients.resent_s[: clients.resent_count[0]]
        first, end = np.searchsorted(resent_s, (start_s, end_s))
        return requests.service[clients.resent[first:end]], resent_s[first:end]

    return resent_between


class ForecastFeed:
    """Gives forecasters each bin when it is complete, and keeps their latest forecasts."""

    def __init__(
        self,
        forecasters: Mapping[str, Forecaster],
        counts: ArrivalCounts,
        horizon_s: float,
        faults: Sequence[Fault] = (),
    ) -> None:
        self._faults = faults
        self._forecasters = forecasters
        self._counts = counts
        self._ahead_bins = max(1, math.ceil(horizon_s / counts.bin_s - 1e-9))
        self._observed_bins = counts.first_bin
        self.latest: dict[str, Forecast] | None = None

    def update(self, now_s: float) -> None:
        """Observe what has become complete by now and forecast anew; nothing happens while a bin is under way."""
        complete = self._counts.complete_bins(now_s)
        if complete == self._observed_bins or holds(self._faults, StaleForecast, now_s):
            return
        latest = {}
        for service, forecaster in self._forecasters.items():
            forecaster.observe(self._counts.bins(service, self._observed_bins, complete))
            latest[service] = forecaster.forecast(self._ahead_bins)
        self._observed_bins, self.latest = complete, latest


class SnapshotMaker:
    """Makes the policy's snapshots of a fleet, from what has been reported by then."""

    def __init__(
        self,
        trace: Trace,
        config: FleetConfig,
        forecasts: ForecastFeed | None,
        resent_between: ResentBetween | None = None,
    ) -> None:
        self._config = config
        self._services = [label for label in SERVICE_LABELS if label in config.services]
        self._counts = ArrivalCounts(trace, self._services, config.arrivals_bin_s, config.idle_s, resent_between)
        self._forecasts = forecasts

    def snapshot(self, fleet: Fleet, target_replicas: int) -> ClusterSnapshot:
        """The fleet as the policy sees it now: replicas as last reported, the queue as it is, complete bins."""
        if self._forecasts is not None:
            self._forecasts.update(fleet.now_s)
        return ClusterSnapshot(
            now_s=fleet.now_s,
            target_replicas=target_replicas,
            replicas=tuple(fleet.replicas()),
            queued={SERVICE_LABELS[index]: QueueSnapshot(*queue) for index, queue in enumerate(fleet.queue())},
            arrivals={label: self._history(label, fleet.now_s) for label in self._services},
            forecast=self._forecasts.latest if self._forecasts is not None else None,
        )

    def _history(self, service: str, now_s: float) -> ArrivalHistory:
        complete = self._counts.complete_bins(now_s)
        first = max(self._counts.first_bin, complete - self._config.history_bins)
        return ArrivalHistory(
            first * self._counts.bin_s, self._counts.bin_s, self._counts.bins(service, first, complete)
        )
