"""What must hold in a fleet at every instant, and over every run: nothing is lost, nothing comes from nowhere."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from autoscaler.simulator.engine_copy import engine_as_objects
from autoscaler.simulator.engine_invariants import check_engine
from autoscaler.simulator.engine_state import EngineLimits
from autoscaler.simulator.fleet_kernel import run_until
from autoscaler.simulator.fleet_reports import replica_name
from autoscaler.simulator.fleet_state import DRAINING, ENDED, FREE, READY, Fate, FleetArrays, Rules

# Sums of millions of floats in different order.
ROUNDING_FRACTION = 1e-6


class BrokenInvariantError(AssertionError):
    """The simulator contradicts itself; never the user's fault."""


def check_fleet(fleet: FleetArrays, requests: NDArray[np.void], limits: EngineLimits) -> None:
    """Hold requests, tokens and KV blocks against each other; at any instant at which all that was due has happened.

    Raises:
        BrokenInvariantError: when and where what does not add up.
    """
    at_s = float(fleet.clock["now_s"][0])
    for where, broken in (*_broken_requests(fleet, requests), *_broken_replicas(fleet, requests, limits)):
        raise BrokenInvariantError(f"at {at_s:.6f} s, {where}: {broken}")


def run_and_check_until(fleet: FleetArrays, requests: NDArray[np.void], rules: Rules, until_s: float) -> None:
    """Do what `run_until` does, from one event in a replica or arrival to the next, and check after each."""
    while True:
        arrived = int(fleet.clock["arrived"][0])
        arrival_s = float(requests["arrival_s"][arrived]) if arrived < len(requests) else np.inf
        next_s = min(float(fleet.next_s.min()), arrival_s)
        run_until(fleet, requests, rules, min(next_s, until_s))
        check_fleet(fleet, requests, rules.limits)
        if next_s > until_s:
            return


def check_littles_law(records: pa.Table, request_seconds: float) -> None:
    """Hold the time that the records say (lambda W) against the integral of the number in the system (N).

    Both are over the whole run, so that the law is an identity: N T = lambda T W, T the run's length.

    Args:
        records: of all requests, each of which has ended.
        request_seconds: the number of requests in the system, integrated while the run went on.

    Raises:
        BrokenInvariantError: they differ.

    Source: J. D. C. Little, A Proof for the Queuing Formula L = lambda W, Operations Research 9 (1961).
    """
    waited_s = float((records["finished_s"].to_numpy() - records["scheduled_s"].to_numpy()).sum())
    if abs(waited_s - request_seconds) > ROUNDING_FRACTION * max(1.0, request_seconds):
        raise BrokenInvariantError(
            f"Little's law: the requests' records add up to {waited_s:.6f} s in the system, "
            f"the number in the system over time to {request_seconds:.6f} s"
        )


def _broken_requests(fleet: FleetArrays, requests: NDArray[np.void]) -> Iterator[tuple[str, str]]:
    """(place, what is wrong) of the requests and the router's queue."""
    clock, fates = fleet.clock[0], requests["fate"]
    ended = fates >= Fate.OK
    if (fates[clock["arrived"] :] != Fate.COMING).any():
        yield "requests", "one that has not arrived has a fate"
    if int(ended.sum()) != clock["ended"]:
        yield "requests", f"{int(ended.sum())} have ended, {clock['ended']} were counted"
    if not np.array_equal(np.isfinite(requests["finished_s"]), ended):
        yield "requests", "the instant of the end is there exactly where a request has ended"
    ok = requests[fates == Fate.OK]
    if (ok["received_tokens"] != ok["output_tokens"]).any():
        yield "requests", "one ended ok without all of its tokens"
    for index, service in enumerate(fleet.services):
        queued = requests[(fates == Fate.QUEUED) & (requests["service"] == index)]
        if len(queued) != service["queued"] or int(queued["prompt_tokens"].sum()) != service["queued_prompt_tokens"]:
            yield (
                f"queue of service {index}",
                f"{len(queued)} requests of {int(queued['prompt_tokens'].sum())} prompt tokens wait, "
                f"{service['queued']} of {service['queued_prompt_tokens']} were counted",
            )


def _broken_replicas(fleet: FleetArrays, requests: NDArray[np.void], limits: EngineLimits) -> Iterator[tuple[str, str]]:
    """(place, what is wrong) of the replicas and their engines."""
    inside = requests["fate"] == Fate.IN_ENGINE
    held = 0
    for row, replica in enumerate(fleet.replicas):
        state, name = int(replica["state"]), replica_name(int(replica["number"]))
        if state in (FREE, ENDED):
            continue
        engine = engine_as_objects(fleet, row)
        here = np.flatnonzero(inside & (requests["row"] == row))
        held += len(here)
        if len(here) != engine.state.running + engine.state.waiting:
            yield name, f"{len(here)} requests are in it, its engine has {engine.state.running + engine.state.waiting}"
        if state not in (READY, DRAINING):
            continue
        at_work = [engine.slots[int(requests["slot"][request])] for request in here]
        if [slot.request for slot in at_work] != here.tolist():
            yield name, "a request is not in the slot that it was given"
        if len(here) > 0 and replica["steps"] == 0:
            yield name, f"it stands still with {len(here)} requests"
        served = (requests["replica"] == replica["number"]) & ~inside
        tokens = sum(slot.produced_tokens for slot in at_work) + int(requests["received_tokens"][served].sum())
        made = engine.state.output_tokens
        if tokens > made or (tokens < made and fleet.clients is None):  # those of attempts before the last are not kept
            yield name, f"its requests have {tokens} tokens, its engine made {made}"
        try:
            check_engine(engine, limits)
        except AssertionError as broken:
            yield name, f"untrue: {broken}"
    if held != int(inside.sum()):
        yield "requests", f"{int(inside.sum()) - held} are in the engines of replicas that are gone"
