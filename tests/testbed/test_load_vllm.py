"""`burstscale load` against a plain vLLM server on the CPU: what it says is held against vLLM's own counters."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadgen.strict_config import read_yaml
from loadgen.trace import Trace, make_trace
from loadgen.trace_file import save_trace
from testbed.results import Results, read_results
from testbed.tiny_model import make_tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm installs it")

ROOT = Path(__file__).parents[2]
ENGINE = read_yaml(ROOT / "configs/serve/vllm_cpu.yaml")["applications"][0]["args"]["engine"]
LIMITS = ("--max-model-len", "2048", "--max-num-seqs", "16", "--num-gpu-blocks-override", "128")
EXECUTOR = ("--distributed-executor-backend", ENGINE["engine_kwargs"]["distributed_executor_backend"])


@dataclass(frozen=True)
class Server:
    """A vLLM server of its own process group."""

    url: str
    process: subprocess.Popen[bytes]

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.page("/metrics"))
            for sample in family.samples
            if sample.name == name
        )

    def wait_until_idle(self) -> None:
        """vLLM updates its gauges at its next step, or its next log."""
        end_s = time.monotonic() + 30
        while self.metric("vllm:num_requests_running") + self.metric("vllm:num_requests_waiting"):
            assert time.monotonic() < end_s, "vLLM still has requests although their connections are closed"
            time.sleep(0.2)

    def is_up(self) -> bool:
        try:
            self.page("/health")
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vllm-serve")
    make_tiny_model(folder / "tiny-llama")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # `vllm serve` asks for a package 'vllm', which vLLM's build for CPUs is not called; it starts the same module.
    command = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "tiny-llama"))
    where = ("--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port))
    how = ("--load-format", "dummy", "--dtype", "float32", "--enforce-eager", "--no-enable-prefix-caching")
    with (folder / "vllm.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *where, *how, *LIMITS, *EXECUTOR],
            env={**os.environ, **ENGINE["env_vars"]},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = Server(f"http://127.0.0.1:{port}", process)
    try:
        end_s = time.monotonic() + 240
        while not running.is_up():
            if process.poll() is not None or time.monotonic() > end_s:
                pytest.fail(f"vLLM is not up: {(folder / 'vllm.log').read_text()[-3000:]}")
            time.sleep(0.5)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def load(server: Server, trace: Trace, folder: Path, *options: str) -> subprocess.Popen[str]:
    save_trace(trace, folder / "traffic.parquet")
    command = [sys.executable, "-m", "testbed.cli", "load", "traffic.parquet", "--url", server.url, "--model", "tiny"]
    return subprocess.Popen(
        [*command, "--no-self-test", *options, "-o", "out"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results_of(run: subprocess.Popen[str], folder: Path) -> Results:
    try:
        said, _ = run.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        run.terminate()  # it ends Ray, and puts down what there is
        pytest.fail(f"the run does not end: {run.communicate(timeout=60)[0]}")
    assert run.returncode == 0, said
    return read_results(folder / "out")


def steady(requests: int, gap_s: float, prompt_tokens: int, output_tokens: int) -> Trace:
    lengths = np.full(requests, prompt_tokens), np.full(requests, output_tokens)
    return make_trace("steady", np.arange(requests) * gap_s, *lengths, duration_s=requests * gap_s)


def test_every_token_that_vllm_counts_was_asked_for_and_received(server: Server, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    arrival_s = np.sort(rng.uniform(0, 15, 45))
    prompt_tokens, output_tokens = rng.integers(5, 120, 45), rng.integers(1, 40, 45)
    output_tokens[20] = 1900  # takes seconds, so that metrics scraped each second find it in the KV cache
    service = rng.integers(0, 2, 45)
    trace = make_trace("mixed", arrival_s, prompt_tokens, output_tokens, service=service, duration_s=15.0)
    before = {name: server.metric(name) for name in ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")}
    found = results_of(load(server, trace, tmp_path, "--chunk-tokens"), tmp_path)

    assert found.records["status"].tolist() == ["ok"] * 45
    assert found.records["output_tokens"].tolist() == trace.output_tokens.tolist()
    counted = {name: server.metric(name) - value for name, value in before.items()}
    assert counted["vllm:prompt_tokens_total"] == trace.prompt_tokens.sum()
    assert counted["vllm:generation_tokens_total"] == trace.output_tokens.sum()
    assert found.engine["output_tokens"].sum() == pytest.approx(
        trace.output_tokens.sum(), abs=80
    )  # scraped each second
    assert found.engine["kv_cache_fraction"].max() > 0
    assert found.summary is not None
    assert found.summary["requests"]["total"]["gap_per_token_requests"]["averaged"] == 0  # vLLM told of each chunk
    chunks = found.records["chunk_offsets_s"].map(len)
    assert (chunks >= 1).all()
    assert (chunks <= found.records["output_tokens"] + 2).all()


def test_a_request_that_is_given_up_at_its_deadline_frees_vllms_cache(server: Server, tmp_path: Path) -> None:
    made_before = server.metric("vllm:generation_tokens_total")
    trace = steady(6, 0.2, prompt_tokens=50, output_tokens=1900)  # five seconds of work each, and more
    found = results_of(load(server, trace, tmp_path, "--deadline-s", "2"), tmp_path)
    assert found.records["status"].tolist() == ["timed_out"] * 6
    assert set(found.records["phase"]) <= {"prefill", "decode"}
    server.wait_until_idle()
    assert server.metric("vllm:kv_cache_usage_perc") == 0
    made = server.metric("vllm:generation_tokens_total") - made_before
    assert found.records["output_tokens"].sum() <= made < trace.output_tokens.sum() / 2  # it went on with none of them


def test_when_vllm_is_killed_each_request_says_what_it_met(server: Server, tmp_path: Path) -> None:
    """Last of the module: nothing answers after it. 6000 tokens/s are asked for: more than it makes, so some wait."""
    trace = steady(240, 0.05, prompt_tokens=20, output_tokens=300)
    made = server.metric("vllm:generation_tokens_total")
    run = load(server, trace, tmp_path)
    end_s = time.monotonic() + 120
    # Some are answered by then, and others are being answered.
    while server.metric("vllm:generation_tokens_total") < made + 9000 or not server.metric("vllm:num_requests_running"):
        assert time.monotonic() < end_s, "vLLM makes no tokens for the run"
        time.sleep(0.1)
    os.killpg(server.process.pid, signal.SIGKILL)
    records = results_of(run, tmp_path).records
    assert len(records) == 240
    assert set(records["status"]) == {"ok", "failed"}
    failed = records[records["status"] == "failed"]
    assert set(failed["cause"]) == {"connection", "stream_cut"}
    killed_s = failed.loc[failed["cause"] == "stream_cut", "finished_s"]
    assert killed_s.max() - killed_s.min() < 1.0  # all that were being answered ended at that moment
    assert failed.loc[failed["first_token_s"].notna(), "cause"].eq("stream_cut").all()
