"""The forecaster in its own Ray actor: it reads complete bins from the traffic monitor and publishes forecasts."""

import asyncio
import logging
import math
import time
from typing import Any

import numpy as np
import ray

from autoscaler.interface import ArrivalHistory
from forecasting.interface import Forecast, Forecaster
from forecasting.registry import make_forecaster
from loadgen.trace import SERVICE_LABELS
from serve_app.config import ForecasterSettings
from serve_app.traffic_monitor import find_monitor

logger = logging.getLogger("ray.serve")

POLL_INTERVAL_S = 0.5
CALL_TIMEOUT_S = 5.0
FAILURE_LOG_INTERVAL_S = 10.0


class ServiceForecasts:
    """One forecaster per service, fed bin by bin. No Ray, no clock."""

    def __init__(self, settings: ForecasterSettings) -> None:
        self._settings = settings
        self._forecasters: dict[str, Forecaster] = {}
        self.next_bin_s: float | None = None  # start of the first bin that was not observed yet

    def observe(self, arrivals: dict[str, ArrivalHistory]) -> bool:
        """Take in arrivals in the monitor's bins; True where at least one more forecast bin is complete.

        `arrivals` begins at `next_bin_s`, at any earlier or, after a gap, at a later time. A gap (an ingress was lost)
        means that nobody knows what came in: the forecasters start anew, because zeros would be a lie.
        """
        if not arrivals:
            return False
        history = next(iter(arrivals.values()))
        bin_s = self._settings.bin_s
        first_full_s = math.ceil(round(history.start_s / bin_s, 6)) * bin_s
        if self.next_bin_s is None or first_full_s > self.next_bin_s + bin_s / 2:
            self._restart(first_full_s)
        assert self.next_bin_s is not None
        skipped = round((self.next_bin_s - history.start_s) / history.bin_s)
        per_bin = round(bin_s / history.bin_s)
        complete = (len(history.requests) - skipped) // per_bin
        if complete <= 0:
            return False
        for service, series in arrivals.items():
            counts = series.requests[skipped : skipped + complete * per_bin].reshape(complete, per_bin).sum(axis=1)
            self._forecasters[service].observe(np.asarray(counts, dtype=np.float64))
        self.next_bin_s += complete * bin_s
        return True

    def forecast(self) -> dict[str, Forecast]:
        """Forecasts over the horizon, by service label."""
        bins = math.ceil(self._settings.horizon_s / self._settings.bin_s)
        return {service: forecaster.forecast(bins) for service, forecaster in self._forecasters.items()}

    def _restart(self, start_s: float) -> None:
        settings = self._settings
        self.next_bin_s = start_s
        self._forecasters = {
            service: make_forecaster(
                settings.name, bin_s=settings.bin_s, levels=settings.levels, start_s=start_s, **settings.params
            )
            for service in SERVICE_LABELS
        }


class ForecastService:
    """The actor: polls the monitor and publishes. What fails is logged and counted; the forecast then gets stale."""

    def __init__(self, app_name: str, settings: ForecasterSettings) -> None:
        self._app_name = app_name
        self._forecasts = ServiceForecasts(settings)
        self._logged_at_s = -math.inf

    async def run(self) -> None:
        """Forecast for as long as the actor lives."""
        while True:
            monitor = await asyncio.to_thread(find_monitor, self._app_name)
            if monitor is not None:
                await self._refresh(monitor)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _refresh(self, monitor: Any) -> None:
        try:
            start_s = self._forecasts.next_bin_s
            arrivals = await asyncio.wait_for(
                monitor.arrivals.remote(-math.inf if start_s is None else start_s), CALL_TIMEOUT_S
            )
            # A fit may take seconds: in a thread, so that the actor still answers.
            if await asyncio.to_thread(self._forecasts.observe, arrivals):
                forecasts = await asyncio.to_thread(self._forecasts.forecast)
                await asyncio.wait_for(monitor.publish_forecasts.remote(forecasts), CALL_TIMEOUT_S)
        except Exception:  # the control loop goes on with a stale forecast, and the policy sees its age
            monitor.count.remote("forecast_failures")
            if time.monotonic() - self._logged_at_s > FAILURE_LOG_INTERVAL_S:
                self._logged_at_s = time.monotonic()
                logger.exception("no new forecast for application %s", self._app_name)


def start_forecaster(app_name: str, settings: ForecasterSettings) -> tuple[Any, Any]:
    """Start a forecaster actor; (its handle, the reference that becomes ready when it fails).

    It belongs to the calling process and ends with it, or with the handle.
    """
    forecaster = ray.remote(ForecastService).options(num_cpus=0).remote(app_name, settings)
    return forecaster, forecaster.run.remote()
