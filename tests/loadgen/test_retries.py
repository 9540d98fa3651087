"""What does not end well is sent again within its deadline; each attempt is told, and each request has one record."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from loadgen.client_config import ClientConfig
from loadgen.pacing import WaitingTurns
from loadgen.records import RequestRecord
from loadgen.retries import Attempt, AttemptWriter, Retrying, attempt_of, read_attempts, retry_after_s, with_attempt
from loadgen.schedule import OpenLoop, Schedule
from tests.loadgen.virtual_loop import Answer, VirtualLoop
from tests.loadgen.virtual_run import answer_after, play, request_at, status_after

# Without jitter: pauses of 0.5, 1, 2, 4, 8, 8, ... s.
PLAIN = ClientConfig(jitter_fraction=0.0)


def play_with_retries(
    schedule: Schedule,
    answers: Callable[[int, int], Answer],
    client: ClientConfig = PLAIN,
    stop_s: float | None = None,
) -> tuple[dict[int, RequestRecord], list[Attempt]]:
    """Records by id, and attempts; `answers` go by the request and the attempt, from 1."""
    retrying = Retrying(schedule, client, seed=1)
    attempts: list[Attempt] = []
    records: dict[int, RequestRecord] = {}
    sent: Counter[int] = Counter()

    def answer_for(number: int) -> Answer:
        sent[number] += 1
        return answers(number, sent[number])

    def on_record(record: RequestRecord) -> None:
        attempt, last = retrying.settle(record)
        attempts.extend([attempt] if attempt else [])
        if last is not None:
            assert last.request_id not in records
            records[last.request_id] = last

    play(retrying, answer_for, stop_s=stop_s, on_record=on_record)
    assert Counter(attempt.request_id for attempt in attempts) == sent
    return records, attempts


def again(max_attempts: int) -> ClientConfig:
    """Up to so many attempts, without jitter."""
    return replace(PLAIN, max_attempts=max_attempts)


def test_pauses_double_and_the_record_tells_of_the_first_sending_and_the_last_end() -> None:
    def answers(_number: int, attempt: int) -> Answer:
        return status_after(0.25, 503) if attempt < 4 else answer_after(1.0)

    records, attempts = play_with_retries(OpenLoop([request_at(0, 1.0)]), answers, again(4))
    # 1 to 1.25, pause 0.5; 1.75 to 2, pause 1; 3 to 3.25, pause 2; 5.25 to 6.25.
    assert [(attempt.attempt, attempt.sent_s, attempt.finished_s) for attempt in attempts] == [
        (1, 1.0, 1.25),
        (2, 1.75, 2.0),
        (3, 3.0, 3.25),
        (4, 5.25, 6.25),
    ]
    assert [attempt.status for attempt in attempts] == ["rejected"] * 3 + ["ok"]
    record = records[0]
    assert (record.scheduled_s, record.sent_s, record.finished_s) == (1.0, 1.0, 6.25)
    assert (record.status, record.attempts) == ("ok", 4)


def test_a_request_is_given_up_after_its_retries_as_its_last_attempt_ended() -> None:
    records, attempts = play_with_retries(OpenLoop([request_at(0, 0.0)]), lambda *_: status_after(0.25, 500), again(3))
    assert (records[0].status, records[0].cause, records[0].attempts) == ("failed", "bad_status", 3)
    assert len(attempts) == 3


def test_an_attempt_that_a_stall_put_off_beyond_the_deadline_does_not_end_before_it_was_sent() -> None:
    def answers(_number: int, attempt: int) -> Answer:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        if attempt == 1:
            loop.call_later(0.5, loop.stall, 2.0)
        return status_after(0.25, 503) if attempt == 1 else answer_after(1.0)

    records, attempts = play_with_retries(OpenLoop([request_at(0, 0.0, deadline_s=1.0)]), answers, again(3))
    # 0 to 0.25, pause 0.5; from 0.5 to 2.5 nothing is done; the deadline was at 1.
    assert [(attempt.sent_s, attempt.finished_s) for attempt in attempts] == [(0.0, 0.25), (2.5, 2.5)]
    assert (records[0].status, records[0].cause) == ("timed_out", "deadline_in_queue")
    assert (records[0].sent_s, records[0].finished_s, records[0].attempts) == (0.0, 2.5, 2)


def test_what_the_server_asks_to_wait_is_waited_and_not_past_the_deadline() -> None:
    def answers(number: int, attempt: int) -> Answer:
        wait = b"Retry-After: %d\r\n" % (3 if number == 0 else 8)
        return status_after(0.25, 429, wait) if attempt == 1 else answer_after(1.0)

    records, attempts = play_with_retries(OpenLoop([request_at(0, 0.0), request_at(1, 0.0)]), answers, again(6))
    assert [attempt.sent_s for attempt in attempts if attempt.request_id == 0] == [0.0, 3.25]
    assert (records[0].status, records[0].attempts) == ("ok", 2)
    assert (records[1].status, records[1].attempts) == ("rejected", 1)


def test_the_deadline_stays_that_of_the_first_instant() -> None:
    def answers(_number: int, attempt: int) -> Answer:
        return status_after(1.5, 503) if attempt == 1 else answer_after(60.0)

    records, _ = play_with_retries(OpenLoop([request_at(0, 0.0, deadline_s=4.0)]), answers, again(10))
    assert (records[0].status, records[0].attempts) == ("timed_out", 2)
    assert records[0].finished_s == 4.0


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_request_that_is_wrong_is_not_sent_again(status: int) -> None:
    records, _ = play_with_retries(OpenLoop([request_at(0, 0.0)]), lambda *_: status_after(0.25, status), again(4))
    assert records[0].attempts == 1


def test_an_answer_that_breaks_is_asked_for_again_whether_it_had_begun_or_not_but_one_that_is_none_is_not() -> None:
    begun = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def answers(number: int, attempt: int) -> Answer:
        if attempt > 1:
            return answer_after(1.0)
        if number == 2:
            return status_after(0.25, 200)  # an empty page
        return Answer([(0.25, begun)] if number == 0 else [], end_s=0.5, error=ConnectionResetError("reset"))

    records, attempts = play_with_retries(OpenLoop([request_at(number, 0.0) for number in range(3)]), answers, again(4))
    causes = {attempt.request_id: attempt.cause for attempt in attempts if attempt.attempt == 1}
    assert causes == {0: "stream_cut", 1: "connection", 2: "empty_answer"}
    assert [(records[number].status, records[number].attempts) for number in (0, 1)] == [("ok", 2)] * 2
    assert (records[2].cause, records[2].attempts) == ("empty_answer", 1)


def test_the_next_turn_waits_until_no_attempt_follows() -> None:
    turns = WaitingTurns([request_at(0, 0.0), request_at(1, 1.0)], [5, 5], [float("nan"), 0.25])

    def answers(number: int, attempt: int) -> Answer:
        return status_after(0.5, 503) if (number, attempt) == (0, 1) else answer_after(1.0)

    records, _ = play_with_retries(turns, answers, again(2))
    assert records[0].finished_s == 0.5 + 0.5 + 1.0
    assert records[1].scheduled_s == 2.25


@pytest.mark.parametrize("stop_s", [0.125, 0.375, 0.625, 0.875, 1.5])
def test_a_run_that_is_ended_has_one_record_for_each_request_whether_it_waits_or_not(stop_s: float) -> None:
    def answers(_number: int, attempt: int) -> Answer:
        return status_after(0.25, 503) if attempt == 1 else answer_after(9.0)

    plan = [request_at(0, 0.0), request_at(1, 0.25), request_at(2, 30.0)]
    records, _ = play_with_retries(OpenLoop(plan), answers, again(2), stop_s=stop_s)
    assert sorted(records) == [0, 1, 2]
    assert all(record.status in ("cancelled", "rejected") for record in records.values())
    assert records[2].attempts == 0
    assert records[0].sent_s == 0.0
    assert records[0].attempts == (2 if stop_s >= 0.75 else 1)


def test_pauses_of_requests_refused_together_differ_by_up_to_a_quarter() -> None:
    plan = [request_at(number, 0.0) for number in range(200)]

    def answers(_number: int, attempt: int) -> Answer:
        return status_after(0.25, 503) if attempt == 1 else answer_after(1.0)

    _, attempts = play_with_retries(OpenLoop(plan), answers, ClientConfig())
    pauses_s = np.array([attempt.sent_s - 0.25 for attempt in attempts if attempt.attempt == 2])
    assert pauses_s.min() > 0.375 - 0.002
    assert pauses_s.max() < 0.5 + 0.002
    assert pauses_s.std() > 0.02


def test_the_same_seed_gives_the_same_pauses_whatever_comes_first() -> None:
    def answers(_number: int, attempt: int) -> Answer:
        return status_after(0.25, 503) if attempt < 3 else answer_after(1.0)

    def pauses_s(order: list[int]) -> dict[tuple[int, int], float]:
        plan = [request_at(number, float(place)) for place, number in enumerate(order)]
        _, attempts = play_with_retries(OpenLoop(plan), answers, ClientConfig())
        ended_s = {(attempt.request_id, attempt.attempt): attempt.finished_s for attempt in attempts}
        return {
            (attempt.request_id, attempt.attempt): attempt.sent_s - ended_s[attempt.request_id, attempt.attempt - 1]
            for attempt in attempts
            if attempt.attempt > 1
        }

    one, other = pauses_s([0, 1, 2, 3]), pauses_s([3, 1, 0, 2])
    assert one == pytest.approx(other, abs=0.002)  # a timer's resolution
    assert len(set(one.values())) == 8


def test_an_attempt_is_given_up_after_its_time_and_followed_by_another_until_there_is_none() -> None:
    begun = answer_after(0.5).pieces[0][1].partition(b"data: [DONE]")[0]  # one token and no end

    def answers(_number: int, _attempt: int) -> Answer:
        return Answer([(0.5, begun)], end_s=60.0)

    impatient = ClientConfig(timeout_s=1.5, max_attempts=2, jitter_fraction=0.0)
    plan = [replace(request_at(0, 1.0), timeout_s=impatient.timeout_s)]
    records, attempts = play_with_retries(OpenLoop(plan), answers, impatient)
    assert [(attempt.sent_s, attempt.finished_s) for attempt in attempts] == [(1.0, 2.5), (3.0, 4.5)]
    assert [(attempt.status, attempt.cause) for attempt in attempts] == [("cancelled", "given_up")] * 2
    record = records[0]
    assert (record.status, record.cause, record.attempts) == ("cancelled", "given_up", 2)
    assert (record.sent_s, record.first_token_s, record.finished_s) == (1.0, 3.5, 4.5)
    assert record.error is not None
    assert record.error.startswith("given up after 1.5 s, after")


def test_a_shorter_retry_after_shortens_no_pause_and_a_client_may_pay_no_heed_to_any() -> None:
    def answers(number: int, attempt: int) -> Answer:
        wait = b"Retry-After: %d\r\n" % (0 if number == 0 else 7)
        return status_after(0.25, 429, wait) if attempt == 1 else answer_after(1.0)

    hasty = replace(PLAIN, honours_retry_after=False)
    for client in (PLAIN, hasty):
        _, attempts = play_with_retries(OpenLoop([request_at(0, 0.0)]), answers, client)
        assert [attempt.sent_s for attempt in attempts] == [0.0, 0.75]
    _, attempts = play_with_retries(OpenLoop([request_at(1, 0.0)]), answers, hasty)
    assert [attempt.sent_s for attempt in attempts] == [0.0, 0.75]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("3", 3.0),
        ("-1", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        ("Fri, 31 Dec 1999 23:58:59 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, datetime(1999, 12, 31, 23, 59, 0, tzinfo=UTC)) == expected


def test_attempts_are_read_as_written_without_a_line_that_was_cut(tmp_path: Path) -> None:
    _, attempts = play_with_retries(OpenLoop([request_at(0, 0.0)]), lambda *_: status_after(0.25, 500), again(3))
    with AttemptWriter(tmp_path / "a") as writer:
        for attempt in attempts:
            writer.append(attempt)
    with (tmp_path / "a").open("ab") as file:
        file.write(b'{"request_id": 7')
    rows = read_attempts(tmp_path / "a").to_pylist()
    assert [(row["attempt"], row["sent_s"], row["cause"]) for row in rows] == [
        (attempt.attempt, attempt.sent_s, "bad_status") for attempt in attempts
    ]


def test_each_attempt_has_an_id_of_its_own_that_tells_its_number_and_says_what_time_is_left() -> None:
    first = b"content-length: 2\r\nx-request-id: a.b-7\r\nx-service: api\r\n"
    second = with_attempt(first, 2, 8.5)
    rest = b"\r\nx-service: api\r\nx-deadline-s: "
    assert second == b"content-length: 2\r\nx-request-id: a.b-7.2" + rest + b"8.500\r\n"
    assert with_attempt(second, 3, 4.25) == b"content-length: 2\r\nx-request-id: a.b-7.3" + rest + b"4.250\r\n"
    assert [attempt_of("a.b", name) for name in ("a.b-7", "a.b-7.3", "a.b-7.x", "axb-7", "a.b-", "b-7")] == [
        (7, 1),
        (7, 3),
        None,
        None,
        None,
        None,
    ]
