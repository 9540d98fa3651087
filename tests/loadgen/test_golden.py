"""A replay whose every figure is known beforehand: exact, on a virtual clock, and worked out by hand."""

import asyncio
import math
from collections import Counter
from itertools import pairwise
from typing import Any

from loadgen.client import StreamClient
from loadgen.dispatcher import Dispatcher
from loadgen.metrics import summarise_records
from loadgen.plan import PlannedRequest, header_lines
from loadgen.records import RequestRecord, records_table
from loadgen.run_clock import RunClock
from loadgen.schedule import OpenLoop
from loadgen.target import Target
from tests.loadgen.virtual_loop import Answer, VirtualLoop

DEADLINE_S = 2.0
START_S = 16.0  # on the loop's clock, so that the run's zero is not the clock's
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-replica-id: r1\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def error(status: int, cause: str) -> bytes:
    body = b'{"error":{"message":"why","cause":"%b"}}' % cause.encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def usage(tokens: int) -> bytes:
    return b'data: {"choices":[],"usage":{"completion_tokens":%d}}\n\n' % tokens


END = b"0\r\n\r\n"
TOKENS = [(0.25 + 0.0625 * i, HEAD + chunk(TOKEN) if i == 0 else chunk(TOKEN)) for i in range(5)]
# Five chunks of 1, 2, 3, 1 and 3 tokens, each of which says how many there are by then.
TOLD = [
    (0.25 + 0.0625 * place, (HEAD if place == 0 else b"") + chunk(TOKEN.replace(b"}]}", b'}],"usage":%b}' % so_far)))
    for place, so_far in enumerate(b'{"completion_tokens":%d}' % tokens for tokens in (1, 3, 6, 7, 10))
]
PAIRS = [*TOKENS[:-1], (0.5, chunk(TOKEN) + chunk(usage(10)) + chunk(DONE) + END)]
# Each kind of answer beside what its record must say: (status, cause, TTFT, E2E, output tokens, when it is closed).
KINDS: dict[str, tuple[Answer, tuple[str, str | None, float | None, float, int, float | None]]] = {
    "five tokens": (
        Answer([*TOKENS[:-1], (0.5, chunk(TOKEN) + chunk(DONE) + END)]),
        ("ok", None, 0.25, 0.5, 5, None),
    ),
    "ten tokens in five chunks": (Answer(PAIRS), ("ok", None, 0.25, 0.5, 10, None)),
    "done, and the body's end a second later": (
        Answer([(0.25, HEAD + chunk(TOKEN)), (0.5, chunk(DONE)), (1.25, END)]),
        ("ok", None, 0.25, 0.5, 1, None),
    ),
    "done, and never the body's end": (
        Answer([(0.25, HEAD + chunk(TOKEN)), (0.5, chunk(DONE))]),
        ("ok", None, 0.25, 0.5, 1, 1.5),
    ),
    "overload": (Answer([(0.125, error(503, "queue_full"))]), ("rejected", "queue_full", None, 0.125, 0, None)),
    "no word": (Answer([]), ("timed_out", "deadline_in_queue", None, 2.0, 0, 3.0)),
    "the reason, after the deadline": (
        Answer([(2.5, error(504, "no_ready_replica"))]),
        ("timed_out", "no_ready_replica", None, 2.5, 0, None),
    ),
    "a first token after the deadline": (
        Answer([(2.25, HEAD + chunk(TOKEN))]),
        ("timed_out", "deadline_in_queue", 2.25, 2.25, 1, 2.25),
    ),
    "two tokens, then no word": (Answer(TOKENS[:2]), ("timed_out", "deadline_in_engine", 0.25, 2.0, 2, 2.0)),
    "three tokens, then a reset": (
        Answer(TOKENS[:3], 0.75, ConnectionResetError()),
        ("failed", "stream_cut", 0.25, 0.75, 3, None),
    ),
    "three tokens, then an end without done": (
        Answer([*TOKENS[:3], (0.5, END)]),
        ("failed", "stream_cut", 0.25, 0.5, 3, None),
    ),
    "closed before an answer": (Answer([], 0.125), ("failed", "connection", None, 0.125, 0, None)),
    "an empty answer": (
        Answer([(0.375, HEAD + chunk(DONE) + END)]),
        ("failed", "empty_answer", None, 0.375, 0, None),
    ),
    "a replica lost": (
        Answer([*TOKENS[:2], (0.5, chunk(b'data: {"error":{"message":"m","cause":"replica_lost"}}\n\n') + END)]),
        ("failed", "replica_lost", 0.25, 0.5, 2, None),
    ),
    "ten tokens, told chunk by chunk": (
        Answer([*TOLD[:-1], (0.5, TOLD[-1][1] + chunk(usage(10)) + chunk(DONE) + END)]),
        ("ok", None, 0.25, 0.5, 10, None),
    ),
}
NAMES = list(KINDS)
ROUNDS = 6
GAP_S = 0.125
REQUESTS = ROUNDS * len(NAMES)


def plan(requests: int) -> list[PlannedRequest]:
    return [
        PlannedRequest(
            request_id=number,
            service="api",
            model="m",
            prompt_tokens=1,
            max_output_tokens=5,
            scheduled_s=GAP_S * number,
            deadline_s=DEADLINE_S,
            path="/v1/completions",
            header_lines=header_lines({"x-request-id": str(number), "content-length": "2"}),
            body=b"{}",
        )
        for number in range(requests)
    ]


def replay(requests: int, stop_s: float | None = None) -> tuple[dict[int, RequestRecord], VirtualLoop]:
    """Play the plan from `START_S` of a virtual clock; gives the records by id."""
    loop = VirtualLoop(lambda number: KINDS[NAMES[number % len(NAMES)]][0])
    records: dict[int, RequestRecord] = {}
    sent_s: dict[int, float] = {}

    def keep(record: RequestRecord) -> None:
        assert record.request_id not in records
        records[record.request_id] = record

    def note(request: PlannedRequest, instant_s: float) -> None:
        sent_s[request.request_id] = instant_s

    async def run() -> None:
        await asyncio.sleep(1.0)
        async with StreamClient(Target("http://10.0.0.1:1", "m")) as client:
            clock = RunClock(START_S, loop.time)
            dispatcher = Dispatcher(client, OpenLoop(plan(requests)), clock, note, keep)
            if stop_s is not None:
                loop.call_at(START_S + stop_s, dispatcher.stop)
            await dispatcher.run()
            assert client.open_connections == len(client._pool._idle)  # none is left but to be used again
        assert client.open_connections == 0

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    assert sent_s == {number: instant_s - START_S for number, instant_s in loop.written_s.items()}
    return records, loop


def test_every_instant_and_cause_is_what_the_server_made_it() -> None:
    records, loop = replay(REQUESTS)
    assert sorted(records) == list(range(REQUESTS))
    for number, record in records.items():
        name = NAMES[number % len(NAMES)]
        status, cause, ttft_s, e2e_s, tokens, closed_s = KINDS[name][1]
        due_s = GAP_S * number
        assert (record.status, record.cause, record.output_tokens) == (status, cause, tokens), name
        assert record.scheduled_s == record.sent_s == due_s, name
        assert record.first_token_s == (None if ttft_s is None else due_s + ttft_s), name
        assert record.finished_s == due_s + e2e_s, name
        if closed_s is not None:
            assert loop.aborted_s[number] == START_S + due_s + closed_s, name


def test_counts_by_status_and_cause_add_up_to_what_was_planned() -> None:
    records, _ = replay(REQUESTS)
    counts = Counter((record.status.value, record.cause and record.cause.value) for record in records.values())
    assert counts == {
        ("ok", None): 5 * ROUNDS,
        ("rejected", "queue_full"): ROUNDS,
        ("timed_out", "deadline_in_queue"): 2 * ROUNDS,
        ("timed_out", "no_ready_replica"): ROUNDS,
        ("timed_out", "deadline_in_engine"): ROUNDS,
        ("failed", "stream_cut"): 2 * ROUNDS,
        ("failed", "connection"): ROUNDS,
        ("failed", "empty_answer"): ROUNDS,
        ("failed", "replica_lost"): ROUNDS,
    }


def test_tpot_and_the_gaps_between_chunks_are_exact() -> None:
    rows: list[dict[str, Any]] = records_table(replay(2)[0].values()).to_pylist()
    five, ten = sorted(rows, key=lambda row: row["request_id"])
    # (E2E - TTFT) / (tokens - 1): a quarter of a second for four tokens, and for nine.
    for row, tpot_s in ((five, 0.0625), (ten, 0.25 / 9)):
        e2e_s, ttft_s = row["finished_s"] - row["scheduled_s"], row["first_token_s"] - row["scheduled_s"]
        assert math.isclose((e2e_s - ttft_s) / (row["output_tokens"] - 1), tpot_s, rel_tol=1e-12)
        assert row["chunk_offsets_s"] == [0.0, 0.0625, 0.125, 0.1875, 0.25]
        assert {after - before for before, after in pairwise(row["chunk_offsets_s"])} == {0.0625}


def test_the_gap_before_each_token_is_exact_where_chunks_tell_theirs_and_a_mean_where_not() -> None:
    records = replay(len(NAMES))[0]
    told, untold = records[NAMES.index("ten tokens, told chunk by chunk")], records[1]
    assert (told.chunk_tokens, untold.chunk_tokens) == ((1, 2, 3, 1, 3), None)
    exact = summarise_records(records_table([told]), {}).total
    assert exact.gap_per_token_requests == {"counted": 1, "averaged": 0}
    # Nine tokens: 2 and 3 and 1 and 3 share 0.0625 s. In order of time: six thirds of it, two halves, one whole.
    found = exact.gap_per_token
    assert (found.p50_s, found.p90_s, found.p99_s) == (0.0625 / 3, 0.0625, 0.0625)
    assert found.mean_s is not None
    assert math.isclose(found.mean_s, 0.25 / 9, rel_tol=1e-12)
    mean = summarise_records(records_table([untold]), {}).total
    assert mean.gap_per_token_requests == {"counted": 0, "averaged": 1}
    assert (mean.gap_per_token.p50_s, mean.gap_per_token.p99_s) == (0.0625 / 2, 0.0625 / 2)
    for summary in (exact, mean):
        assert (summary.gap_per_chunk.p50_s, summary.gap_per_chunk.p99_s) == (0.0625, 0.0625)


def test_connections_are_used_again_only_where_their_answer_was_whole() -> None:
    _, loop = replay(REQUESTS)
    # An answer of half a second and more keeps up to four requests, 0.125 s apart, from sharing a connection.
    assert loop.connections < REQUESTS / 2
    whole = [name for name in NAMES if KINDS[name][1][5] is None and "reset" not in name and "closed" not in name]
    assert set(loop.aborted_s).isdisjoint(
        number
        for number in range(REQUESTS)
        if NAMES[number % len(NAMES)] in whole and number < REQUESTS - 2 * len(NAMES)
    )


def test_stopping_ends_all_at_that_instant() -> None:
    records, _ = replay(REQUESTS, stop_s=1.0)
    assert sorted(records) == list(range(REQUESTS))
    for number, record in records.items():
        due_s = GAP_S * number
        e2e_s = KINDS[NAMES[number % len(NAMES)]][1][3]
        if due_s + e2e_s < 1.0:
            assert record.finished_s == due_s + e2e_s
        elif due_s < 1.0 and NAMES[number % len(NAMES)] != "done, and the body's end a second later":
            assert (record.cause, record.finished_s, record.sent_s) == ("run_ended", 1.0, due_s)
        elif due_s > 1.0:
            assert (record.cause, record.finished_s, record.sent_s) == ("run_ended", due_s, None)
