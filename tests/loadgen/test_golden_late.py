"""A client that is late by known amounts: which requests failed by their schedule, and which from their sending."""

from collections.abc import Callable

import pytest

from loadgen.client import StreamClient
from loadgen.client_config import ClientConfig
from loadgen.dispatcher import Dispatcher
from loadgen.records import RequestRecord, records_table
from loadgen.retries import Retrying
from loadgen.run_clock import RunClock
from loadgen.schedule import OpenLoop, Schedule
from loadgen.target import Target
from loadgen.validity import failed_requests
from tests.loadgen.virtual_loop import Answer, VirtualLoop
from tests.loadgen.virtual_run import START_S, request_at, status_after

DEADLINE_S = 2.0
DUE_S = 0.25
SENT_S = 1.125  # 0.875 s late, so that the scheduled deadline is 1.125 s after the sending
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'2c\r\ndata: {"choices":[{"index":0,"text":"a"}]}\n\n\r\n'
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def stream(first_s: float, done_s: float | None = None) -> Answer:
    """A token so long after the sending, and perhaps another with the answer's end."""
    return Answer([(first_s, HEAD + TOKEN), *([] if done_s is None else [(done_s, TOKEN + DONE)])])


# Each answer beside its record: (status, cause, first token and end after the sending, closed so long after it).
KINDS: dict[str, tuple[Answer, tuple[str, str | None, float | None, float, float | None]]] = {
    "within both": (stream(0.25, 1.0), ("ok", None, 0.25, 1.0, None)),
    "at the scheduled deadline": (stream(0.25, 1.125), ("ok", None, 0.25, 1.125, None)),
    "after the scheduled deadline": (stream(0.25, 1.140625), ("timed_out", "sent_late", 0.25, 1.140625, None)),
    "begun after it": (stream(1.5, 1.75), ("timed_out", "sent_late", 1.5, 1.75, None)),
    "just before the deadline from the sending": (
        stream(0.25, 1.984375),
        ("timed_out", "sent_late", 0.25, 1.984375, None),
    ),
    "after both": (stream(0.25, 2.015625), ("timed_out", "deadline_in_engine", 0.25, 2.0, 2.0)),
    "one token, then no word": (stream(0.25), ("timed_out", "deadline_in_engine", 0.25, 2.0, 2.0)),
    "one late token, then no word": (stream(1.5), ("timed_out", "deadline_in_engine", 1.5, 2.0, 2.0)),
    "one token after both": (stream(2.25), ("timed_out", "deadline_in_queue", 2.25, 2.25, 2.25)),
    "no word": (Answer([]), ("timed_out", "deadline_in_queue", None, 2.0, 3.0)),
    "a reset before the scheduled deadline": (
        Answer([(0.25, HEAD + TOKEN)], 0.5, ConnectionResetError()),
        ("failed", "stream_cut", 0.25, 0.5, None),
    ),
    "a reset after it": (
        Answer([(0.25, HEAD + TOKEN)], 1.5, ConnectionResetError()),
        ("timed_out", "deadline_in_engine", 0.25, 1.5, None),
    ),
    "refused": (status_after(0.5, 503), ("rejected", "queue_full", None, 0.5, None)),
    "refused after the scheduled deadline": (
        status_after(1.5, 503),
        ("timed_out", "deadline_in_queue", None, 1.5, None),
    ),
    "the server's own deadline": (status_after(2.5, 504), ("timed_out", "deadline_in_queue", None, 2.5, None)),
}
NAMES = list(KINDS)


def replay_late(
    schedule: Schedule,
    answer_for: Callable[[int], Answer],
    *,
    busy_until_s: float = SENT_S,
    stop_s: float | None = None,
    on_record: Callable[[RequestRecord], None] | None = None,
) -> tuple[dict[int, RequestRecord], VirtualLoop]:
    """The records by id, of a client that does nothing from 0.125 s on until `busy_until_s`."""
    loop = VirtualLoop(answer_for)
    records: dict[int, RequestRecord] = {}

    def keep(record: RequestRecord) -> None:
        records[record.request_id] = record

    async def run() -> None:
        async with StreamClient(Target("http://10.0.0.1:1", "m")) as client:
            clock = RunClock(START_S, loop.time)
            dispatcher = Dispatcher(client, schedule, clock, lambda *_: None, on_record or keep)
            loop.call_at(START_S + 0.125, loop.stall, busy_until_s - 0.125)
            if stop_s is not None:
                loop.call_at(START_S + stop_s, dispatcher.stop)
            await dispatcher.run()
            assert not client._pool.opening
            assert client.open_connections == len(client._pool._idle)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return records, loop


def plan_of(count: int, due_s: float = DUE_S) -> OpenLoop:
    return OpenLoop([request_at(number, due_s, DEADLINE_S) for number in range(count)])


def test_a_late_request_has_its_whole_time_and_fails_by_its_schedule_all_the_same() -> None:
    records, loop = replay_late(plan_of(len(NAMES)), lambda number: KINDS[NAMES[number]][0])
    assert sorted(records) == list(range(len(NAMES)))
    for number, record in records.items():
        name = NAMES[number]
        status, cause, first_s, end_s, closed_s = KINDS[name][1]
        assert (record.scheduled_s, record.sent_s) == (DUE_S, SENT_S), name
        assert (record.status, record.cause) == (status, cause), name
        assert record.first_token_s == (None if first_s is None else SENT_S + first_s), name
        assert record.finished_s == SENT_S + end_s, name
        if closed_s is not None:
            assert loop.aborted_s[number] == START_S + SENT_S + closed_s, name


def test_failures_by_schedule_and_by_send_are_both_counted() -> None:
    records, _ = replay_late(plan_of(len(NAMES)), lambda number: KINDS[NAMES[number]][0])
    # Two of the fifteen kinds are ok by their schedule, and three more when the deadline counts from the sending.
    assert failed_requests(records_table(records.values())) == {"by_schedule": 13, "by_send": 10}


@pytest.mark.parametrize(
    ("due_s", "is_late"), [(0.0, False), (1.125, False), (1.109375, False), (0.125, True), (1.09375, True)], ids=str
)
def test_only_a_request_that_was_sent_late_stays_open_longer(due_s: float, is_late: bool) -> None:
    """An answer a 64th of a second before the deadline is in time for those who were sent no later than that."""
    records, _ = replay_late(plan_of(1, due_s), lambda _: stream(0.25, 1.984375))
    assert records[0].cause == ("sent_late" if is_late else None)
    assert records[0].finished_s == records[0].sent_s + 1.984375  # type: ignore[operator]


def test_a_request_that_is_sent_after_its_deadline_has_its_whole_time_too() -> None:
    records, loop = replay_late(plan_of(2), lambda number: [stream(0.5, 1.5), Answer([])][number], busy_until_s=5.0)
    assert [(record.cause, record.finished_s) for _, record in sorted(records.items())] == [
        ("sent_late", 6.5),
        ("deadline_in_queue", 7.0),
    ]
    assert loop.aborted_s[1] == START_S + 8.0


def test_what_is_ended_with_the_run_after_its_deadline_timed_out() -> None:
    records, _ = replay_late(plan_of(2), lambda number: [Answer([]), stream(0.25)][number], stop_s=2.5)
    assert [(record.status, record.cause, record.finished_s) for _, record in sorted(records.items())] == [
        ("timed_out", "deadline_in_queue", 2.5),
        ("timed_out", "deadline_in_engine", 2.5),
    ]


@pytest.mark.parametrize(
    ("second_end_s", "cause", "finished_s"),
    # Sent at 1.125, refused at 1.375 and sent again at once: open until 3.125, two seconds after the first sending.
    [(0.875, None, 2.25), (1.5, "sent_late", 2.875), (1.875, "deadline_in_engine", 3.125)],
)
def test_a_request_that_is_sent_again_has_its_time_from_the_first_sending(
    second_end_s: float, cause: str | None, finished_s: float
) -> None:
    answers = [status_after(0.25, 503), stream(0.25, second_end_s)]
    schedule = Retrying(plan_of(1), ClientConfig(max_attempts=2, backoff_s=0.0), seed=0)
    last: list[RequestRecord] = []

    def settle(record: RequestRecord) -> None:
        settled = schedule.settle(record)[1]
        if settled is not None:
            last.append(settled)

    replay_late(schedule, lambda _: answers.pop(0), on_record=settle)
    (record,) = last
    assert (record.sent_s, record.attempts, record.cause, record.finished_s) == (SENT_S, 2, cause, finished_s)
