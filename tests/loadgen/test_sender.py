"""Requests leave at their instants, whatever became of those before."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import InputError
from loadgen.line_file import LineFile
from loadgen.plan import PlannedRequest
from loadgen.records import read_partial_records
from loadgen.schedule import OpenLoop
from loadgen.sender import Sender, SenderProgress
from loadgen.sent_log import read_sent_log
from loadgen.target import Target


def plan_at(*scheduled_s: float, tokens: int = 1) -> list[PlannedRequest]:
    body = json.dumps({"max_tokens": tokens}).encode()
    return [
        PlannedRequest(
            request_id=number,
            service="api",
            model="m",
            prompt_tokens=1,
            max_output_tokens=tokens,
            scheduled_s=due_s,
            deadline_s=5.0,
            path="/v1/completions",
            header_lines=f"x-request-id: t-{number}\r\ncontent-length: {len(body)}\r\n".encode(),
            body=body,
        )
        for number, due_s in enumerate(scheduled_s)
    ]


def run(
    url: str, plan: list[PlannedRequest], part: Path, meanwhile: Callable[[Sender], None] = lambda _sender: None
) -> tuple[list[dict[str, Any]], SenderProgress, float]:
    """Run a sender in a thread of its own; gives its records by id, its last progress, and its start (monotonic)."""
    sender = Sender(Target(url, "m"), part)
    sender.load(OpenLoop(plan))
    results: list[SenderProgress] = []
    thread = threading.Thread(target=lambda: results.append(sender.run()))
    thread.start()
    sender.wait_ready()
    start_monotonic_s = time.monotonic() + 0.1
    sender.start(time.time() + 0.1)
    meanwhile(sender)
    thread.join(timeout=20)
    rows = sorted(read_partial_records(part).to_pylist(), key=lambda row: row["request_id"])
    return rows, results[0], start_monotonic_s


def test_requests_arrive_at_their_instants_although_every_answer_takes_longer_than_the_run(
    server: Any, tmp_path: Path
) -> None:
    server.script_for = server.stream(ttft_s=0.8)
    due_s = [0.02 * i for i in range(20)]
    rows, progress, start_monotonic_s = run(server.url, plan_at(*due_s), tmp_path / "part")
    arrived_s = {ask.headers["x-request-id"]: ask.arrived_s - start_monotonic_s for ask in server.asked()}
    lags_s = sorted(arrived_s[f"t-{i}"] - due_s[i] for i in range(20))
    assert lags_s[0] > -0.002  # none before its instant, but for the reading of two clocks
    assert lags_s[10] < 0.03
    assert lags_s[-1] < 0.3  # far less than the answer of an earlier request takes
    assert [row["status"] for row in rows] == ["ok"] * 20
    assert all(row["sent_s"] >= row["scheduled_s"] for row in rows)
    assert (progress.sent, progress.finished, progress.ok) == (20, 20, 20)
    assert min(progress.latest_ttft_s) >= 0.8


def test_requests_of_one_instant_all_leave_at_it(server: Any, tmp_path: Path) -> None:
    rows, _, _ = run(server.url, plan_at(*[0.05] * 30), tmp_path / "part")
    assert len(rows) == len(server.asked()) == 30


def test_a_sender_whose_event_loop_stands_still_tells_for_how_long(server: Any, tmp_path: Path) -> None:
    """Nothing is due to be sent meanwhile, so that no request is late."""
    server.script_for = server.stream(ttft_s=1.5)

    def stall(sender: Sender) -> None:
        while not server.asked():
            time.sleep(0.01)
        assert sender._loop is not None
        sender._loop.call_soon_threadsafe(time.sleep, 0.9)

    rows, progress, _ = run(server.url, plan_at(0.0), tmp_path / "part", stall)
    assert rows[0]["status"] == "ok"
    assert progress.standstill.longest_s > 0.9 - 0.25 - 0.01  # a beat was due within a quarter second of its begin
    assert progress.standstill.late_s > 0.9 - 0.25 - 0.11


def test_an_unreachable_server_fails_each_request_and_not_the_run(tmp_path: Path) -> None:
    rows, progress, _ = run("http://127.0.0.1:1", plan_at(0.0, 0.05), tmp_path / "part")
    assert [row["cause"] for row in rows] == ["connection"] * 2
    assert progress.failed == {"connection": 2}


def test_stopping_leaves_a_record_for_what_is_on_its_way_and_for_what_was_not_sent(server: Any, tmp_path: Path) -> None:
    server.script_for = server.stream(gap_s=0.1)

    def stop(sender: Sender) -> None:
        time.sleep(0.4)
        sender.stop()

    rows, _, _ = run(server.url, plan_at(0.0, 0.05, 30.0, tokens=40), tmp_path / "part", stop)
    assert [(row["status"], row["cause"]) for row in rows] == [("cancelled", "run_ended")] * 3
    assert [row["sent_s"] is None for row in rows] == [False, False, True]
    assert [row["attempts"] for row in rows] == [1, 1, 0]
    assert rows[0]["output_tokens"] > 0
    assert rows[2]["finished_s"] == 30.0


def test_a_sender_that_is_stopped_before_it_runs_sends_nothing_and_one_that_is_over_does_not_mind(
    server: Any, tmp_path: Path
) -> None:
    sender = Sender(Target(server.url, "m"), tmp_path / "part")
    sender.load(OpenLoop(plan_at(0.0, 30.0)))
    sender.stop()
    thread = threading.Thread(target=sender.run)
    thread.start()
    sender.wait_ready()
    sender.start(time.time())
    thread.join(timeout=20)
    assert not thread.is_alive()
    sender.stop()
    rows = read_partial_records(tmp_path / "part").to_pylist()
    assert [(row["request_id"], row["cause"], row["attempts"]) for row in rows] == [
        (0, "run_ended", 0),
        (1, "run_ended", 0),
    ]
    assert server.asked() == []


def test_a_record_file_that_exists_stops_the_sender_before_it_sends(server: Any, tmp_path: Path) -> None:
    (tmp_path / "part").touch()
    sender = Sender(Target(server.url, "m"), tmp_path / "part")
    with pytest.raises(FileExistsError):
        sender.run()
    sender.wait_ready()  # whoever waits for it does not wait for ever
    assert server.asks == []


def full_from_record(count: int) -> Callable[[LineFile, bytes], None]:
    """`LineFile.write_line` on a disk that has room for so many lines."""
    write, lines = LineFile.write_line, 0

    def write_line(file: LineFile, line: bytes) -> None:
        nonlocal lines
        lines += 1
        if lines > count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, line)

    return write_line


def failed_sync(_file: LineFile) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fails_at_the_end_of_a_run_is_told_and_the_log_of_what_was_sent_is_kept(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.sender._SYNC_INTERVAL_S", 30.0)  # long after the run
    monkeypatch.setattr(LineFile, "sync", failed_sync)
    sender = Sender(Target(server.url, "m"), tmp_path / "part.jsonl")
    sender.load(OpenLoop(plan_at(0.0)))
    starter = threading.Thread(target=lambda: (sender.wait_ready(), sender.start(time.time())))
    starter.start()
    with pytest.raises(InputError, match="cannot be written"):
        sender.run()
    starter.join()
    assert len(read_partial_records(tmp_path / "part.jsonl")) == 1
    assert read_sent_log(tmp_path / "part.sent")["request_id"].to_pylist() == [0]


@pytest.mark.parametrize("fault", ["write_line", "sync"])
def test_a_full_disk_ends_the_run_in_one_line_and_what_was_sent_is_known(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(LineFile, fault, full_from_record(3) if fault == "write_line" else failed_sync)
    sender, said = Sender(Target(server.url, "m"), tmp_path / "part.jsonl"), list[BaseException]()
    sender.load(OpenLoop(plan_at(*(0.05 * i for i in range(400)))))

    def send() -> None:
        try:
            sender.run()
        except InputError as error:
            said.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    sender.wait_ready()
    sender.start(time.time() + 0.1)
    thread.join(timeout=15)  # of a plan of 20 s
    assert [str(error) for error in said] == [
        f"{tmp_path / 'part.jsonl'}: cannot be written (No space left on device), so that the run was ended; make room"
    ]
    if fault == "write_line":
        assert len(read_partial_records(tmp_path / "part.jsonl")) == 3
    noted = read_sent_log(tmp_path / "part.sent")["request_id"].to_pylist()
    assert set(noted) >= {int(ask.headers["x-request-id"].split("-")[1]) for ask in server.asked()}
    assert 0 < len(noted) < 100
