"""What is seen of the fleet at instants becomes intervals and lines, counted from the run's start."""

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decision_record import DecisionRecord, ForecastPoint
from autoscaler.interface import ReplicaState
from loadgen.records import Phase
from serve_app.fleet_api import Cursor, FleetPage
from serve_app.traffic import Collected, CutOff, EngineSample
from testbed import collector as collector_module
from testbed.collector import Collector, ReplicaTimeline
from testbed.results import read_results, write_config

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING
START_EPOCH_S = 1_000_000.0


def rows(timeline: ReplicaTimeline) -> list[tuple[str, str, float, float]]:
    table = timeline.table().drop_columns("phase")
    return [tuple(row.values()) for row in table.to_pylist()]


def test_a_replica_s_life_becomes_one_interval_per_state() -> None:
    timeline = ReplicaTimeline()
    for now_s, states in [(0.0, [("a", STARTING)]), (1.0, [("a", STARTING)]), (2.0, [("a", READY)]), (3.0, [])]:
        timeline.observe(now_s, states)
    assert rows(timeline) == [("a", "starting", 0.0, 2.0), ("a", "ready", 2.0, 3.0)]


def test_a_replica_that_is_still_there_is_in_the_table() -> None:
    timeline = ReplicaTimeline()
    timeline.observe(0.0, [("a", READY)])
    timeline.observe(5.0, [("a", READY), ("b", STARTING)])
    assert rows(timeline) == [("a", "ready", 0.0, 5.0), ("b", "starting", 5.0, 5.0)]


state_lists = st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(list(ReplicaState))), max_size=12)


@given(state_lists)
def test_at_every_instant_the_intervals_say_what_was_seen(observations: list[dict[str, ReplicaState]]) -> None:
    timeline = ReplicaTimeline()
    for second, states in enumerate(observations):
        timeline.observe(float(second), states.items())
    intervals = rows(timeline)
    for second, states in enumerate(observations[:-1]):
        held = {replica: state for replica, state, start_s, end_s in intervals if start_s <= second < end_s}
        assert held == {replica: state.value for replica, state in states.items()}


@dataclass
class Fleet:
    """A fleet that tells what a test put into it, at the test's own time."""

    now_s: float = START_EPOCH_S
    decisions: list[DecisionRecord] = field(default_factory=list)
    samples: list[EngineSample] = field(default_factory=list)
    replicas: dict[str, ReplicaState] = field(default_factory=dict)
    is_reachable: bool = True

    page_lines: int = 1000

    def ask(self, cursor: Cursor | None) -> FleetPage:
        if not self.is_reachable:
            raise ConnectionError("controller is gone")
        first, second = cursor or (max(len(self.decisions) - 1, 0), len(self.samples))
        decisions = tuple(self.decisions[first : first + self.page_lines])
        samples = tuple(self.samples[second : second + self.page_lines])
        following = first + len(decisions), second + len(samples)
        has_more = following != (len(self.decisions), len(self.samples))
        return FleetPage(Collected(decisions, samples, following, 0, has_more), dict(self.replicas))

    def clock(self) -> float:
        return self.now_s


def decision_at(epoch_s: float) -> DecisionRecord:
    forecast = ForecastPoint(epoch_s - 1.0, epoch_s + 10.0, (0.5,), (2.0,))
    return DecisionRecord(epoch_s, 2, 2, "test", 0, 1, 0, 0, 0, 0, 1.0, forecast)


def collector_of(fleet: Fleet, folder: Path) -> Collector:
    write_config(folder, {"name": "test"})
    # An interval that never passes: there is the first question, before the start, and the last one, at the end.
    return Collector(folder, fleet.ask, fleet.clock, interval_s=3600.0)


def test_instants_count_from_the_start_and_what_was_before_it_is_left_out(tmp_path: Path) -> None:
    fleet = Fleet(decisions=[decision_at(START_EPOCH_S - 9)])
    fleet.samples = [EngineSample("a", START_EPOCH_S - 9, 1.0, 1, 1, 0.5, 40)]
    with collector_of(fleet, tmp_path) as collector:
        fleet.decisions += [decision_at(START_EPOCH_S - 5), decision_at(START_EPOCH_S + 5)]
        told = EngineSample("a", START_EPOCH_S + 2.0, 1.0, 3, 1, 0.5, 40, looked_up_tokens=90, found_tokens=32)
        fleet.samples += [EngineSample("a", START_EPOCH_S - 5, 1.0, 2, 1, 0.5, 40), told]
        fleet.replicas = {"a": READY}
        collector.start(START_EPOCH_S)
        fleet.now_s = START_EPOCH_S + 10
    results = read_results(tmp_path)
    assert [line["time_s"] for line in results.decisions] == [5.0]
    assert results.decisions[0]["forecast"]["at_s"] == 15.0
    assert results.decisions[0]["forecast"]["issued_at_s"] == 4.0
    assert results.engine.to_dict("records") == [
        {
            "time_s": 2.0,
            "replica_id": "a",
            "running": 3,
            "waiting": 1,
            "kv_cache_fraction": 0.5,
            "output_tokens": 40,
            "interval_s": 1.0,
            "looked_up_tokens": 90,
            "found_tokens": 32,
        }
    ]
    assert collector.problems() == []


def test_nothing_is_collected_before_the_start_is_fixed(tmp_path: Path) -> None:
    fleet = Fleet(decisions=[decision_at(START_EPOCH_S)])
    with collector_of(fleet, tmp_path):
        pass
    assert read_results(tmp_path).decisions == []


def test_a_fleet_that_does_not_answer_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    fleet = Fleet(is_reachable=False)
    with collector_of(fleet, tmp_path) as collector:
        collector.start(START_EPOCH_S)
    (problem,) = collector.problems()
    assert "controller is gone" in problem


def test_a_fleet_that_never_answers_holds_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "_ASK_TIMEOUT_S", 0.1)
    frozen = threading.Event()

    def ask(_cursor: Cursor | None) -> FleetPage:
        frozen.wait()
        raise ConnectionError

    with Collector(tmp_path, ask, lambda: START_EPOCH_S + 5, interval_s=3600.0) as collector:
        collector.start(START_EPOCH_S)
    frozen.set()
    assert collector.problems() == ["the fleet did not answer at 5.0 s: no end within 0.1 s"]


def test_a_fleet_that_never_comes_to_an_end_is_left_after_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "_COLLECT_TIMEOUT_S", 0.1)
    page = FleetPage(Collected((), (), (0, 0), 0, has_more=True), {})
    with Collector(tmp_path, lambda _cursor: page, lambda: START_EPOCH_S, interval_s=3600.0) as collector:
        collector.start(START_EPOCH_S)
    assert collector.problems() == ["not all was told within 0.1 s after the end"]


@pytest.mark.parametrize("lost", [0, 3])
def test_lines_that_were_lost_are_a_problem(tmp_path: Path, lost: int) -> None:
    page = FleetPage(Collected((), (), (0, 0), lost), {})
    collector = Collector(tmp_path, lambda _cursor: page, lambda: START_EPOCH_S, interval_s=3600.0)
    with collector:
        collector.start(START_EPOCH_S)
    assert collector.problems() == ([f"{lost} lines were lost"] if lost else [])


def test_what_does_not_fit_a_page_is_asked_for_at_once(tmp_path: Path) -> None:
    fleet = Fleet(page_lines=2)
    with collector_of(fleet, tmp_path) as collector:
        collector.start(START_EPOCH_S)
        fleet.decisions = [decision_at(START_EPOCH_S + second) for second in range(7)]
        fleet.samples = [EngineSample("a", START_EPOCH_S + second, 1.0, 3, 1, 0.5, 40) for second in range(3)]
    results = read_results(tmp_path)
    assert [line["time_s"] for line in results.decisions] == list(range(7))
    assert results.engine["time_s"].tolist() == [0, 1, 2]


def test_the_target_at_the_start_is_the_last_that_was_decided_before_it(tmp_path: Path) -> None:
    fleet = Fleet(decisions=[replace(decision_at(START_EPOCH_S - 9), target_replicas=8)])
    with collector_of(fleet, tmp_path) as collector:
        assert collector.target_at_start() == 8
        fleet.decisions.append(replace(decision_at(START_EPOCH_S - 1), target_replicas=5))
        fleet.decisions.append(replace(decision_at(START_EPOCH_S + 1), target_replicas=3))
        collector.start(START_EPOCH_S)
    assert collector.target_at_start() == 5
    assert collector.latest is not None
    assert collector.latest.target_replicas == 3


def test_a_fleet_whose_clock_is_ahead_is_read_by_ours(tmp_path: Path) -> None:
    """Ours is 100 s behind: what the fleet saw 5 s after the start has its epoch and not ours."""
    fleet = Fleet()
    write_config(tmp_path, {"name": "test"})
    with Collector(tmp_path, fleet.ask, fleet.clock, clock_offset_s=100.0, interval_s=3600.0) as collector:
        collector.start(START_EPOCH_S)
        fleet.decisions = [decision_at(START_EPOCH_S + 99), decision_at(START_EPOCH_S + 105)]
        fleet.replicas, fleet.now_s = {"a": READY}, START_EPOCH_S + 7
    results = read_results(tmp_path)
    assert [line["time_s"] for line in results.decisions] == [5.0]
    assert results.replicas["start_s"].tolist() == [7.0]


def test_what_engines_cut_off_is_told_by_the_number_of_the_record_and_of_the_attempt(tmp_path: Path) -> None:
    """Of this run alone: another client's requests have other tags."""
    told = (
        CutOff("1a2b-7", Phase.PREFILL),
        CutOff("1a2b-11", Phase.DECODE),
        CutOff("1a2b-11.3", Phase.ENGINE_QUEUE),
        CutOff("ffff-3", Phase.DECODE),
        CutOff("1a2b-x", Phase.DECODE),
        CutOff("chosen by a client", Phase.DECODE),
    )
    fleet = Fleet()
    with collector_of(fleet, tmp_path) as collector:
        collector.start(START_EPOCH_S)
        fleet.samples = [EngineSample("a", START_EPOCH_S + 2.0, 1.0, 3, 1, 0.5, 40, cut_off=told)]
    assert collector.server_word("1a2b").cut_off == {
        (7, 1): Phase.PREFILL,
        (11, 1): Phase.DECODE,
        (11, 3): Phase.ENGINE_QUEUE,
    }


def test_a_replica_was_ready_where_an_interval_of_one_meets_the_time() -> None:
    timeline = ReplicaTimeline()
    for now_s, state in ((0.0, "starting"), (5.0, "starting"), (6.0, "ready"), (9.0, "ready"), (9.5, "draining")):
        timeline.observe(now_s, [("a", ReplicaState(state))])
    assert not timeline.had_ready_replica(0.0, 5.5)
    assert timeline.had_ready_replica(0.0, 6.0)
    assert timeline.had_ready_replica(8.0, 20.0)
    assert not timeline.had_ready_replica(9.6, 20.0)


def test_who_was_draining_is_told_from_who_was_found_dead() -> None:
    """'a' drains from 5 s on and is gone at 20; 'b' dies with its requests and is called the same a moment later."""
    timeline = ReplicaTimeline()
    timeline.observe(0.0, [("a", READY), ("b", READY)])
    timeline.observe(5.0, [("a", DRAINING), ("b", DRAINING)])
    timeline.observe(20.0, [])
    assert [timeline.was_draining("a", at_s) for at_s in (4.0, 5.5, 6.0, 20.1)] == [False, False, True, True]
    assert not timeline.was_draining("b", 4.9)
    assert not timeline.was_draining("c", 10.0)
