"""`serve run configs/serve/emulated.yaml`, as a user types it: it starts, answers, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
import yaml
from live_serve import descendants, free_port, wait_for_end

pytestmark = pytest.mark.ray

CONFIG = Path(__file__).parents[2] / "configs" / "serve" / "emulated.yaml"


def first_words(client: openai.OpenAI, model: str, within_s: float) -> str:
    """The answer to a request that is repeated until the application is up."""
    end_s = time.monotonic() + within_s
    while True:
        try:
            answer = client.completions.create(model=model, prompt="hello there", max_tokens=4)
            return answer.choices[0].text
        except (openai.APIConnectionError, openai.APIStatusError):
            if time.monotonic() > end_s:
                raise
            time.sleep(0.5)


def test_serve_run_starts_the_emulated_fleet_and_ends_without_a_trace(tmp_path: Path) -> None:
    """The shipped file with another port and a shorter cold start."""
    document = yaml.safe_load(CONFIG.read_text())
    port = document["http_options"]["port"] = free_port()
    arguments = document["applications"][0]["args"]
    arguments["fleet"] |= {"initial_replicas": 1, "cold_start_s": 1}
    path = tmp_path / "emulated.yaml"
    path.write_text(yaml.safe_dump(document))
    serve = Path(sys.executable).with_name("serve")
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [serve, "run", str(path)], stdout=output, stderr=subprocess.STDOUT, cwd=CONFIG.parents[2], env=os.environ
        )
    started: set[int] = set()
    try:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0)
        words = first_words(client, arguments["model_id"], within_s=90)
        started = descendants(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
    assert len(words.split()) == 4
    assert len(started) > 5, "Ray, the proxy, the controller and the replicas are processes of their own"
    assert wait_for_end(started, within_s=20) == set()
