"""The traffic monitor: one Ray actor per application that keeps the bookkeeping of `serve_app.traffic`.

It is detached and named, so that the ingress, the engines, the policy in Serve's controller and a live runner find
it, and so that none of them takes it down. It ends by itself when no ingress has reported for a while.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

import ray

from autoscaler.decision_record import DecisionRecord
from autoscaler.interface import ArrivalHistory, ReplicaState
from forecasting.interface import Forecast
from loadgen.trace import SERVICE_LABELS
from serve_app.fleet_api import Cursor, FleetPage, write_page
from serve_app.traffic import Collected, EngineSample, IngressReport, TrafficLog, TrafficView

NAMESPACE = "burstscale"
IDLE_EXIT_S = 120.0
PAGE_LINES = 500  # of decisions, and of samples: about 300 kB
# Serve's controller is asked no more often than this, by however many load generators, and so long at the most.
STATES_INTERVAL_S, STATES_TIMEOUT_S = 0.2, 4.0
FORECAST_CATCH_UP_BINS = 3600  # a forecaster that was away for so many bins loses nothing


def monitor_name(app_name: str) -> str:
    """The actor's name in the namespace 'burstscale'."""
    return f"traffic-monitor:{app_name}"


def find_monitor(app_name: str) -> Any | None:
    """The application's monitor, None where there is none (yet)."""
    try:
        return ray.get_actor(monitor_name(app_name), namespace=NAMESPACE)
    except ValueError:
        return None


def ensure_monitor(app_name: str) -> Any:
    """The application's monitor, started where there is none."""
    return (
        ray.remote(TrafficMonitor)
        .options(
            name=monitor_name(app_name),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
        )
        .remote()
    )


class TrafficMonitor:
    """The actor. Every method is short: nothing that is told to it waits."""

    def __init__(self) -> None:
        self._log: TrafficLog | None = None
        self._counters: dict[str, int] = {}
        self._heard_at_s = time.monotonic()
        self._watch: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._states: dict[str, ReplicaState] = {}
        self._states_at_s = -math.inf

    async def start(self, ingress_started_s: float, bin_s: float, history_bins: int) -> None:
        """This ingress begins to count, unless a newer one does: the history starts anew, cursors stay valid."""
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._exit_when_idle())
        if self._log is None or self._log.bin_s != bin_s:
            self._log = TrafficLog(SERVICE_LABELS, bin_s, max(history_bins, FORECAST_CATCH_UP_BINS))
        if ingress_started_s > self._log.ingress_started_s:
            self._log.start(time.time(), ingress_started_s)
        self._heard_at_s = time.monotonic()

    async def report_ingress(self, report: IngressReport) -> bool:
        """Take in a report; False = this monitor does not know the ingress yet and wants a `start` first."""
        if self._log is None or report.ingress_started_s > self._log.ingress_started_s:
            return False
        self._log.add_report(report)
        self._heard_at_s = time.monotonic()
        return True

    async def report_engine(self, sample: EngineSample) -> None:
        """Take in a replica's sample."""
        if self._log is not None:
            self._log.add_sample(sample)

    async def report_decision(self, decision: DecisionRecord) -> None:
        """Take in a decision; one with an error also counts as `policy_failures`."""
        if decision.error is not None:
            await self.count("policy_failures")
        if self._log is not None:
            self._log.add_decision(decision)

    async def publish_forecasts(self, forecasts: Mapping[str, Forecast]) -> None:
        """Replace the forecasts."""
        if self._log is not None:
            self._log.set_forecasts(forecasts)

    async def count(self, counter: str, amount: int = 1) -> None:
        """Add to a named counter (failures of the policy, of the forecaster, ends of requests by cause)."""
        self._counters[counter] = self._counters.get(counter, 0) + amount

    async def counters(self) -> dict[str, int]:
        """The named counters."""
        return dict(self._counters)

    async def arrivals(self, start_s: float) -> dict[str, ArrivalHistory]:
        """Complete bins from `start_s` on."""
        return self._log.arrivals(start_s) if self._log is not None else {}

    async def view(self, history_bins: int, sample_age_s: float) -> TrafficView:
        """What a policy may see now."""
        if self._log is None:
            return TrafficView(-math.inf, {}, {}, {}, None)
        return self._log.view(time.time(), history_bins, sample_age_s)

    async def collect(self, cursor: tuple[int, int] = (0, 0)) -> Collected:
        """Decisions and engine samples since a cursor."""
        return self._log.collect(cursor) if self._log is not None else Collected((), (), cursor, 0)

    async def fleet_page(self, app_name: str, cursor: Cursor | None) -> str:
        """The application's replicas now and a page of the log, as JSON; without a cursor from the last decision on."""
        replicas = await self._replicas(app_name)
        if self._log is None:
            return write_page(FleetPage(Collected((), (), (0, 0), 0), replicas))
        return write_page(FleetPage(self._log.collect(cursor or self._log.latest_cursor(), PAGE_LINES), replicas))

    async def _replicas(self, app_name: str) -> dict[str, ReplicaState]:
        async with self._asking:
            if time.monotonic() - self._states_at_s >= STATES_INTERVAL_S:
                self._states = await asyncio.to_thread(_engine_states, app_name)
                self._states_at_s = time.monotonic()
            return self._states

    async def _exit_when_idle(self) -> None:
        while time.monotonic() - self._heard_at_s < IDLE_EXIT_S:
            await asyncio.sleep(IDLE_EXIT_S / 10)
        # exit_actor works only inside a call, and an ordinary exit would count as a failure and restart the actor.
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def _engine_states(app_name: str) -> dict[str, ReplicaState]:
    from serve_app.serve_state import engine_states  # imports Serve: only where a load generator asks

    return engine_states(app_name, STATES_TIMEOUT_S)
