"""The control loop inside Serve's controller: a daemon thread that turns traffic and fleet into a target.

Serve calls a policy ten times a second in the loop that manages every deployment of the cluster. So the call only
leaves a note and takes the latest target; all that can wait, fail or take long is done here.
"""

import logging
import re
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.metrics import Counter

from autoscaler.decision_record import record_decision
from autoscaler.interface import REPORT_KEPT_INTERVALS, ClusterSnapshot, ScalingDecision
from serve_app.config import AppConfig
from serve_app.guarded_policy import GuardedPolicy, PolicyError, build_policy
from serve_app.replica_tracker import ReplicaTracker
from serve_app.traffic import TrafficView
from serve_app.traffic_monitor import find_monitor

logger = logging.getLogger("ray.serve")

SILENCE_EXIT_S = 10.0  # Serve asks every 0.1 s; one that asks no more has replaced or deleted the deployment
MONITOR_TIMEOUT_S = 2.0
STALE_VIEW_S = 5.0
FAILURE_LOG_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class ControllerFacts:
    """What Serve's controller knows at one call.

    Attributes:
        sequence: 1, 2, ...
        running_replicas: ids of the replicas that are ready.
    """

    sequence: int
    app_name: str
    target_replicas: int
    running_replicas: tuple[str, ...]


class PolicyLoop:
    """Asks the policy once per control period, for as long as Serve's controller asks for the target."""

    def __init__(self, config: AppConfig) -> None:
        self._config = config
        self._facts: ControllerFacts | None = None
        self._target: int | None = None
        self._thread: threading.Thread | None = None
        self._tracker = ReplicaTracker()
        self._monitor: Any | None = None
        self._was_connected = False
        self._failures = Counter(
            "burstscale_policy_failures",
            description="Control periods in which the policy gave no usable decision and the replicas stayed.",
            tag_keys=("application",),
        )
        self._logged_at_s: dict[str, float] = {}
        self._failures_since_log = 0

    def advise(self, facts: ControllerFacts) -> int | None:
        """Take in the facts and give the latest target, None = stay. Returns at once."""
        self._facts = facts
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="burstscale-control", daemon=True)
            self._thread.start()
        return self._target

    def _run(self) -> None:
        seen, heard_at_s, due_s = 0, time.monotonic(), time.monotonic()
        policy = GuardedPolicy(lambda: build_policy(self._config), self._config.control.decision_timeout_s)
        while True:
            facts = self._facts
            if facts is not None and facts.sequence != seen:
                seen, heard_at_s = facts.sequence, time.monotonic()
                try:
                    self._target = self._control(facts, policy)
                except Exception as error:  # the loop goes on: replicas stay, and the next period tries again
                    self._target = None
                    self._count_failure(facts.app_name, f"{type(error).__name__}: {error}")
            elif time.monotonic() - heard_at_s > SILENCE_EXIT_S:  # nobody asks, so nothing was decided meanwhile
                break
            due_s = max(due_s + self._config.control.period_s, time.monotonic())
            time.sleep(max(due_s - time.monotonic(), 0.0))
        policy.close()
        self._target = None

    def _control(self, facts: ControllerFacts, policy: GuardedPolicy) -> int | None:
        """One control period; the new target, None = stay."""
        pulled = self._pull(facts.app_name)
        if pulled is None:
            return None
        monitor, view = pulled
        now_s = time.time()
        cluster = ClusterSnapshot(
            now_s=now_s,
            target_replicas=facts.target_replicas,
            replicas=self._tracker.update(now_s, facts.target_replicas, facts.running_replicas, view.samples),
            queued=view.queued,
            arrivals=view.arrivals,
            forecast=view.forecast,
        )
        lead_s = self._config.fleet.planned_cold_start_s
        try:
            decision = policy.decide(cluster)
        except PolicyError as failure:
            stay = ScalingDecision(facts.target_replicas, "the policy failed; replicas stay")
            record = record_decision(cluster, stay, facts.target_replicas, lead_s, error=str(failure))
            monitor.report_decision.remote(record)
            self._count_failure(facts.app_name, str(failure))
            return None
        target = self._config.fleet.limits.clamp(decision.target_replicas)
        monitor.report_decision.remote(record_decision(cluster, decision, target, lead_s))
        return target

    def _pull(self, app_name: str) -> tuple[Any, TrafficView] | None:
        """The monitor and what it knows; None while the application starts and there is nothing yet.

        Raises:
            PolicyError: it was there and is away, or the ingress has been silent. To decide on old or on no data
                would take replicas away from those who use them.
        """
        control = self._config.control
        try:
            self._monitor = self._monitor or find_monitor(app_name)
            if self._monitor is None:
                if self._was_connected:
                    raise PolicyError("the traffic monitor is away")
                return None
            reference = self._monitor.view.remote(
                control.history_bins, REPORT_KEPT_INTERVALS * control.metrics_interval_s
            )
            view: TrafficView = ray.get(reference, timeout=MONITOR_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            self._monitor = None
            raise PolicyError(f"the traffic monitor does not answer ({type(error).__name__})") from error
        age_s = time.time() - view.as_of_s
        if age_s <= STALE_VIEW_S:
            self._was_connected = True
            return self._monitor, view
        if self._was_connected:
            raise PolicyError(f"the ingress has not reported for {age_s:.0f} s")
        return None

    def _count_failure(self, app_name: str, message: str) -> None:
        """Count a failure; log it unless one of its kind was logged within FAILURE_LOG_INTERVAL_S."""
        self._failures.inc(tags={"application": app_name})
        self._failures_since_log += 1
        kind, now_s = re.sub(r"[\d.]+", "#", message), time.monotonic()
        if now_s - self._logged_at_s.get(kind, -FAILURE_LOG_INTERVAL_S) < FAILURE_LOG_INTERVAL_S:
            return
        logger.error(
            "application %s: no decision, replicas stay: %s (failure %d since the last line)",
            app_name,
            message,
            self._failures_since_log,
        )
        recent = {each: at_s for each, at_s in self._logged_at_s.items() if now_s - at_s < FAILURE_LOG_INTERVAL_S}
        self._logged_at_s = recent | {kind: now_s}
        self._failures_since_log = 0
