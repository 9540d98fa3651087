"""The benchmark of the simulator measures what it says."""

from testbed.bench_simulator import TARGETS, SimulatorBenchmark, bursty_trace, fleet_speed, months_in_own_process
from testbed.bench_target import verdicts


def test_a_fleet_serves_the_whole_trace_in_the_time_that_is_taken() -> None:
    speed = fleet_speed(3000, 4)
    assert speed.requests == len(bursty_trace(3000, 8.0))
    assert 2500 < speed.requests < 3500
    assert speed.requests_per_s == speed.requests / speed.seconds > 0


def test_months_are_measured_in_a_process_of_their_own() -> None:
    months = months_in_own_process(1.0)
    assert 1000 < months["requests"] < 100_000
    assert months["seconds"] > 0
    assert months["bytes"] > 27 * months["requests"], "the trace alone takes so much"


def test_a_rate_is_to_be_at_least_its_target_and_a_time_at_most() -> None:
    good = SimulatorBenchmark(250_000, 30.0, 1_430_000, 200.0, (), ())
    assert [verdict.is_met for verdict in verdicts(TARGETS, good)] == [True] * 3
    assert good.conclusion() == "Two months pass in 30 s, 175,680 times as fast as live; every target is met."
    bad = SimulatorBenchmark(249_000, 31.0, 1_430_000, 201.0, (), ())
    assert [verdict.is_met for verdict in verdicts(TARGETS, bad)] == [False] * 3
    assert all(target.what in bad.conclusion() for target in TARGETS.values())
