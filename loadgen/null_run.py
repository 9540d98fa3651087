"""Sends a plan of arrivals to the null server, from processes of their own, and says how late each arrived there."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError

# The request's row is carried in `max_tokens`, which every client passes on unchanged; tiny values might be refused.
FIRST_NUMBER = 1000
OUR_CLIENT = "loadgen.null_client"
_START_LEAD_S = 0.3
# Beyond its plan, for its processes to start, for the last deadline to pass (30 s), and for all to tell.
_PATIENCE_S = 180.0
_TELLING_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class NullRun:
    """What the server saw of a plan, and what it cost the clients.

    Attributes:
        planned_s: f64[n], from the start.
        arrived_s: f64[n], the same; NaN = never arrived.
        ok: requests whose answers the clients took for whole.
        client_cpu_s: processor time of all client processes between the start and their last answer.
    """

    planned_s: NDArray[np.float64]
    arrived_s: NDArray[np.float64]
    ok: int
    client_cpu_s: float

    @classmethod
    def seen_by(
        cls, server: "NullServerProcess", planned_s: Sequence[float], start_s: float, *, ok: int, client_cpu_s: float
    ) -> Self:
        """What a server that has ended saw of a plan that started at `start_s` of the monotonic clock."""
        arrived_s = np.full(len(planned_s), np.nan)
        for number, instant_s in server.arrivals:
            arrived_s[number - FIRST_NUMBER] = instant_s - start_s
        return cls(np.asarray(planned_s, np.float64), arrived_s, ok, client_cpu_s)

    @property
    def lag_s(self) -> NDArray[np.float64]:
        """f64[n]: how long after its instant each request arrived; infinite where it never did."""
        return np.nan_to_num(self.arrived_s - self.planned_s, nan=np.inf)


class NullServerProcess:
    """A null server in a process of its own; a context manager.

    Attributes:
        arrivals: of each request, its number and the instant (monotonic clock), once the process has ended.
        cpu_s: the processor time that it has used, by then.
    """

    def __init__(self) -> None:
        self.arrivals: list[tuple[int, float]] = []
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self._process = _start_module("loadgen.null_server")
        with killed_after(_PATIENCE_S, [self._process]):
            self.port = int(_read_line(self._process, "the null server"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with killed_after(_TELLING_TIMEOUT_S, [self._process]):
            told = self._process.communicate()[0]
        if error is not None:
            return
        if self._process.returncode:
            raise _ended_early(self._process, "the null server")
        cpu_s, *lines = told.splitlines()
        self.cpu_s = float(cpu_s)
        self.arrivals = [(int(number), float(instant)) for number, instant in map(str.split, lines)]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def run_against_null_server(planned_s: Sequence[float], actors: int, client: str = OUR_CLIENT) -> NullRun:
    """Send one request at each instant of `planned_s` (from the start), shared out to so many client processes.

    Args:
        client: the module that is run in each; it takes what `loadgen.null_client` takes.
    """
    clients: list[subprocess.Popen[str]] = []
    limit_s = max(planned_s, default=0.0) + _PATIENCE_S
    with NullServerProcess() as server, killed_after(limit_s, clients), ExitStack() as stack:
        for shard in range(actors):
            process = stack.enter_context(_start_module(client))
            clients.append(process)
            numbers = range(shard, len(planned_s), actors)
            instants_s = [float(planned_s[number]) for number in numbers]
            _write_line(process, json.dumps({"url": server.url, "numbers": [*numbers], "planned_s": instants_s}))
        for process in clients:
            _read_line(process, "a client")  # it is connected
        start_epoch_s = time.time() + _START_LEAD_S
        start_monotonic_s = time.monotonic() + _START_LEAD_S
        for process in clients:
            _write_line(process, repr(start_epoch_s))
        results: list[dict[str, Any]] = [json.loads(_read_line(process, "a client")) for process in clients]
    ok, cpu_s = (sum(result[name] for result in results) for name in ("ok", "cpu_s"))
    return NullRun.seen_by(server, planned_s, start_monotonic_s, ok=ok, client_cpu_s=cpu_s)


def _start_module(module: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


@contextmanager
def killed_after(limit_s: float, processes: Sequence["subprocess.Popen[str]"]) -> Iterator[None]:
    """End those that are still there after `limit_s`, also of such as are added meanwhile: then nobody waits for them.

    One that is frozen would otherwise hold whoever reads from it for ever.
    """

    def kill() -> None:
        for process in processes:
            process.kill()

    timer = threading.Timer(limit_s, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _write_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError as error:
        raise _ended_early(process, "a client") from error


def _read_line(process: subprocess.Popen[str], who: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise _ended_early(process, who)
    return line


def _ended_early(process: subprocess.Popen[str], who: str) -> InputError:
    return InputError(
        f"null run: {who} ended with status {process.wait()} before its work was done; see that the machine is not "
        "overloaded (--no-self-test has `burstscale load` do without)"
    )
