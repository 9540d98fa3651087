"""The checks of the simulator against itself: they hold, and each kind of error that is planted is found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fault_mixes import fault_mixes
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import HARDWARE, ONE_AT_A_TIME, config, fleet_of, trace

from autoscaler.policies import make_policy
from autoscaler.simulator import fleet_run
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.invariants import BrokenInvariantError, check_littles_law
from autoscaler.simulator.run import simulate
from autoscaler.simulator.tables import record_table


def busy_fleet() -> Fleet:
    """Two replicas with requests in their engines, one request at the router, some that have ended."""
    sent = trace(np.arange(20) * 0.02, 10, [3, 40] * 10)
    fleet = fleet_of(sent, config(initial_replicas=2, max_ongoing_requests=4))
    fleet.advance(0.35)
    fates = fleet.requests.fate
    assert {int(Fate.QUEUED), int(Fate.IN_ENGINE), int(Fate.OK), int(Fate.COMING)} <= set(fates.tolist())
    fleet.check()
    return fleet


def lose_a_queued_request(fleet: Fleet) -> None:
    fleet.requests.fate[np.flatnonzero(fleet.requests.fate == Fate.QUEUED)[0]] = Fate.COMING


def forget_a_request_in_an_engine(fleet: Fleet) -> None:
    fleet.requests.fate[np.flatnonzero(fleet.requests.fate == Fate.IN_ENGINE)[0]] = Fate.QUEUED


def end_a_request_twice(fleet: Fleet) -> None:
    fleet.compiled[0].clock["ended"] += 1


def leak_a_block(fleet: Fleet) -> None:
    fleet.compiled[0].states["free_blocks"][1] -= 1


def make_a_token_from_nothing(fleet: Fleet) -> None:
    fleet.compiled[0].states["output_tokens"][0] += 1


def swap_two_slots(fleet: Fleet) -> None:
    inside = np.flatnonzero((fleet.requests.fate == Fate.IN_ENGINE) & (fleet.requests.row == 0))
    fleet.requests.slot[inside[:2]] = fleet.requests.slot[inside[:2]][::-1]


def stand_still(fleet: Fleet) -> None:
    fleet.compiled[0].replicas["steps"][0] = 0


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lose_a_queued_request, r"at 0\.350000 s, queue of service 0: \d+ requests of \d+ prompt tokens wait, "),
        (forget_a_request_in_an_engine, "at 0.350000 s, queue of service 0: "),
        (end_a_request_twice, r"requests: \d+ have ended, \d+ were counted"),
        (leak_a_block, "replica-1: untrue: blocks are held or free"),
        (make_a_token_from_nothing, r"replica-0: its requests have \d+ tokens, its engine made \d+"),
        (swap_two_slots, "replica-0: a request is not in the slot that it was given"),
        (stand_still, r"replica-0: it stands still with \d requests"),
    ],
)
def test_a_planted_error_is_found_and_the_message_says_when_and_where(
    plant: Callable[[Fleet], None], message: str
) -> None:
    fleet = busy_fleet()
    plant(fleet)
    with pytest.raises(BrokenInvariantError, match=message):
        fleet.check()


def test_the_flag_finds_an_error_at_the_step_after_it() -> None:
    sent = trace(np.arange(20) * 0.02, 10, [3, 40] * 10)
    fleet = fleet_of(sent, config(initial_replicas=2, max_ongoing_requests=4, check_invariants=True))
    fleet.advance(0.2)
    leak_a_block(fleet)
    with pytest.raises(BrokenInvariantError, match=r"at 0\.2\d+ s, replica-1: untrue: blocks are held or free"):
        fleet.advance(100.0)


@settings(max_examples=25, deadline=None)
@given(
    gaps_s=st.lists(st.sampled_from([0.0, 0.02, 0.5]), min_size=1, max_size=20),
    faults=fault_mixes(10.0),
    blocks=st.integers(24, 60),
    seed=st.integers(0, 99),
)
def test_under_any_mix_of_faults_nothing_breaks_at_any_step_and_checking_changes_nothing(
    gaps_s: list[float], faults: tuple[object, ...], blocks: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = len(gaps_s)
    sent = trace(np.cumsum(gaps_s), rng.integers(1, 60, count), rng.integers(1, 30, count))
    plain = config(
        hardware=replace(HARDWARE, kv_cache_tokens=4 * blocks),
        initial_replicas=2,
        faults=faults,
        failure_notice_s=0.5,
        cold_start_s=1.0,
    )
    results = [
        simulate(
            sent,
            make_policy("ray-default", upscale_delay_s=1.0, downscale_delay_s=2.0, look_back_period_s=2.0),
            replace(plain, check_invariants=is_checked),
            rng=np.random.default_rng(seed),
        )
        for is_checked in (False, True)
    ]
    assert results[0].records.equals(results[1].records)
    assert results[0].replicas.equals(results[1].replicas)
    assert results[0].engine.equals(results[1].engine)


def test_littles_law_holds_on_every_run_and_a_wrong_table_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = trace([0.0, 1.0, 1.5], 10, [20, 30, 5])
    policy = make_policy("static", replicas=1)
    result = simulate(sent, policy, config(), rng=np.random.default_rng(0))
    time_s = result.records["finished_s"].to_numpy() - result.records["scheduled_s"].to_numpy()
    check_littles_law(result.records, float(time_s.sum()))

    def late_table(*arguments: object) -> object:
        records = record_table(*arguments)  # type: ignore[arg-type]
        place = records.schema.get_field_index("finished_s")
        late_s = records["finished_s"].to_numpy() + np.array([0.0, 0.0, 0.01])
        return records.set_column(place, records.schema.field(place), [late_s])

    monkeypatch.setattr(fleet_run, "record_table", late_table)
    with pytest.raises(BrokenInvariantError, match="Little's law: the requests' records add up to"):
        simulate(sent, policy, config(), rng=np.random.default_rng(0))


def test_the_number_in_the_system_is_integrated_as_by_hand() -> None:
    # three steps of 0.01 s each, one request at a time: in the system in [0, 0.03) and in [0.01, 0.06)
    fleet = fleet_of(trace([0.0, 0.01], 10, [3, 3]), config(hardware=ONE_AT_A_TIME))
    fleet.advance(10.0)
    assert fleet.request_seconds == pytest.approx(0.03 + 0.05)
