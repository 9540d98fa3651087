"""When something happens in each row next, as a tree of minima: the earliest is known at once, whatever the rows.

Plain functions that are compiled along with their callers. A change takes log2(rows) steps at most.

A tree over 2^k rows is f64[2^(k + 1)]: row r is at 2^k + r, node i is the earlier of nodes 2i and 2i + 1, and node 1
is the earliest of all. Rows without a next event, and those beyond the fleet's, are at infinity.
"""

import numpy as np
from numpy.typing import NDArray


def no_events(rows: int) -> NDArray[np.float64]:
    """A tree for at least so many rows, in which nothing happens."""
    leaves = 1 << max(0, rows - 1).bit_length()
    return np.full(2 * leaves, np.inf)


def with_more_rows(tree: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """The same events in a tree for at least so many rows, which are no fewer than before."""
    more, known = no_events(rows), tree[len(tree) // 2 :]
    leaves = len(more) // 2
    more[leaves : leaves + len(known)] = known
    for node in range(leaves - 1, 0, -1):
        more[node] = min(more[2 * node], more[2 * node + 1])
    return more


def set_event(tree: NDArray[np.float64], row: int, at_s: float) -> None:
    """Something happens in this row at `at_s` next."""
    node = (len(tree) >> 1) + row
    tree[node] = at_s
    while node > 1:
        node >>= 1
        earlier_s = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == earlier_s:
            return
        tree[node] = earlier_s


def earliest_row(tree: NDArray[np.float64]) -> int:
    """The row in which something happens first, the lowest of equals."""
    node, leaves = 1, len(tree) >> 1
    while node < leaves:
        node *= 2
        node += tree[node] > tree[node + 1]
    return node - leaves
