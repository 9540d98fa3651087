"""Simulate the fleets of several models that share the GPUs of one cluster, in lockstep."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoscaler.interface import Policy
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.fleet_run import FleetRun, SimulationResult
from autoscaler.simulator.run import forecast_feed
from autoscaler.simulator.shared_budget import FleetDemand, grant_replicas
from autoscaler.simulator.snapshots import ForecastSettings
from loadgen.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class SharingModel:
    """One model of the cluster: its traffic, policy and fleet, as `run.simulate` takes them, and its replicas' GPUs."""

    trace: Trace
    policy: Policy
    fleet: FleetConfig
    forecasting: ForecastSettings | None
    rng: np.random.Generator
    gpus_per_replica: float


class _Member:
    """One model's fleet in the cluster. It may start replicas only while some are allowed to it."""

    def __init__(self, name: str, model: SharingModel, record_interval_s: float) -> None:
        self.name = name
        self._model = model
        self._allowed = 0
        fleet = Fleet(model.trace, model.fleet, model.rng, grant=self._grant)
        feed = forecast_feed(model.trace, fleet, model.fleet, model.forecasting)
        self.run = FleetRun(model.trace, model.policy, fleet, model.fleet, feed, record_interval_s)

    @property
    def next_s(self) -> float:
        """When its policy is asked, its replicas report, or a fault acts next."""
        return min(self.run.next_s, self.run.fleet.next_fault_s)

    def demand(self, wanted: int) -> FleetDemand:
        """What the fleet holds, where it wants so many."""
        fleet = self.run.fleet
        least = self._model.fleet.limits.min_replicas
        return FleetDemand(wanted, least, fleet.present_replicas, fleet.draining_replicas, self._model.gpus_per_replica)

    def scale_to(self, wanted: int, allowed: int) -> None:
        """Take replicas away as wanted, or start some, but no more than are allowed."""
        self._allowed = allowed
        self.run.fleet.scale_to(wanted)
        self._allowed = 0

    def _grant(self, wanted: int) -> int:
        granted = min(wanted, self._allowed)
        self._allowed -= granted
        return granted


def simulate_together(
    models: Mapping[str, SharingModel],
    gpu_budget: float,
    *,
    progress: Callable[[float], None] | None = None,
    record_interval_s: float = 0.0,
) -> dict[str, SimulationResult]:
    """Serve each model's trace with its own fleet, all within `gpu_budget` GPUs; same arguments and seeds, same tables.

    Whenever a policy is asked, replicas that are wanted no more go first; then `grant_replicas` says who may start how
    many. What is wanted beyond that waits: it is looked at anew each time, also when a draining replica has gone, and
    as soon as a death is noticed: the GPUs of the dead are everybody's. The run ends for all when it would for the
    last. Initial replicas are there from the start; see that they are within the budget.

    Args:
        models: by name, in the order that decides between equal shares.
        progress, record_interval_s: as in `run.simulate`.
    """
    members = [_Member(name, model, record_interval_s) for name, model in models.items()]
    end_s, shown = math.inf, 0.0
    while (now_s := min(member.next_s for member in members)) <= end_s:
        is_struck = any(member.run.fleet.next_fault_s <= now_s for member in members)
        for member in members:
            member.run.fleet.advance(now_s)
        if is_struck:
            _decide_together(members, [], gpu_budget)
        due = [member for member in members if member.run.next_s == now_s]
        deciding = [member for member in due if member.run.is_deciding]
        if not due:
            continue
        if deciding:
            _decide_together(members, deciding, gpu_budget)
        else:
            for member in due:
                member.run.report()
        end_s = max(member.run.end_s for member in members)
        share = min(member.run.done_fraction for member in members)
        if progress is not None and share >= shown + 0.01:
            progress(share)
            shown = share
    return {member.name: member.run.close(end_s) for member in members}


def _decide_together(members: Sequence[_Member], deciding: Sequence[_Member], gpu_budget: float) -> None:
    """Ask the policies that are due; then let all fleets go on to what is wanted of them, as far as GPUs reach."""
    records = {member.name: member.run.ask() for member in deciding}
    wanted = [
        records[member.name].target_replicas if member.name in records else member.run.target_replicas
        for member in members
    ]
    for member, replicas in zip(members, wanted, strict=True):
        member.scale_to(replicas, allowed=0)
    demands = [member.demand(replicas) for member, replicas in zip(members, wanted, strict=True)]
    granted = grant_replicas(demands, gpu_budget)
    for member, demand, replicas in zip(members, demands, granted, strict=True):
        if replicas > demand.present:
            member.scale_to(demand.wanted, allowed=replicas - demand.present)
        if member.name in records:
            record = replace(records[member.name], model=member.name, granted_replicas=replicas)
            member.run.note(record)
