"""The null server notes what arrives, and answers as an OpenAI-compatible server does."""

import time

import numpy as np

from loadgen.client import StreamClient, send_request
from loadgen.null_client import null_plan
from loadgen.null_run import FIRST_NUMBER, NullServerProcess, run_against_null_server
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
