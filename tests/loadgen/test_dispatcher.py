"""A schedule decides when which request is sent, also by what became of those before."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from loadgen.client import Exchange, StreamClient
from loadgen.dispatcher import Dispatcher
from loadgen.plan import PlannedRequest
from loadgen.records import RequestRecord, Status
from loadgen.run_clock import RunClock
from loadgen.schedule import OpenLoop
from loadgen.target import Target

BODY = b'{"max_tokens": 2}'


def request_for(number: int, scheduled_s: float) -> PlannedRequest:
    lines = b"x-request-id: t-%d\r\ncontent-length: %d\r\n" % (number, len(BODY))
    return PlannedRequest(number, "api", "m", 1, 2, scheduled_s, 5.0, "/v1/completions", lines, BODY)


class Turns:
    """Each request a while after the one before has ended, as a person does."""

    def __init__(self, turns: int, think_s: float) -> None:
        self._turns, self._think_s = turns, think_s
        self._taken = 0
        self.due_s: float | None = 0.0

    def take(self) -> PlannedRequest:
        assert self.due_s is not None
        request = request_for(self._taken, self.due_s)
        self._taken += 1
        self.due_s = None
        return request

    def ended(self, exchange: Exchange) -> None:
        if self._taken < self._turns:
            self.due_s = exchange.record().finished_s + self._think_s

    def unsent(self) -> Iterator[PlannedRequest]:
        return iter(())


async def dispatch(url: str, schedule: Any) -> list[RequestRecord]:
    records: list[RequestRecord] = []
    async with StreamClient(Target(url, "m")) as client:
        clock = RunClock(time.monotonic())
        await Dispatcher(client, schedule, clock, lambda *_: None, records.append).run()
        assert client.open_connections <= 1
    return records


async def test_a_turn_waits_for_the_end_of_the_one_before_and_a_while_longer(server: Any) -> None:
    server.script_for = server.stream(ttft_s=0.05, gap_s=0.02)
    records = await dispatch(server.url, Turns(4, think_s=0.03))
    assert [record.request_id for record in records] == [0, 1, 2, 3]
    for before, after in pairwise(records):
        assert after.scheduled_s == before.finished_s + 0.03
        assert after.sent_s is not None
        assert after.sent_s >= after.scheduled_s


async def test_a_schedule_without_a_request_is_over_at_once(server: Any) -> None:
    assert await dispatch(server.url, OpenLoop([])) == []


async def test_a_schedule_sees_the_record_and_the_headers_of_what_has_ended(server: Any) -> None:
    ended: list[Exchange] = []
    schedule = OpenLoop([request_for(0, 0.0)])
    schedule.ended = ended.append  # type: ignore[method-assign]
    server.answer((0, b"busy"), status=503, headers={"Retry-After": "7"})
    (record,) = await dispatch(server.url, schedule)
    assert record.status is Status.REJECTED
    assert ended[0].response_header("retry-after") == "7"
    assert ended[0].response_header("x-other") is None
    assert ended[0].record() is record


class Broken(OpenLoop):
    """Fails where it is told to."""

    def __init__(self, plan: list[PlannedRequest], *, at: str) -> None:
        super().__init__(plan)
        self._at = at

    def take(self) -> PlannedRequest:
        request = super().take()
        if self._at == "take" and request.request_id == 1:
            raise ArithmeticError("take")
        return request

    def ended(self, exchange: Exchange) -> None:  # noqa: ARG002
        if self._at == "ended":
            raise ArithmeticError("ended")


@pytest.mark.parametrize("where", ["take", "ended", "sent", "record"])
async def test_an_error_of_ours_ends_the_run_instead_of_hanging_it(server: Any, where: str) -> None:
    server.script_for = server.stream(ttft_s=0.02)
    records: list[RequestRecord] = []

    def on_sent(request: PlannedRequest, _sent_s: float) -> None:
        if where == "sent" and request.request_id == 1:
            raise ArithmeticError("sent")

    def on_record(record: RequestRecord) -> None:
        if where == "record":
            raise ArithmeticError("record")
        records.append(record)

    schedule = Broken([request_for(number, 0.05 * number) for number in range(5)], at=where)
    async with StreamClient(Target(server.url, "m")) as client:
        dispatcher = Dispatcher(client, schedule, RunClock(time.monotonic()), on_sent, on_record)
        with pytest.raises(ArithmeticError, match=where):
            await asyncio.wait_for(dispatcher.run(), 5)
        assert client.open_connections <= 5
    expected = {"take": [0, 2, 3, 4], "ended": [0, 1, 2, 3, 4], "sent": [0, 1, 2, 3, 4], "record": []}
    assert sorted(record.request_id for record in records) == expected[where]
