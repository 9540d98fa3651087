"""Cold starts as phases: presets, medians, what the table shows of them, and warm pools."""

import math
from dataclasses import replace

import numpy as np
import pytest
from small_engines import TOKENS_AND_SEQUENCES

from autoscaler.interface import Priority, ReplicaState, ScalingLimits, ServiceClass, Slo
from autoscaler.simulator.cold_start import PRESETS, ColdStart, Phase, plain_start
from autoscaler.simulator.faults import ProvisioningBlocked, SlowStart
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.replica_starts import WarmPool
from autoscaler.simulator.tables import replica_table
from loadgen.trace import make_trace

FLEET = FleetConfig(
    hardware=TOKENS_AND_SEQUENCES,
    limits=ScalingLimits(0, 20),
    initial_replicas=1,
    cold_start_s=5.0,
    max_ongoing_requests=8,
    services={"conversation": ServiceClass(Priority.INTERACTIVE, Slo(2.0, 0.2, 30.0))},
)
TWO_PHASES = ColdStart((Phase("weights", 3.0, 0.0), Phase("compile", 2.0, 0.0)))


def fleet_of(config: FleetConfig, seed: int = 0, *, grant: object = None) -> Fleet:
    quiet = make_trace("one", [0.0], [10], [5], duration_s=1.0)
    return Fleet(quiet, config, np.random.default_rng(seed), grant=grant)  # type: ignore[arg-type]


def follow(fleet: Fleet, *targets: tuple[float, int], end_s: float) -> list[tuple[str, str, float, float, str | None]]:
    """Scale at these instants; the rows of the table of replicas."""
    for at_s, target_replicas in targets:
        fleet.advance(at_s)
        fleet.scale_to(target_replicas)
    fleet.advance(end_s)
    fleet.close()
    return [tuple(row.values()) for row in replica_table(fleet.lives, fleet.pool_members, end_s).to_pylist()]


@pytest.mark.parametrize(("name", "seconds"), [("sleeping", 0.6), ("warm", 70), ("cold", 294), ("cold-with-node", 414)])
def test_the_phases_of_a_preset_add_up_to_what_it_is_known_for(name: str, seconds: float) -> None:
    assert PRESETS[name].median_s == pytest.approx(seconds)


def test_each_phase_is_lognormal_around_its_median() -> None:
    start = ColdStart((Phase("weights", 60.0, 0.3), Phase("compile", 20.0, 0.1), Phase("wake", 1.0, 0.0)))
    rng = np.random.default_rng(1)
    drawn = np.array([[seconds for _, seconds in start.draw(rng)] for _ in range(4000)])
    # the standard error of the mean of 4,000 logarithms is sigma / 63
    assert np.log(drawn[:, 0]).mean() == pytest.approx(math.log(60.0), abs=0.02)
    assert np.log(drawn[:, 0]).std() == pytest.approx(0.3, abs=0.015)
    assert np.median(drawn[:, 1]) == pytest.approx(20.0, rel=0.01)
    assert (drawn[:, 2] == 1.0).all()


def test_the_median_of_a_start_is_that_of_its_phases_and_a_little_more() -> None:
    rng = np.random.default_rng(1)
    drawn = [sum(seconds for _, seconds in PRESETS["cold"].draw(rng)) for _ in range(4000)]
    # at most exp(0.2^2 / 2) = 2.02 % more; the standard error of this median is 0.2 %
    assert 294.0 * 1.006 < np.median(drawn) < 294.0 * 1.024


def test_the_table_shows_each_phase_of_a_start() -> None:
    rows = follow(fleet_of(replace(FLEET, cold_start=TWO_PHASES)), (10.0, 2), end_s=20.0)
    assert rows == [
        ("replica-0", "ready", 0.0, 20.0, None),
        ("replica-1", "starting", 10.0, 13.0, "weights"),
        ("replica-1", "starting", 13.0, 15.0, "compile"),
        ("replica-1", "ready", 15.0, 20.0, None),
    ]


def test_a_start_that_is_cancelled_ends_in_the_phase_it_was_in() -> None:
    rows = follow(fleet_of(replace(FLEET, cold_start=TWO_PHASES)), (10.0, 2), (12.0, 1), end_s=20.0)
    assert rows[1:] == [("replica-1", "starting", 10.0, 12.0, "weights")]


def test_a_start_in_one_piece_has_no_phase() -> None:
    rows = follow(fleet_of(FLEET), (10.0, 2), end_s=20.0)
    assert rows[1:] == [("replica-1", "starting", 10.0, 15.0, None), ("replica-1", "ready", 15.0, 20.0, None)]


def test_phases_that_do_not_add_up_to_the_cold_start_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the phases take 5\.0 s, cold_start_s is 6\.0"):
        replace(FLEET, cold_start_s=6.0, cold_start=TWO_PHASES)


def test_starts_come_from_the_warm_pool_while_it_has_any_and_it_is_filled_in_the_background() -> None:
    fleet = fleet_of(replace(FLEET, warm_pool=WarmPool(replicas=2, start=plain_start(0.5))))
    rows = follow(fleet, (10.0, 4), (12.0, 5), (16.0, 6), end_s=20.0)
    ready_s = {name: start_s for name, state, start_s, _, _ in rows if state == "ready"}
    # at 10 s two of three come from the pool, at 12 s it is empty, at 16 s two have been filled in (from 10 s on)
    assert ready_s == {
        "replica-0": 0.0,
        "replica-1": 10.5,
        "replica-2": 10.5,
        "replica-3": 15.0,
        "replica-4": 17.0,
        "replica-5": 16.5,
    }
    assert [row for row in rows if row[0].startswith("pool")] == [
        ("pool-0", "pooled", 0.0, 10.0, None),
        ("pool-1", "pooled", 0.0, 10.0, None),
        ("pool-2", "filling", 10.0, 15.0, None),
        ("pool-2", "pooled", 15.0, 16.0, None),
        ("pool-3", "filling", 10.0, 15.0, None),
        ("pool-3", "pooled", 15.0, 20.0, None),
        ("pool-4", "filling", 16.0, 20.0, None),
    ]


def test_a_warm_pool_helps_where_nothing_new_can_be_provisioned_but_is_not_filled() -> None:
    blocked = replace(
        FLEET,
        warm_pool=WarmPool(replicas=1, start=plain_start(0.5)),
        faults=(ProvisioningBlocked(5.0, 30.0), SlowStart(5.0, 30.0, factor=4.0)),
    )
    rows = follow(fleet_of(blocked), (10.0, 3), end_s=40.0)
    assert ("replica-1", "ready", 10.5, 40.0, None) in rows
    assert ("replica-2", "starting", 10.0, 30.0, "blocked") in rows
    assert ("replica-2", "starting", 30.0, 35.0, None) in rows
    assert ("pool-1", "filling", 10.0, 35.0, None) in rows


def test_no_more_replicas_start_than_are_granted_and_the_rest_is_asked_for_again() -> None:
    asked: list[int] = []

    def grant(wanted: int) -> int:
        asked.append(wanted)
        return 1

    fleet = fleet_of(FLEET, grant=grant)
    for at_s in (1.0, 2.0):
        fleet.advance(at_s)
        fleet.scale_to(4)
    assert [replica.state for replica in fleet.replicas()] == [ReplicaState.READY] + [ReplicaState.STARTING] * 2
    assert asked == [3, 2]
