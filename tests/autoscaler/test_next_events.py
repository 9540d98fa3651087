"""The tree of next events knows what a look at every row would find."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.next_events import earliest_row, no_events, set_event, with_more_rows

TIMES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, np.inf])  # few, so that rows often tie


@given(st.integers(1, 20), st.integers(0, 20), st.data())
def test_the_earliest_row_is_the_lowest_of_those_with_the_least_time(
    rows: int, added: int, data: st.DataObject
) -> None:
    tree, times = no_events(rows), np.full(rows, np.inf)
    changes = st.lists(st.tuples(st.integers(0, rows - 1), TIMES), max_size=40)
    for row, at_s in data.draw(changes):
        set_event(tree, row, at_s)
        times[row] = at_s
        assert tree[1] == times.min()
        if np.isfinite(times.min()):
            assert earliest_row(tree) == int(np.argmin(times))
    grown = with_more_rows(tree, rows + added)
    assert grown[1] == tree[1]
    assert np.isinf(tree[1]) or earliest_row(grown) == earliest_row(tree)
    set_event(grown, rows + added - 1, -1.0)
    assert (grown[1], earliest_row(grown)) == (-1.0, rows + added - 1)


def test_one_row_is_a_tree_as_well() -> None:
    tree = no_events(1)
    assert tree[1] == np.inf
    set_event(tree, 0, 4.0)
    assert (tree[1], earliest_row(tree)) == (4.0, 0)
