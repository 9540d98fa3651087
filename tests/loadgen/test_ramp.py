"""A ramp keeps the requests and their order, and replaces their instants."""

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.ramp import Ramp, read_ramp, with_ramp
from loadgen.trace import Trace, make_trace


def three() -> Trace:
    return make_trace("t", [0.0, 1.0, 2.0], [11, 12, 13], [1, 2, 3], duration_s=5, session=[4, 4, 9])


@pytest.mark.parametrize(("first", "last"), [(10.0, 10.0), (0.0, 20.0), (20.0, 0.0), (5.0, 15.0)])
def test_arrivals_grow_as_the_rate_in_a_straight_line(first: float, last: float) -> None:
    ramp = Ramp(first, last, 1000.0)
    trace = with_ramp(three(), ramp, np.random.default_rng(3))
    edges_s = np.linspace(0, 1000, 11)
    counts = np.histogram(trace.arrival_s, edges_s)[0]
    middle_s = (edges_s[1:] + edges_s[:-1]) / 2
    expected = (first + (last - first) * middle_s / 1000) * 100
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(expected) + 1)
    assert np.all(np.diff(trace.arrival_s) >= 0)
    assert trace.arrival_s[-1] < trace.duration_s == 1000.0


def test_the_requests_come_in_their_order_and_again_from_the_start_in_sessions_of_their_own() -> None:
    trace = with_ramp(three(), Ramp(10.0, 10.0, 1.0), np.random.default_rng(0))
    assert len(trace) > 6
    assert trace.prompt_tokens[:7].tolist() == [11, 12, 13, 11, 12, 13, 11]
    sessions = trace.session[:6].tolist()
    assert sessions[0] == sessions[1] != sessions[2]
    assert not set(sessions[:3]) & set(sessions[3:])


def test_a_ramp_is_drawn_alike_from_the_same_seed() -> None:
    drawn = [with_ramp(three(), Ramp(1.0, 9.0, 20.0), np.random.default_rng(5)).arrival_s for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("text", ["", "1:2", "1:2:x", "-1:2:3", "1:2:0", "0:0:9", "nan:1:1", "1:inf:1", "1:2:3:4"])
def test_what_is_no_ramp_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="want FROM:TO:SECONDS"):
        read_ramp(text)


def test_a_ramp_without_an_arrival_is_refused() -> None:
    with pytest.raises(InputError, match="the ramp has no arrival"):
        with_ramp(three(), Ramp(0.0, 1e-9, 1.0), np.random.default_rng(0))
    assert read_ramp("1:20:600") == Ramp(1.0, 20.0, 600.0)
