"""The ingress's report to the traffic monitor, several times a second; it also starts the monitor and forecaster."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from autoscaler.interface import QueueSnapshot
from serve_app.config import AppConfig
from serve_app.forecast_service import start_forecaster
from serve_app.traffic import ArrivalCounter, IngressReport
from serve_app.traffic_monitor import ensure_monitor

logger = logging.getLogger("ray.serve")

PUSH_INTERVAL_S = 0.25
PUSH_TIMEOUT_S = 5.0


class TrafficPush:
    """Sends reports from the ingress's event loop. Requests never wait for it."""

    def __init__(
        self,
        app_name: str,
        config: AppConfig,
        arrivals: ArrivalCounter,
        read_queue: Callable[[], Mapping[str, QueueSnapshot]],
    ) -> None:
        self._app_name = app_name
        self._config = config
        self._arrivals = arrivals
        self._read_queue = read_queue
        self._monitor: Any | None = None
        self._forecaster: Any | None = None
        self._forecaster_end: asyncio.Future[Any] | None = None
        self._unsent: IngressReport | None = None
        self._started_s = time.time()
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to report, from the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._push_forever())

    def count(self, counter: str) -> None:
        """Add one to a counter of the monitor, without waiting."""
        if self._monitor is not None:
            self._monitor.count.remote(counter)

    async def _push_forever(self) -> None:
        due_s = time.monotonic()
        while True:
            try:
                await asyncio.wait_for(self._push(), PUSH_TIMEOUT_S)
            except Exception as error:  # the control loop goes on; a report that was not taken is sent again
                logger.warning("the report to the traffic monitor failed (%s); it is sent again", error)
                self._monitor = None
            due_s = max(due_s + PUSH_INTERVAL_S, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())

    async def _push(self) -> None:
        monitor: Any = self._monitor
        if monitor is None:
            monitor = self._monitor = await asyncio.to_thread(ensure_monitor, self._app_name)
        if self._unsent is None:
            self._sequence += 1
            self._unsent = IngressReport(
                self._started_s, self._sequence, time.time(), self._arrivals.take(), dict(self._read_queue())
            )
        if await monitor.report_ingress.remote(self._unsent):
            self._unsent = None
            self._keep_forecaster()
        else:  # the first report, or the monitor was lost and is new: its history starts now
            control = self._config.control
            await monitor.start.remote(self._started_s, control.arrivals_bin_s, control.history_bins)

    def _keep_forecaster(self) -> None:
        """Start the forecaster, again where it was lost."""
        settings = self._config.forecaster
        if settings is None or (self._forecaster_end is not None and not self._forecaster_end.done()):
            return
        if self._forecaster_end is not None:
            logger.error("the forecaster was lost (%s); a new one is started", self._forecaster_end.exception())
            self.count("forecaster_restarts")
        self._forecaster, end = start_forecaster(self._app_name, settings)
        self._forecaster_end = asyncio.wrap_future(end.future())
