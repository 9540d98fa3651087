"""The rule by which fleets share GPUs: worked examples, and what holds whatever they hold and want."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.shared_budget import FleetDemand, grant_replicas


def demand(wanted: int, present: int = 0, *, least: int = 0, draining: int = 0, gpus: float = 1.0) -> FleetDemand:
    return FleetDemand(wanted, least, present, draining, gpus)


@pytest.mark.parametrize(
    ("demands", "gpu_budget", "granted"),
    [
        ([demand(2, 1), demand(5, 1)], 6, [2, 4]),  # the example of the docstring
        ([demand(2, 1), demand(5, 1)], 100, [2, 5]),
        ([demand(2, 1), demand(5, 1)], 2, [1, 1]),
        ([demand(4), demand(4)], 3, [2, 1]),  # equal shares: by order
        ([demand(1, 4), demand(5, 1)], 6, [1, 2]),  # what drains is not free yet
        ([demand(1, 1, draining=3), demand(5, 1)], 6, [1, 2]),
        ([demand(1, 1), demand(5, 1)], 6, [1, 5]),
        ([demand(10, 6), demand(2, 0, least=1)], 7, [6, 1]),  # the minimum goes first, though it lacks only one
        ([demand(10, 2), demand(2, 0, least=1, gpus=4)], 5, [2, 0]),  # three GPUs are kept for the minimum
        ([demand(10, 2), demand(2, 1, least=1, gpus=4)], 9, [5, 1]),  # beyond its minimum the large one waits
        ([demand(10, 2), demand(0, 0, least=1, gpus=4)], 5, [5, 0]),  # who does not want it is kept nothing
        ([demand(3, 5), demand(1, 0)], 4, [3, 0]),  # more is held than there is: nobody starts
        ([demand(20, gpus=0.1)], 1, [10]),  # ten tenths are one GPU
        ([], 4, []),
    ],
)
def test_who_gets_how_many(demands: list[FleetDemand], gpu_budget: float, granted: list[int]) -> None:
    assert grant_replicas(demands, gpu_budget) == granted


anyone = st.builds(
    FleetDemand,
    wanted=st.integers(0, 12),
    least=st.integers(0, 4),
    present=st.integers(0, 10),
    draining=st.integers(0, 4),
    gpus_per_replica=st.sampled_from([1.0, 2.0, 4.0, 8.0]),
)
fleets = st.lists(anyone, min_size=1, max_size=5)
budgets = st.integers(0, 60)


def started_gpus(demands: list[FleetDemand], granted: list[int]) -> float:
    return sum(
        max(0, count - each.present) * each.gpus_per_replica for each, count in zip(demands, granted, strict=True)
    )


def free_gpus(demands: list[FleetDemand], gpu_budget: float) -> float:
    return gpu_budget - sum(each.held_gpus for each in demands)


@given(demands=fleets, gpu_budget=budgets)
def test_never_more_gpus_than_there_are_nor_more_replicas_than_wanted(
    demands: list[FleetDemand], gpu_budget: int
) -> None:
    granted = grant_replicas(demands, gpu_budget)
    assert started_gpus(demands, granted) <= max(0.0, free_gpus(demands, gpu_budget))
    for each, count in zip(demands, granted, strict=True):
        assert min(each.wanted, each.present) <= count <= each.wanted


@given(demands=fleets)
def test_who_has_room_gets_what_is_wanted(demands: list[FleetDemand]) -> None:
    assert grant_replicas(demands, 5 * 26 * 8) == [each.wanted for each in demands]


@given(demands=fleets, gpu_budget=budgets)
def test_nobody_goes_beyond_a_minimum_while_another_lacks_it(demands: list[FleetDemand], gpu_budget: int) -> None:
    granted = grant_replicas(demands, gpu_budget)
    pairs = list(zip(demands, granted, strict=True))
    if any(count < min(each.least, each.wanted) for each, count in pairs):
        assert all(count <= max(each.present, each.least) for each, count in pairs)


@given(demands=fleets, gpu_budget=budgets)
def test_minimums_that_fit_together_are_all_given(demands: list[FleetDemand], gpu_budget: int) -> None:
    promised = sum(max(0, min(each.least, each.wanted) - each.present) * each.gpus_per_replica for each in demands)
    if promised <= free_gpus(demands, gpu_budget):
        granted = grant_replicas(demands, gpu_budget)
        assert all(count >= min(each.least, each.wanted) for each, count in zip(demands, granted, strict=True))


@given(demands=fleets, gpu_budget=budgets)
def test_no_gpu_is_left_idle_that_somebody_could_use_but_for_a_minimum(
    demands: list[FleetDemand], gpu_budget: int
) -> None:
    granted = grant_replicas(demands, gpu_budget)
    left = free_gpus(demands, gpu_budget) - started_gpus(demands, granted)
    waiting = [each for each, count in zip(demands, granted, strict=True) if count < each.wanted]
    lacking = any(count < min(each.least, each.wanted) for each, count in zip(demands, granted, strict=True))
    assert lacking or all(each.gpus_per_replica > left for each in waiting)


@given(
    demands=st.lists(anyone.filter(lambda each: each.gpus_per_replica == 1.0), min_size=2, max_size=5),
    gpu_budget=budgets,
)
def test_who_got_one_more_lacked_the_larger_share(demands: list[FleetDemand], gpu_budget: int) -> None:
    granted = grant_replicas(demands, gpu_budget)
    for giver, had in zip(demands, granted, strict=True):
        if had > max(giver.present, giver.least):
            before = giver.unmet_fraction(had - 1)
            assert all(
                other.unmet_fraction(count) <= before
                for other, count in zip(demands, granted, strict=True)
                if count < other.wanted
            )


@given(demands=fleets, gpu_budget=budgets)
def test_asking_again_changes_nothing(demands: list[FleetDemand], gpu_budget: int) -> None:
    granted = grant_replicas(demands, gpu_budget)
    assert grant_replicas(demands, gpu_budget) == granted
    after = [
        FleetDemand(each.wanted, each.least, max(each.present, count), each.draining, each.gpus_per_replica)
        for each, count in zip(demands, granted, strict=True)
    ]
    assert grant_replicas(after, gpu_budget) == granted
