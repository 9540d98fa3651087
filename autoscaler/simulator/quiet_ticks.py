"""Control periods in which a policy changes nothing, passed without Python where the policy's rule is compiled."""

import math
from operator import attrgetter

import numpy as np

from autoscaler.interface import Policy
from autoscaler.policies.change_timer import ChangeTimer
from autoscaler.policies.ray_default import RayDefault
from autoscaler.simulator.control_kernel import CONTROL, TIMER, ControlLoop, Pace, pass_ray_ticks
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig

# Not `astuple`, which copies deeply: a long run comes here twice for each row of its tables.
timer_fields = attrgetter(*ChangeTimer.__slots__)
control_fields = attrgetter(*ControlLoop.__slots__)


def has_compiled_rule(policy: Policy) -> bool:
    """Whether `pass_quiet_ticks` can stand in for this policy."""
    return isinstance(policy, RayDefault)


def pass_quiet_ticks(
    policy: Policy,
    fleet: Fleet,
    config: FleetConfig,
    control: ControlLoop,
    *,
    stop_period: int,
    stop_report: int,
    end_s: float,
    trace_s: float,
) -> ControlLoop:
    """Go on to the first control period or report that is more than a repetition; returns where the loop then stands.

    That is one at which the target changes, a replica ended, a fault acts, a row of a table is due (`stop_period`,
    `stop_report`), or the run's end has to be worked out. The fleet and the policy have then seen all that came
    before, exactly as if Python had done it.
    """
    assert isinstance(policy, RayDefault), "has_compiled_rule"
    arrays, requests, rules = fleet.compiled
    timer, loop = np.zeros(1, TIMER), np.zeros(1, CONTROL)
    timer[0], loop[0] = timer_fields(policy.timer), control_fields(control)
    pace = Pace(
        period_s=config.period_s,
        metrics_interval_s=config.metrics_interval_s,
        min_replicas=config.limits.min_replicas,
        max_replicas=config.limits.max_replicas,
        stop_period=stop_period,
        stop_report=stop_report,
        stop_s=fleet.next_fault_s,
        end_s=end_s,
        trace_s=math.inf if math.isfinite(end_s) else trace_s,
    )
    window = policy.window_at(fleet.now_s)
    pass_ray_ticks(arrays, requests, rules, loop, pace, policy.settings, timer, window)
    for name, value in zip(ChangeTimer.__slots__, timer[0].item(), strict=True):
        setattr(policy.timer, name, value)
    return ControlLoop(*loop[0].item())
