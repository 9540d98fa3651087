"""`burstscale load` that is killed or ended by a signal: what is on disk, what still runs, what can be recovered."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from loadgen.records import read_partial_records
from testbed.results import RECORD_PARTS, read_results
from tests.loadgen.conftest import MockServer
from tests.testbed.command import DEMO, ROOT, assert_refused, burstscale

# Ray's agents on a node look only once a minute whether the rest of it is still there; they send nothing.
_SLOW_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@pytest.fixture
def server() -> Iterator[MockServer]:
    running = MockServer()
    running.script_for = MockServer.stream(ttft_s=0.3)
    yield running
    running.close()


@pytest.fixture
def started() -> Iterator[list[int]]:
    """The ids of processes that are ended with the test, if they have not ended by themselves."""
    processes: list[int] = []
    yield processes
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def start_load(server: MockServer, out: Path) -> subprocess.Popen[str]:
    """A load of 40 requests a second for a minute, that has sent for about a second and goes on."""
    sending = ("--ramp", "40:40:60", "--actors", "2", "--max-output-tokens", "2", "--no-self-test")
    command = ("load", DEMO, "--url", server.url, "--model", "m", *sending, "-o", out)
    process = subprocess.Popen(
        [sys.executable, "-m", "testbed.cli", *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(server.asked()) > 100 or process.poll() is not None)
    return process


def wait_until(is_so: Callable[[], bool], at_most_s: float = 90.0) -> None:
    until_s = time.monotonic() + at_most_s
    while not is_so():
        assert time.monotonic() < until_s, "it never came to that"
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """The children of a process, their children and so on."""
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        children += map(int, task.read_text().split())
    return [each for child in children for each in (child, *descendants(child))]


def command_of(process: int) -> str:
    """Of a process that there is, its command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def numbers(server: MockServer) -> set[int]:
    """The requests that have come."""
    return {int(ask.headers["x-request-id"].split("-")[1]) for ask in server.asked()}


@pytest.mark.ray
def test_a_killed_load_ends_sending_by_itself_and_has_all_on_disk_that_ended_a_second_before(
    server: MockServer, tmp_path: Path, started: list[int]
) -> None:
    out = tmp_path / "out"
    process = start_load(server, out)
    started += descendants(process.pid)
    assert_refused(burstscale("recover", out), f"its run is still going on in process {process.pid}")

    process.kill()
    killed_s = time.monotonic()
    parts = sorted((out / RECORD_PARTS).glob("*.jsonl"))
    on_disk = {row for part in parts for row in read_partial_records(part)["request_id"].to_pylist()}
    ended = {
        int(ask.headers["x-request-id"].split("-")[1])
        for ask in server.asked()
        if len(ask.written_s) == 3 and ask.written_s[-1] < killed_s - 1.0  # two tokens, and the end
    }
    assert ended
    assert ended <= on_disk
    process.communicate()

    def left() -> list[str]:
        running = [command_of(each) for each in started]
        return [command for command in running if command and not command.startswith(_SLOW_AGENTS)]

    wait_until(lambda: not left())
    sent = numbers(server)
    assert_refused(burstscale("report", out), f"`burstscale recover {out}` completes the folder")
    done = burstscale("recover", out)
    assert (done.returncode, done.stderr) == (0, "")

    results = read_results(out)
    records = results.records
    assert records["request_id"].tolist() == list(range(results.environment["trace"]["requests"]))
    recorded = set(records.loc[records["sent_s"].notna(), "request_id"])
    assert sent <= recorded
    assert len(recorded - sent) <= 2  # at the kill their connection was being opened
    assert ended <= set(records.loc[records["status"] == "ok", "request_id"])
    assert set(records.loc[records["status"] != "ok", "status"]) == {"cancelled"}
    assert numbers(server) == sent


@pytest.mark.ray
def test_a_load_that_gets_sigterm_leaves_a_partial_report_and_no_process(
    server: MockServer, tmp_path: Path, started: list[int]
) -> None:
    out = tmp_path / "out"
    process = start_load(server, out)
    started += descendants(process.pid)
    process.terminate()
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "burstscale: ending in order after SIGTERM; another one ends it at once\n"
    assert "This run was cut short: it was interrupted at " in printed
    assert [command_of(each) for each in started if command_of(each)] == []
    records = read_results(out).records
    assert len(records) == json.loads((out / "summary.json").read_text())["planned_requests"]
    assert set(records["cause"].dropna()) == {"run_ended"}
    assert numbers(server) >= set(records.loc[records["status"] == "ok", "request_id"])
    assert sorted(path.name for path in out.iterdir() if path.suffix in (".parts", ".lock", ".unfinished")) == []
