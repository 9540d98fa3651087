"""However long and wherever the event loop stands still: runs end, each request has its record, nothing is left.

STALLED_CASES=100:5000 plays other cases than those below; -s then shows how often what is dangerous has happened.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen.records import Cause, RequestRecord, Status, read_partial_records, records_table
from loadgen.retries import attempts_path, read_attempts
from loadgen.sent_log import sent_log_path
from tests.loadgen.certificate import make_certificate, server_context
from tests.loadgen.misbehaving_server import open_sockets
from tests.loadgen.server_thread import ServerThread
from tests.loadgen.stalled_run import Case, Played, draw_case, play_case, play_sender

PATIENCE_S = 0.03
FIRST, END = map(int, os.environ.get("STALLED_CASES", "3:11").split(":"))
SEEN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less than a real run does, so that many cases fit into seconds."""
    monkeypatch.setattr("loadgen.client._PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr("loadgen.client._BODY_END_S", PATIENCE_S)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    server = ServerThread()
    yield server
    server.close()
    print(SEEN)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl to make a certificate")
    certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    server = ServerThread(server_context(certificate))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        yield server
    server.close()


@pytest.mark.parametrize("number", range(FIRST, END))
def test_a_run_that_stands_still_now_and_then_ends_with_one_record_for_each_request(
    server: ServerThread, number: int
) -> None:
    check(draw_case(number), server)


@pytest.mark.parametrize("number", range(FIRST, END, 2))
def test_so_does_one_over_encrypted_connections(tls_server: ServerThread, number: int) -> None:
    check(draw_case(number, most_requests=12), tls_server)


@pytest.mark.parametrize("number", range(FIRST, END, 4))
def test_so_does_a_sender_whose_files_say_the_same(
    server: ServerThread, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.sender._WARM_UP_TIMEOUT_S", 0.005)  # it may run out as well
    case, part = draw_case(number, most_requests=15), tmp_path / "part.jsonl"
    server.begin()
    before = open_sockets()
    progress = play_sender(case, server.url, part)
    check_sockets(server, before)
    rows = read_partial_records(part).to_pylist()
    ids = [row["request_id"] for row in rows]
    assert len(ids) == len(set(ids)) == progress.finished
    if case.pacing != "user":
        assert set(ids) == {request.request_id for request in case.plan}
    sent = [row for row in rows if row["sent_s"] is not None]
    assert progress.sent == len(sent)
    assert all(row["scheduled_s"] <= row["sent_s"] <= row["finished_s"] for row in sent)
    assert not sent_log_path(part).exists()
    if case.client.max_attempts > 1:
        told = Counter(row["request_id"] for row in read_attempts(attempts_path(part)).to_pylist())
        assert told == Counter({row["request_id"]: row["attempts"] for row in sent})


def check(case: Case, server: ServerThread) -> Played:
    """Play it and check what must hold whatever happened; nothing but the far bound goes by the clock."""
    server.begin()
    before = open_sockets()
    played = play_case(case, server.url)
    SEEN.update(played.seen)
    check_sockets(server, before)
    assert played.left == {"connections": 0, "tasks": 0}
    assert played.troubles == []
    check_counts(case, played)
    for record in played.records:
        check_record(record, played)
    records_table(played.records)
    return played


def check_sockets(server: ServerThread, before: int) -> None:
    server.drop()
    patience_s = time.monotonic() + 10
    while open_sockets() > before and time.monotonic() < patience_s:
        time.sleep(0.001)  # the server's side
    assert open_sockets() <= before


def check_counts(case: Case, played: Played) -> None:
    ids = Counter(record.request_id for record in played.records)
    assert set(ids.values()) <= {1}
    if case.pacing != "user":
        assert set(ids) == {request.request_id for request in case.plan}
    else:
        assert set(ids) == set(played.sent_s)
    if case.client.max_attempts > 1:
        told = Counter(attempt.request_id for attempt in played.attempts)
        assert told == Counter({number: len(sent_s) for number, sent_s in played.sent_s.items()})
        for attempt in played.attempts:
            assert attempt.finished_s >= attempt.sent_s


def check_record(record: RequestRecord, played: Played) -> None:
    """What a record says of itself hangs together."""
    sent_s = played.sent_s.get(record.request_id, [])
    assert record.attempts == len(sent_s)
    assert record.sent_s == (sent_s[0] if sent_s else None)
    assert (record.cause is None) == (record.error is None) == (record.status is Status.OK)
    if record.sent_s is None:
        assert (record.status, record.cause) == (Status.CANCELLED, Cause.RUN_ENDED)
        assert record.first_token_s is None
        return
    assert record.scheduled_s <= record.sent_s <= record.finished_s
    if record.first_token_s is not None:
        assert record.sent_s <= record.first_token_s <= record.finished_s
    if record.status is Status.OK:
        assert record.output_tokens > 0
        assert record.first_token_s is not None
