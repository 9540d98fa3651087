"""`profile measure --url`: against a server that answers as vLLM does, and against others."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from numpy.random import Generator
from typer.testing import CliRunner

import testbed.measure_profile
from autoscaler.simulator.cost_model import HardwareFile, load_hardware, read_hardware
from loadgen.errors import InputError
from serve_app.engines.paced_engine import PacedEngine
from testbed.cli import app
from testbed.designed_load import LoadPiece
from testbed.engine_load import Generate
from testbed.measure_engine import MeasuredRounds, drive_for
from testbed.measure_profile import Measuring, ToldLimits, measure_served_engine

HARDWARE = load_hardware("h200-llama-3-8b")
METRICS = (
    '# HELP vllm:cache_config_info Information\nvllm:cache_config_info{block_size="16",enable_prefix_caching="False",'
    'engine="0",num_gpu_blocks="4000"} 1.0\n'
)
MEASURING = Measuring(name="mine", gpu="", seconds=1.0, seed=0)


def vllm_like(metrics: str = METRICS) -> web.Application:
    """The part of vLLM's server that is asked, around the emulated engine."""
    engine = PacedEngine(HARDWARE, chunk_interval_s=0.0)

    async def work(_: web.Application) -> None:
        working.append(asyncio.create_task(engine.run()))

    async def end_work(_: web.Application) -> None:
        working.pop().cancel()

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "some-llama", "max_model_len": 512}]})

    async def complete(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert body["model"] == "some-llama"
        assert body["ignore_eos"] is True
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for tokens in engine.progress(engine.add(len(body["prompt"]), body["max_tokens"])):
            event = {"choices": [{"text": "x"}], "usage": {"completion_tokens": tokens}}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b'data: {"choices": [], "usage": {"completion_tokens": 1}}\n\ndata: [DONE]\n\n')
        return response

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "0.29.0"})

    async def tell_metrics(_: web.Request) -> web.Response:
        return web.Response(text=metrics)

    async def healthy(_: web.Request) -> web.Response:
        return web.Response()

    working: list[asyncio.Task[None]] = []
    server = web.Application()
    server.on_startup.append(work)
    server.on_cleanup.append(end_work)
    server.add_routes(
        [
            web.get("/v1/models", models),
            web.get("/version", version),
            web.get("/metrics", tell_metrics),
            web.get("/health", healthy),
            web.post("/v1/completions", complete),
        ]
    )
    return server


@contextmanager
def served(make: Callable[[], web.Application]) -> Iterator[str]:
    """Run the application in a thread of its own; gives its URL."""
    loop, ports = asyncio.new_event_loop(), []
    is_up = threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(make())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        is_up.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert is_up.wait(10)
    yield f"http://127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> HardwareFile:
    """A profile by when tokens came, as the command makes it."""
    out = tmp_path_factory.mktemp("measured") / "mine.yaml"
    limits = ["--max-sequences", "4", "--max-batched-tokens", "256", "--seconds", "10"]
    with pytest.MonkeyPatch.context() as patch, served(vllm_like) as url:
        patch.setattr(testbed.measure_profile, "ROUNDS", 100)  # one short round is enough here
        patch.setattr(testbed.measure_profile, "ROUND_S_AT_LEAST", 0.1)
        patch.setattr(testbed.measure_profile, "drive_for", drive_once)
        ran = CliRunner().invoke(app, ["profile", "measure", "--url", url + "/", *limits, "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    assert re.search(r"error prefill [\d.]+ %, decode [\d.]+ %, mixed [\d.]+ %", ran.stdout)
    return read_hardware(out)


async def drive_once(generate: Generate, pieces: Sequence[LoadPiece], _: float, rng: Generator) -> MeasuredRounds:
    """One round, however long it may take."""
    return await drive_for(generate, pieces, 0.0, rng)


def test_limits_are_what_the_server_tells_and_what_the_user_said(measured: HardwareFile) -> None:
    assert (measured.name, measured.model) == ("mine", "some-llama")
    assert (measured.kv_cache_tokens, measured.block_tokens, measured.max_model_tokens) == (64000, 16, 512)
    assert (measured.max_sequences, measured.max_batched_tokens) == (4, 256)


def test_what_a_url_does_not_tell_is_said_in_the_profile(measured: HardwareFile) -> None:
    assert measured.host_s == 0.0
    assert measured.host_s_range[1] > 0.0
    assert measured.gpu == "not told over HTTP"
    assert "cannot be told from outside" in measured.source
    assert measured.fit_error_percent is not None
    assert measured.fit_error_percent.mixed is not None, "mixed steps are told by the wait of those that decode"


def test_without_its_limits_a_server_cannot_be_measured(tmp_path: Path) -> None:
    out = str(tmp_path / "mine.yaml")
    with served(vllm_like) as url, pytest.raises(InputError, match="give --max-sequences and --max-batched-tokens"):
        CliRunner().invoke(app, ["profile", "measure", "--url", url, "-o", out], catch_exceptions=False)


def test_a_server_that_is_no_vllm_is_told_so() -> None:
    with (
        served(lambda: vllm_like(metrics="nothing of it")) as url,
        pytest.raises(InputError, match=r"does not answer as vLLM does \(KeyError\('num_gpu_blocks'\)\)"),
    ):
        measure_served_engine(url, None, ToldLimits(16, 1024), MEASURING)


def test_with_a_step_log_limits_need_not_be_said_and_steps_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a real engine would grow meanwhile; this one does not, and that is noticed."""
    monkeypatch.setattr(testbed.measure_profile, "drive_for", drive_once)
    path = tmp_path / "steps.jsonl"
    limits = {
        "max_sequences": 4,
        "max_batched_tokens": 256,
        "max_model_tokens": 512,
        "blocks": 4000,
        "block_tokens": 16,
    }
    engine = {"vllm_version": "0.29.0", "device": "a card", "model": "models/x", "gpus": 2}
    cache = {"blocks": 4000, "block_tokens": 16, "has_prefix_cache": True}
    header = {**engine, **limits, **cache, "is_asynchronous": True}
    path.write_text(json.dumps(header) + "\n")
    with served(vllm_like) as url, pytest.raises(InputError, match="no step follows another"):
        measure_served_engine(
            url, path, ToldLimits(None, None), MEASURING
        )  # limits are not asked for: the log has them
