"""Any mix of faults within a minute, for tests of what no run may break."""

from hypothesis import strategies as st

from autoscaler.simulator.faults import (
    LostMetrics,
    NodeDeath,
    ProvisioningBlocked,
    RandomDeaths,
    ReplicaDeath,
    SlowStart,
    StaleForecast,
)


def fault_mixes(longest_s: float) -> st.SearchStrategy[tuple[object, ...]]:
    """Up to five faults in [0, longest_s)."""
    at_s = st.floats(0.0, longest_s).map(lambda value: round(value, 1))
    window = st.tuples(at_s, st.sampled_from([0.1, 1.0, longest_s / 2])).map(lambda pair: (pair[0], sum(pair)))
    windows = st.one_of(
        *(
            window.map(lambda pair, kind=kind: kind(*pair))
            for kind in (ProvisioningBlocked, LostMetrics, StaleForecast)
        ),
        window.map(lambda pair: SlowStart(*pair, factor=3.0)),
    )
    deaths = st.one_of(
        st.builds(ReplicaDeath, at_s, st.integers(1, 3)),
        st.builds(NodeDeath, at_s),
        window.map(lambda pair: RandomDeaths(longest_s / 4, *pair)),
    )
    return st.lists(st.one_of(windows, deaths), max_size=5).map(tuple)
