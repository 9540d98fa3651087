"""Turns wait for turns, users for answers; what the records say of it."""

import numpy as np
import pytest

from loadgen.pacing import BY_ARRIVAL, ByTurn, ByUser, ClosedLoop, WaitingTurns, make_schedule, shards, think_times_s
from loadgen.records import RequestRecord
from loadgen.trace import Trace, make_trace
from tests.loadgen.virtual_run import answer_after, play, request_at

UNKNOWN = float("nan")


def by_id(records: list[RequestRecord]) -> dict[int, RequestRecord]:
    assert len({record.request_id for record in records}) == len(records)
    return {record.request_id: record for record in records}


def conversations(elapsed_s: list[float] | None = None) -> Trace:
    """Two conversations, whose turns come in between each other's: 0, 2, 4 and 1, 3."""
    return make_trace(
        "t", [0.0, 1.0, 3.0, 4.0, 9.0], [5] * 5, [2] * 5, duration_s=20, session=[7, 8, 7, 8, 7], elapsed_s=elapsed_s
    )


def test_a_turn_is_due_when_the_one_before_has_ended_and_its_think_time_has_passed() -> None:
    plan = [request_at(number, scheduled_s) for number, scheduled_s in enumerate([0.0, 1.0, 3.0, 4.0, 9.0])]
    schedule = WaitingTurns(plan, [7, 8, 7, 8, 7], [UNKNOWN, UNKNOWN, 2.5, 0.5, 0.25])
    seconds = {0: 4.0, 1: 0.25, 2: 1.0, 3: 1.0, 4: 1.0}
    records = by_id(play(schedule, lambda number: answer_after(seconds[number])))
    assert {number: record.scheduled_s for number, record in records.items()} == {
        0: 0.0,
        1: 1.0,
        2: 0.0 + 4.0 + 2.5,
        3: 1.0 + 0.25 + 0.5,
        4: 0.0 + 4.0 + 2.5 + 1.0 + 0.25,
    }
    assert {number: record.planned_s for number, record in records.items()} == {
        0: None,
        1: None,
        2: 3.0,
        3: 4.0,
        4: 9.0,
    }
    assert all(record.sent_s == record.scheduled_s for record in records.values())


@pytest.mark.parametrize(("first_takes_s", "second_due_s"), [(1.0, 3.0), (5.0, 5.0)])
def test_a_turn_of_unknown_think_time_keeps_its_distance_but_never_overtakes_the_answer(
    first_takes_s: float, second_due_s: float
) -> None:
    schedule = WaitingTurns([request_at(0, 0.0), request_at(1, 3.0)], [1, 1], [UNKNOWN, UNKNOWN])
    records = by_id(play(schedule, lambda _number: answer_after(first_takes_s)))
    assert records[1].scheduled_s == second_due_s


@pytest.mark.parametrize(("think_s", "due_s"), [(0.5, 3.0), (1.5, 3.5)])
def test_a_turn_comes_also_after_one_that_failed_once_its_server_was_heard_out_and_is_sent_when_it_is_due(
    think_s: float, due_s: float
) -> None:
    """The first one's deadline is at 2 s; the server has another second to say why."""
    schedule = WaitingTurns([request_at(0, 0.0, 2.0), request_at(1, 1.0, 2.0)], [1, 1], [UNKNOWN, think_s])
    records = by_id(play(schedule, lambda number: answer_after([60.0, 1.5][number])))
    assert records[0].status == "timed_out"
    assert records[1].status == "ok"
    assert records[0].finished_s == 2.0
    assert records[1].scheduled_s == records[1].sent_s == due_s


def test_a_run_that_is_ended_has_a_record_for_each_turn_also_for_those_that_wait() -> None:
    plan = [request_at(number, float(number)) for number in range(4)]
    schedule = WaitingTurns(plan, [1, 1, 1, 2], [UNKNOWN, 1.0, 1.0, UNKNOWN])
    records = by_id(play(schedule, lambda _number: answer_after(4.0), stop_s=2.0))
    assert sorted(records) == [0, 1, 2, 3]
    assert {number for number, record in records.items() if record.sent_s is None} == {1, 2, 3}


def test_the_think_time_is_the_gap_less_the_recorded_answer_and_shrinks_with_speed() -> None:
    trace = conversations([1.0, UNKNOWN, 8.0, 1.0, 1.0])
    np.testing.assert_array_equal(think_times_s(trace, 1.0), [UNKNOWN, UNKNOWN, 2.0, UNKNOWN, 0.0])
    np.testing.assert_array_equal(think_times_s(trace.sped_up(4.0), 4.0), [UNKNOWN, UNKNOWN, 0.5, UNKNOWN, 0.0])
    assert np.isnan(think_times_s(conversations(), 1.0)).all()


def test_users_send_one_request_each_until_the_time_is_over() -> None:
    plan = [request_at(number, 0.0) for number in range(100)]
    schedule = ClosedLoop(plan, users=3, think_s=1.0, duration_s=6.0)
    records = play(schedule, lambda number: answer_after(1.0 if number % 2 else 2.0))
    # From-to: 0-2, 0-1, 0-2; a second after the end its user is free: 2-3, 3-5, 3-4, 4-6, 5-6.
    starts_s = sorted(record.scheduled_s for record in records)
    assert starts_s == [0, 0, 0, 2, 3, 3, 4, 5]
    assert sorted(record.request_id for record in records) == list(range(8))
    events = [(record.scheduled_s, 1) for record in records] + [(record.finished_s, -1) for record in records]
    assert max(np.cumsum([change for _, change in sorted(events)])) == 3


def test_a_user_without_think_time_is_not_late_after_a_request_that_got_no_word() -> None:
    schedule = ClosedLoop([request_at(number, 0.0, 2.0) for number in range(3)], 1, think_s=0.0, duration_s=1e9)
    records = by_id(play(schedule, lambda number: answer_after([60.0, 60.0, 1.0][number])))
    assert [(record.scheduled_s, record.sent_s, record.finished_s) for _, record in sorted(records.items())] == [
        (0.0, 0.0, 2.0),
        (3.0, 3.0, 5.0),
        (6.0, 6.0, 7.0),
    ]


def test_a_plan_that_ends_before_the_time_ends_the_run() -> None:
    schedule = ClosedLoop([request_at(number, 0.0) for number in range(4)], users=3, think_s=0.0, duration_s=1e9)
    assert len(play(schedule, lambda _number: answer_after(1.0))) == 4


@pytest.mark.parametrize("pacing", [BY_ARRIVAL, ByTurn(), ByUser(users=2, think_s=0.0, duration_s=1.0)])
@pytest.mark.parametrize("actors", [1, 2, 3])
def test_each_request_belongs_to_one_sender_and_sessions_that_wait_stay_together(pacing: object, actors: int) -> None:
    trace = conversations()
    rows = shards(pacing, trace, actors)  # type: ignore[arg-type]
    assert sorted(np.concatenate(rows).tolist()) == [0, 1, 2, 3, 4]
    if isinstance(pacing, ByTurn):
        assert [{int(number) for number in trace.session[part]} for part in rows] == [[{7, 8}], [{7}, {8}]][actors > 1]
    if isinstance(pacing, ByUser):
        assert len(rows) == min(actors, 2)


@pytest.mark.parametrize(("users", "senders", "expected"), [(5, 2, [3, 2]), (4, 4, [1, 1, 1, 1])])
def test_users_are_spread_over_the_senders(users: int, senders: int, expected: list[int]) -> None:
    plan = [request_at(number, 0.0) for number in range(20)]
    trace, rows = make_trace("t", np.zeros(20), [1] * 20, [1] * 20, duration_s=1), np.arange(20)
    pacing = ByUser(users, 0.0, 0.5)
    made = [make_schedule(pacing, plan, trace, rows, shard, senders) for shard in range(senders)]
    assert [len(play(schedule, lambda _number: answer_after(1.0))) for schedule in made] == expected
