"""`serve run configs/serve/emulated.yaml` and `burstscale load` against it, as a user types them; nothing is left."""

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

from testbed.results import Results, read_results

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


def load(folder: Path, port: int, model: str) -> Results:
    """`burstscale load` on ten seconds of the shipped workload model, in a process of its own."""
    workload = CONFIG.parents[1] / "workloads/burst_demo.yaml"
    arguments = (workload, "--url", f"http://127.0.0.1:{port}", "--model", model, "--limit-s", "10", "-o", folder)
    # Its own Ray: the one of `serve run` is not for it to use.
    done = subprocess.run(
        [Path(sys.executable).with_name("burstscale"), "load", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_results(folder)


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
        results = load(tmp_path / "load", port, arguments["model_id"])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
    assert len(words.split()) == 4
    assert results.complete
    assert len(results.records) == results.environment["trace"]["requests"] > 10
    assert (results.records["status"] == "ok").mean() > 0.8
    assert len(started) > 5, "Ray, the proxy, the controller and the replicas are processes of their own"
    assert wait_for_end(started, within_s=20) == set()
