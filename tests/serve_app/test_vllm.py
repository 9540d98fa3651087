"""Real vLLM on the CPU behind the ingress: one Serve for the module, from configs/serve/vllm_cpu.yaml."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from vllm_serve import APP, Fleet, serve_args, wait_until

from loadgen.records import Phase
from serve_app.traffic import CutOff
from testbed.tiny_model import make_tiny_model, tiny_vocabulary

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm installs it")


WORDS = list(tiny_vocabulary())[2:]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One replica of the tiny model behind the ingress."""
    import ray
    from ray import serve

    from serve_app.app import build_app

    model = tmp_path_factory.mktemp("models") / "tiny-llama"
    make_tiny_model(model)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Fleet(f"http://127.0.0.1:{port}", uuid.uuid4().hex)
    args = serve_args(model, min_replicas=1, max_replicas=1, initial_replicas=1)
    args["policy"] = {"name": "static", "params": {"replicas": 1}}
    args["services"]["api"]["deadline_s"] = 400  # longer than a new replica takes on a busy machine
    args["engine"]["env_vars"]["BURSTSCALE_TEST"] = running.mark
    ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, num_cpus=16, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build_app(args), name=APP, route_prefix="/")
        yield running
    finally:
        serve.shutdown()
        ray.shutdown()
        wait_until(lambda: not running.engine_processes(), 20, "the engines' processes have ended")


def openai_client(fleet: Fleet) -> Any:
    openai = pytest.importorskip("openai", reason="the openai client is not installed: it is in the extra 'dev'")
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=100)


def test_the_openai_client_streams_a_chat_completion_whose_tokens_vllm_made(fleet: Fleet) -> None:
    before = fleet.reported_output_tokens()
    chunks = list(
        openai_client(fleet).chat.completions.create(
            model="tiny-llama",
            messages=[{"role": "user", "content": " ".join(WORDS[:50])}],
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (50, 40)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert set(text.split()) <= set(WORDS)
    assert 35 <= len(text.split()) <= 40  # a special token is counted, not shown
    wait_until(lambda: fleet.reported_output_tokens() - before >= 40, 10, "vLLM's statistics count the tokens")
    assert fleet.reported_output_tokens() - before == 40


def test_the_model_runs_in_the_engines_process_as_the_file_says(fleet: Fleet) -> None:
    """On CPUs Ray and vLLM would start another process, and the two would poll for each other without rest."""
    (process,) = fleet.engine_processes()
    assert process in fleet.engine_processes("EngineCore")


def test_the_openai_client_streams_a_completion(fleet: Fleet) -> None:
    chunks = list(
        openai_client(fleet).completions.create(
            model="tiny-llama",
            prompt=" ".join(WORDS[100:200]),
            max_tokens=25,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (100, 25)
    assert chunks[-2].choices[0].finish_reason == "length"


def test_an_answer_that_is_not_streamed_comes_whole(fleet: Fleet) -> None:
    client = openai_client(fleet)
    chat = client.chat.completions.create(
        model="tiny-llama",
        messages=[{"role": "user", "content": "one two"}],
        max_tokens=7,
        extra_body={"ignore_eos": True},
    )
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (2, 7)
    completion = client.completions.create(
        model="tiny-llama", prompt="one two three", max_tokens=9, extra_body={"ignore_eos": True}
    )
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 9)
    assert client.models.list().data[0].id == "tiny-llama"


@pytest.mark.parametrize("word", ["bada", "x" * 100], ids=["by its tokens", "by its characters"])
def test_a_request_that_does_not_fit_is_refused_as_too_long(fleet: Fleet, word: str) -> None:
    prompt = " ".join([word] * 2000)
    status, text = fleet.post("/v1/completions", {"prompt": prompt, "max_tokens": 100, "stream": True})
    error = json.loads(text)["error"]
    assert (status, error["cause"]) == (400, "too_long")
    assert "2048" in error["message"]


def test_long_words_are_one_token_each_for_vllm_too(fleet: Fleet) -> None:
    prompt = " ".join(["elephants'"] * 2000)
    status, text = fleet.post("/v1/completions", {"prompt": prompt, "max_tokens": 40, "ignore_eos": True})
    assert status == 200
    usage = json.loads(text)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (2000, 40)


def test_a_parameter_that_vllm_refuses_is_the_clients_error(fleet: Fleet) -> None:
    status, text = fleet.post("/v1/completions", {"prompt": "one", "temperature": -1})
    assert status == 400
    assert "temperature" in json.loads(text)["error"]["message"]


def test_a_client_that_leaves_frees_the_engine_which_tells_where_the_request_was(fleet: Fleet) -> None:
    before = fleet.reported_output_tokens()
    stream = openai_client(fleet).completions.create(
        model="tiny-llama",
        prompt=" ".join(WORDS[300:400]),
        max_tokens=1900,
        stream=True,
        extra_body={"ignore_eos": True},
        extra_headers={"x-request-id": "leaves-7"},
    )
    chunks = iter(stream)
    for _ in range(10):
        next(chunks)
    wait_until(lambda: fleet.samples()[-1].running == 1, 5, "vLLM reports the request")
    assert fleet.samples()[-1].kv_cache_fraction > 0
    stream.close()
    wait_until(lambda: fleet.samples()[-1].running == 0, 5, "vLLM has dropped the request")
    assert fleet.samples()[-1].kv_cache_fraction == 0
    assert 0 < fleet.reported_output_tokens() - before < 1900, "it was dropped, not finished"
    assert CutOff("leaves-7", Phase.DECODE) in [each for sample in fleet.samples() for each in sample.cut_off]


def test_requests_for_which_the_cache_has_no_room_were_in_the_engines_queue(fleet: Fleet) -> None:
    """Of prompts of 1,800 tokens, 15 blocks each, 17 fit into the 255 blocks, and those have 240 steps to go."""

    def ask(number: int) -> None:
        prompt = " ".join((WORDS[number * 20 :] + WORDS)[:1800])
        body = {"model": "tiny-llama", "prompt": prompt, "max_tokens": 240, "ignore_eos": True}
        headers = {"content-type": "application/json", "x-request-id": f"many-{number}", "x-deadline-s": "1.5"}
        request = urllib.request.Request(f"{fleet.url}/v1/completions", json.dumps(body).encode(), headers)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=100).read()

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(32)))
    wait_until(lambda: fleet.samples()[-1].running + fleet.samples()[-1].waiting == 0, 20, "vLLM has dropped them")
    told = [each for sample in fleet.samples() for each in sample.cut_off if each.request_id.startswith("many-")]
    assert len({each.request_id for each in told}) == len(told) > 0
    phases = Counter(each.phase for each in told)
    assert phases[Phase.ENGINE_QUEUE] > 0
    assert set(phases) <= {Phase.ENGINE_QUEUE, Phase.PREFILL, Phase.DECODE}


class Prober(threading.Thread):
    """Sends one short request after the other, and keeps when each ended, its status and its text."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._stopped = threading.Event()
        self.answers: list[tuple[float, int, str]] = []

    def run(self) -> None:
        """Send until `stop`."""
        while not self._stopped.is_set():
            body = {"prompt": "one two", "max_tokens": 3, "ignore_eos": True}
            status, text = self._fleet.post("/v1/completions", body, timeout_s=400)
            self.answers.append((time.monotonic(), status, text))
            self._stopped.wait(0.05)

    def stop(self) -> None:
        """Send no more and wait for the last answer."""
        self._stopped.set()
        self.join(timeout=400)


def test_a_replica_whose_engine_is_killed_is_replaced_and_answers_nothing_in_between(fleet: Fleet) -> None:
    stream_text: list[str] = []

    def stream() -> None:
        body = {"prompt": " ".join(WORDS[500:600]), "max_tokens": 1900, "ignore_eos": True, "stream": True}
        stream_text.append(fleet.post("/v1/completions", body)[1])

    streaming = threading.Thread(target=stream, daemon=True)
    streaming.start()
    wait_until(lambda: fleet.samples()[-1].running >= 1, 20, "the stream runs")
    (engine,) = fleet.engine_processes("EngineCore")
    prober = Prober(fleet)
    prober.start()
    wait_until(lambda: len(prober.answers) >= 3, 20, "requests are answered")
    killed_s = time.monotonic()
    os.kill(engine, signal.SIGKILL)

    streaming.join(timeout=10)
    assert not streaming.is_alive()
    last_event = stream_text[0].strip().splitlines()[-1]
    assert json.loads(last_event.removeprefix("data: "))["error"]["cause"] == "replica_lost"

    wait_until(lambda: prober.answers[-1][0] > killed_s + 10 and prober.answers[-1][1] == 200, 400, "it is replaced")
    prober.stop()
    failed = [(ended_s - killed_s, status, text) for ended_s, status, text in prober.answers if status != 200]
    # Only a request that the dead engine had, or got in the moment before its replica ended, is lost.
    assert len(failed) <= 2, failed
    assert all(json.loads(text)["error"]["cause"] == "replica_lost" for _, _, text in failed)
    assert all(after_s < 5 for after_s, _, _ in failed), failed
    assert len(fleet.engine_processes("EngineCore")) == 1
    assert engine not in fleet.engine_processes()
