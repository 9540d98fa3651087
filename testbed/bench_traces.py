"""How fast traces are read and drawn here, beside a bare read of the same file."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from loadgen.formats.detect import read_trace
from loadgen.shipped_workloads import find_workload
from loadgen.workload import draw_trace, read_workload_model
from testbed.bench_target import Target, verdicts
from testbed.resident_memory import resident_bytes

BURSTGPT_1_ROWS = 1_430_000
_DAYS = 61
_DAY_S = 86_400
_LARGE_FACTOR = 5.3 / 1.43
_REPEATS = 7
_LARGE_REPEATS = 3

TARGETS: dict[str, Target] = {
    "read_ratio_to_pyarrow": Target("reading, against a bare pyarrow.csv.read_csv", 2.0, "x"),
    "read_peak_bytes": Target("memory that reading adds", 1e9, "bytes"),
    "read_seconds_5_3m": Target("reading 5.3 M rows", 8.0, "s"),
    "make_seconds": Target("drawing 61 days of the model of BurstGPT", 3.0, "s"),
}


@dataclass(frozen=True, slots=True)
class TraceBenchmark:
    """Medians over alternating repeats.

    Attributes:
        rows: rows of the file that is read.
        read_seconds: file -> checked `Trace`.
        pyarrow_seconds: a bare `pyarrow.csv.read_csv` of the same file.
        read_ratio_to_pyarrow: the first by the second.
        read_peak_bytes: how much the resident memory of a fresh process grows at most while it reads the file.
        large_rows, read_seconds_5_3m: the same file made 5.3 / 1.43 times longer, of version 2, with its sessions.
        made_requests, make_seconds: drawing the 61 days of the model of BurstGPT, whatever `rows`.
    """

    rows: int
    read_seconds: float
    pyarrow_seconds: float
    read_ratio_to_pyarrow: float
    read_peak_bytes: int
    large_rows: int
    read_seconds_5_3m: float
    made_requests: int
    make_seconds: float

    def as_json(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)

    def conclusion(self) -> str:
        """One sentence that says what the figures mean."""
        if self.rows != BURSTGPT_1_ROWS:
            return f"The targets are for {BURSTGPT_1_ROWS:,} rows: with {self.rows:,} they say nothing."
        missed = [verdict.what for verdict in verdicts(TARGETS, self) if not verdict.is_met]
        if not missed:
            return (
                f"Every target is met: two months of traffic are read in {self.read_seconds:.2f} s, "
                f"{self.read_ratio_to_pyarrow:.2f} times as long as parsing their file takes, and drawn in "
                f"{self.make_seconds:.2f} s."
            )
        return f"{len(TARGETS) - len(missed)} of {len(TARGETS)} targets are met; missed: {', '.join(missed)}."


def bench_traces(rows: int, on_stage: Callable[[str], None], model_name: str = "model_of_burstgpt") -> TraceBenchmark:
    """Make files of that many rows in a temporary folder, read them, and draw traces from a workload model."""
    rng = np.random.default_rng(0)
    large_rows = round(rows * _LARGE_FACTOR)
    with tempfile.TemporaryDirectory() as folder:
        path, large_path = Path(folder) / "burstgpt.csv", Path(folder) / "burstgpt_large.csv"
        on_stage(f"writing a file of {rows:,} rows")
        write_burstgpt_file(path, rows, rng, has_sessions=False)
        on_stage(f"reading it {_REPEATS} times")
        pyarrow_seconds, read_seconds = _alternating_seconds(
            [lambda: pyarrow.csv.read_csv(path), lambda: read_trace(path)], _REPEATS
        )
        on_stage("measuring the memory that reading it takes")
        peak_bytes = _peak_bytes_of_reading(path)
        on_stage(f"writing and reading a file of {large_rows:,} rows")
        write_burstgpt_file(large_path, large_rows, rng, has_sessions=True)
        (large_seconds,) = _alternating_seconds([lambda: read_trace(large_path)], _LARGE_REPEATS)
    on_stage(f"drawing traces from {model_name}")
    model = read_workload_model(find_workload(model_name))
    (make_seconds,) = _alternating_seconds([lambda: draw_trace(model, np.random.default_rng(0))], _LARGE_REPEATS)
    return TraceBenchmark(
        rows=rows,
        read_seconds=read_seconds,
        pyarrow_seconds=pyarrow_seconds,
        read_ratio_to_pyarrow=read_seconds / pyarrow_seconds,
        read_peak_bytes=peak_bytes,
        large_rows=large_rows,
        read_seconds_5_3m=large_seconds,
        made_requests=len(draw_trace(model, np.random.default_rng(0))),
        make_seconds=make_seconds,
    )


def write_burstgpt_file(path: Path, rows: int, rng: np.random.Generator, *, has_sessions: bool) -> None:
    """Write a CSV file with BurstGPT's columns, of version 1 or (with sessions) 2, and values of the same kind.

    The shares of services, models and failures are BurstGPT_1's (BurstGPT_3's with sessions, where API requests have
    neither session nor elapsed time); times crowd into bursts, lengths are lognormal.
    """
    burst = rng.integers(0, _DAYS * _DAY_S - 3600, size=max(1, rows // 5000))
    second = np.sort(rng.choice(burst, rows) + rng.integers(0, 3600, rows))
    is_failure = rng.random(rows) < 0.018
    prompt, output = (np.minimum(rng.lognormal(mean, 1.0, rows), 30_000).astype(np.int64) + 1 for mean in (6.0, 4.5))
    prompt, output = (np.where(is_failure, 0, tokens) for tokens in (prompt, output))
    is_api = rng.random(rows) < (0.956 if has_sessions else 0.892)
    columns: dict[str, object] = {"Timestamp": second}
    if has_sessions:
        columns["Timestamp"] = pc.binary_join_element_wise(pc.cast(pa.array(second + 19_440_110), "string"), ".0", "")
        columns["Session ID"] = _session_ids(is_api, rng)
        elapsed = pc.cast(pa.array(rng.integers(1, 60, rows)), "string")
        columns["Elapsed time"] = pc.if_else(pa.array(is_api), "", elapsed)
    columns |= {
        "Model": pa.array(["ChatGPT", "GPT-4"]).take(pa.array(rng.random(rows) > 0.85).cast("int8")),
        "Request tokens": prompt,
        "Response tokens": output,
        "Total tokens": prompt + output,
        "Log Type": pa.array(["Conversation log", "API log"]).take(pa.array(is_api).cast("int8")),
    }
    table = pa.table(columns)
    with path.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
        pyarrow.csv.write_csv(table, file, options)


def print_peak_of_reading(path: str) -> None:
    """In a process of its own: print how many bytes its resident memory grew by at most while it read a trace."""
    before = resident_bytes("VmRSS")
    trace = read_trace(Path(path))
    assert len(trace) > 0
    print(resident_bytes("VmHWM") - before)


def _peak_bytes_of_reading(path: Path) -> int:
    """The same, seen from here: memory that this process has already must not count."""
    code = "import sys; from testbed.bench_traces import print_peak_of_reading; print_peak_of_reading(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def _alternating_seconds(tasks: list[Callable[[], object]], repeats: int) -> list[float]:
    """The median time of each task, taken in turns after one run that does not count, so that load hits all alike."""
    seconds: list[list[float]] = [[] for _ in tasks]
    for repeat in range(repeats + 1):
        for place, task in enumerate(tasks):
            start_s = time.perf_counter()
            task()
            if repeat:
                seconds[place].append(time.perf_counter() - start_s)
    return [median(of_task) for of_task in seconds]


def _session_ids(is_api: NDArray[np.bool_], rng: np.random.Generator) -> Any:
    """A text like a UUID for each conversation request, three requests to a session; none for an API request."""
    sessions = int(np.count_nonzero(~is_api)) // 3 + 1
    ids = ["", *(str(UUID(bytes=rng.bytes(16))) for _ in range(sessions))]
    return pa.array(ids).take(pa.array(np.where(is_api, 0, rng.integers(1, sessions + 1, len(is_api)))))
