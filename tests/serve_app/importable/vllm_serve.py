"""The application of configs/serve/vllm_cpu.yaml for tests, and what its engines report."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.strict_config import read_yaml

APP = "vllm-test"
SERVE_CONFIG = Path(__file__).parents[3] / "configs" / "serve" / "vllm_cpu.yaml"


def serve_args(model: Path, **fleet: Any) -> dict[str, Any]:
    """The configuration file's application, with the model at `model`."""
    args: dict[str, Any] = read_yaml(SERVE_CONFIG)["applications"][0]["args"]
    args["engine"]["model_source"] = str(model)
    args["fleet"] |= fleet
    return args


@dataclass(frozen=True)
class Fleet:
    """The running application: `url` of its API, `mark` is in the environment of its engines' processes."""

    url: str
    mark: str

    def engine_processes(self, name: str = "VLLM::") -> list[int]:
        """Ids of vLLM's processes that were started for this application."""
        import psutil

        found = []
        for process in psutil.process_iter():
            try:
                if name in process.name() and process.environ().get("BURSTSCALE_TEST") == self.mark:
                    found.append(process.pid)
            except psutil.Error:  # it has just ended
                continue
        return found

    def samples(self) -> list[Any]:
        """What the engines have reported so far, in vLLM's own numbers, as collected by the traffic monitor."""
        import ray

        from serve_app.traffic_monitor import find_monitor

        monitor: Any = find_monitor(APP)
        return list(ray.get(monitor.collect.remote(), timeout=30).samples)

    def reported_output_tokens(self) -> int:
        """Tokens that vLLM has counted."""
        return sum(sample.output_tokens for sample in self.samples())

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 100.0) -> tuple[int, str]:
        """Status and text of the answer."""
        data = json.dumps({"model": "tiny-llama"} | body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def wait_until(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Poll `condition`; fail the test when it does not come true."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.2)
