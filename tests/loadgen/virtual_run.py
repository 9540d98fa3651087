"""Plays a schedule on a virtual clock, against a server that answers at exact instants."""

from collections.abc import Callable

from loadgen.client import StreamClient
from loadgen.dispatcher import Dispatcher
from loadgen.plan import PlannedRequest, header_lines
from loadgen.records import RequestRecord
from loadgen.run_clock import RunClock
from loadgen.schedule import Schedule
from loadgen.target import Target
from tests.loadgen.virtual_loop import Answer, VirtualLoop

START_S = 2.0


def request_at(number: int, scheduled_s: float, deadline_s: float = 8.0) -> PlannedRequest:
    """Request `number`, which asks for two tokens."""
    lines = header_lines({"x-request-id": str(number), "content-length": "2"})
    return PlannedRequest(number, "api", "m", 1, 2, scheduled_s, deadline_s, "/v1/completions", lines, b"{}")


def answer_after(seconds: float) -> Answer:
    """One token, and the end of the answer, so long after the request."""
    event = b'data: {"choices":[{"index":0,"text":"a"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return Answer([(seconds, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))])


def status_after(seconds: float, status: int, headers: bytes = b"") -> Answer:
    """An empty answer with this status."""
    return Answer([(seconds, b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n%b\r\n" % (status, headers))])


def play(
    schedule: Schedule,
    answer_for: Callable[[int], Answer],
    *,
    stop_s: float | None = None,
    on_record: Callable[[RequestRecord], None] | None = None,
) -> list[RequestRecord]:
    """The records, in the order in which they were made."""
    loop = VirtualLoop(answer_for)
    records: list[RequestRecord] = []

    async def run() -> None:
        async with StreamClient(Target("http://10.0.0.1:1", "m")) as client:
            clock = RunClock(START_S, loop.time)
            dispatcher = Dispatcher(client, schedule, clock, lambda *_: None, on_record or records.append)
            if stop_s is not None:
                loop.call_at(START_S + stop_s, dispatcher.stop)
            await dispatcher.run()

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return records
