"""A trace of five requests, traces drawn with every column, and what it means that two are the same."""

from dataclasses import fields

import numpy as np
from hypothesis import strategies as st

from loadgen.prefix import PrefixBlocks
from loadgen.trace import Trace, make_trace


def small_trace() -> Trace:
    """Two services, two models, and two requests at one instant."""
    return make_trace(
        "small",
        [0.0, 0.5, 0.5, 3.25, 9.999],
        [10, 20, 0, 40, 50],
        [1, 2, 0, 4, 5],
        duration_s=10.0,
        service=[0, 1, 0, 1, 0],
        model=[0, 1, 1, 0, 1],
        session=[7, 8, 7, 2**40, -3],
        model_names=("ChatGPT", "GPT-4"),
    )


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Up to thirty requests, with and without the optional columns."""
    duration_s = draw(st.floats(1e-3, 1e7))
    shares = draw(st.lists(st.floats(0, 1, exclude_max=True), max_size=30))
    arrivals = np.minimum(np.sort(np.array(shares)) * duration_s, np.nextafter(duration_s, 0))
    rows = len(shares)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    first = np.concatenate([[0], np.cumsum(rng.integers(0, 4, rows))])
    elapsed_s = rng.exponential(5.0, rows)
    elapsed_s[rng.random(rows) < 0.2] = np.nan
    return make_trace(
        draw(st.text()),
        arrivals,
        rng.integers(0, 2**31, rows),
        rng.integers(0, 2**31, rows),
        duration_s=duration_s,
        service=rng.integers(0, 2, rows),
        model=rng.integers(0, 3, rows),
        session=rng.integers(-(2**63), 2**63 - 1, rows),
        model_names=("a", draw(st.text()), "c"),
        elapsed_s=draw(st.sampled_from([None, elapsed_s])),
        output_is_limit=draw(st.sampled_from([None, rng.random(rows) < 0.5])),
        prefix=draw(st.sampled_from([None, PrefixBlocks(512, first, rng.integers(0, 9, first[-1]))])),
    )


def assert_same(one: object, other: object) -> None:
    """Every field is equal, columns in type and bits."""
    for field in fields(one):  # type: ignore[arg-type]
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, PrefixBlocks):
            assert_same(left, right)
        elif isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, field.name
            assert left.tobytes() == right.tobytes(), field.name
        else:
            assert left == right, field.name
