"""The null server notes what arrives, and answers as an OpenAI-compatible server does."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from loadgen import null_run
from loadgen.client import StreamClient, send_request
from loadgen.errors import InputError
from loadgen.null_client import null_plan
from loadgen.null_run import FIRST_NUMBER, NullServerProcess, killed_after, run_against_null_server
from loadgen.null_server import NullServer, Stream
from loadgen.records import Status
from loadgen.run_clock import RunClock
from loadgen.target import Target, probe


async def test_an_answer_has_its_chunks_at_their_instants() -> None:
    server = NullServer(Stream(chunks=4, ttft_s=0.05, itl_s=0.02))
    port = await server.start()
    clock = RunClock(time.monotonic())
    async with StreamClient(Target(f"http://127.0.0.1:{port}", "null")) as client:
        record = await send_request(client, null_plan([7], [0.0])[0], clock)
    server.close()
    ((number, arrived_s),) = server.arrivals
    assert number == FIRST_NUMBER + 7
    assert (record.status, record.output_tokens) == (Status.OK, 4)
    assert record.first_token_s is not None
    assert record.chunk_offsets_s is not None
    assert record.first_token_s >= arrived_s - clock.start_monotonic_s + 0.049  # a timer may round
    assert len(record.chunk_offsets_s) == 4
    assert record.chunk_tokens is None  # one token each
    assert record.chunk_offsets_s[0] == 0
    assert record.finished_s - record.first_token_s >= 0.05


def test_every_request_of_a_plan_arrives_once_whoever_sends_it() -> None:
    planned_s = np.linspace(0, 0.5, 41)
    run = run_against_null_server(planned_s.tolist(), actors=2)
    assert run.ok == 41
    assert run.lag_s.shape == (41,)
    assert (run.lag_s > -0.002).all()  # none before its instant, but for the reading of two clocks
    assert np.isfinite(run.lag_s).all()
    assert 0 < run.client_cpu_s < 5


def test_the_process_says_what_arrived_and_what_it_cost() -> None:
    with NullServerProcess() as server:
        probe(Target(server.url, "null"))
    assert server.arrivals == []  # the list of models is no request
    assert server.cpu_s > 0


def test_a_process_that_is_frozen_is_ended_after_its_time() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with killed_after(0.1, [process]):
            assert process.communicate(b"never read")[0] == b""
    assert process.returncode == -signal.SIGKILL


def test_a_server_that_is_frozen_is_one_line_and_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(null_run, "_TELLING_TIMEOUT_S", 0.1)
    with (
        pytest.raises(InputError, match=r"^null run: the null server ended with status -9 before its work was done"),
        NullServerProcess() as server,
    ):
        os.kill(server._process.pid, signal.SIGSTOP)


def test_clients_that_never_end_are_one_line_and_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that reads its job and says nothing, so that the whole run would wait for its line."""
    monkeypatch.setattr(null_run, "_PATIENCE_S", 3.0)
    silent = run_by("import time; time.sleep(600)", monkeypatch)
    with pytest.raises(InputError, match=r"^null run: (a client|the null server) ended with status -9"):
        run_against_null_server([0.0, 0.1], actors=2, client=silent)


def run_by(program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module; instead of it, the clients run `program`."""
    start = null_run._start_module

    def start_other(module: str) -> subprocess.Popen[str]:
        if module != "silent":
            return start(module)
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True, bufsize=1)

    monkeypatch.setattr(null_run, "_start_module", start_other)
    return "silent"
