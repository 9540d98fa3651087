"""The control loop in compiled code, for policies whose rule is compiled: it goes on for as long as nothing changes.

A month of control periods of a second is millions of them, and a call of Python takes longer than most of them last.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoscaler.policies import change_timer, ray_rule
from autoscaler.policies.change_timer import ChangeTimer
from autoscaler.policies.ray_rule import OngoingWindow, RaySettings, forget_old, mean_ongoing, ray_step
from autoscaler.simulator.compiled import allow_in_compiled_code, compiled, compiled_inner, record_type
from autoscaler.simulator.fleet_kernel import run_until
from autoscaler.simulator.fleet_state import ENDED, READY, STARTING, FleetArrays, Rules
from autoscaler.simulator.replica_kernel import report_all

allow_in_compiled_code(change_timer, ray_rule)

TIMER = record_type(ChangeTimer)


@dataclass(slots=True)
class ControlLoop:
    """Where the control loop stands: the next of its periods and of the metrics reports, and its target."""

    periods: int
    reports: int
    target_replicas: int


CONTROL = record_type(ControlLoop)


class Pace(NamedTuple):
    """When control periods and reports are due, and where Python takes over again.

    Attributes:
        stop_period, stop_report: the next ones that Python is to do.
        stop_s: when a fault acts next; Python does what is due from then on.
        end_s: the run's end; infinity = not known yet.
        trace_s: the end is to be worked out once so much time has passed and every request has ended.
    """

    period_s: float
    metrics_interval_s: float
    min_replicas: int
    max_replicas: int
    stop_period: int
    stop_report: int
    stop_s: float
    end_s: float
    trace_s: float


@compiled_inner
def count_rows(fleet: FleetArrays, state: int) -> int:
    """The rows in one state."""
    rows = 0
    for row in range(len(fleet.replicas)):
        rows += fleet.replicas[row].state == state
    return rows


@compiled_inner
def reported_ongoing(fleet: FleetArrays) -> int:
    """The requests at the router, and those that replicas that do not drain have reported."""
    ongoing = 0
    for index in range(len(fleet.services)):
        ongoing += fleet.services[index].queued
    for row in range(len(fleet.replicas)):
        replica = fleet.replicas[row]
        if replica.state == STARTING or replica.state == READY:
            ongoing += replica.reported_running + replica.reported_waiting
    return ongoing


@compiled_inner
def stays(
    fleet: FleetArrays,
    control: NDArray[np.void],
    pace: Pace,
    settings: RaySettings,
    timer: NDArray[np.void],
    window: OngoingWindow,
    now_s: float,
) -> bool:
    """Whether the rule leaves the target as it is at this tick; where it does not, nothing has happened yet."""
    target = control[0].target_replicas
    ready = count_rows(fleet, READY)
    if ready + count_rows(fleet, STARTING) != target or not forget_old(window, now_s - settings.look_back_period_s):
        return False
    before = timer[0].direction, timer[0].since_s, timer[0].is_over, timer[0].over_at_target
    ongoing = mean_ongoing(window, now_s, float(reported_ongoing(fleet)))
    asked = ray_step(settings, timer[0], ongoing, ready, target, now_s).target
    if min(max(asked, pace.min_replicas), pace.max_replicas) == target:
        return True
    window.bounds[1] -= 1
    timer[0].direction, timer[0].since_s, timer[0].is_over, timer[0].over_at_target = before
    return False


@compiled
def pass_ray_ticks(
    fleet: FleetArrays,
    requests: NDArray[np.void],
    rules: Rules,
    control: NDArray[np.void],
    pace: Pace,
    settings: RaySettings,
    timer: NDArray[np.void],
    window: OngoingWindow,
) -> None:
    """Pass control periods and reports, one by one, up to the first that Python has to do."""
    while True:
        control_s = control[0].periods * pace.period_s
        report_s = control[0].reports * pace.metrics_interval_s
        now_s = min(control_s, report_s)
        is_control = control_s <= report_s
        if now_s >= pace.stop_s or now_s > pace.end_s:
            return
        if control[0].periods >= pace.stop_period or control[0].reports >= pace.stop_report:
            return
        run_until(fleet, requests, rules, now_s)
        if count_rows(fleet, ENDED) > 0 or (fleet.clock[0].ended == len(requests) and now_s >= pace.trace_s):
            return
        if not is_control:
            report_all(fleet, rules, now_s)
            control[0].reports += 1
        elif stays(fleet, control, pace, settings, timer, window, now_s):
            control[0].periods += 1
        else:
            return
