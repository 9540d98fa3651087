"""The cluster that a command connects to, and what of Ray's words it lets through."""

import io
import os
import signal
import socket
import subprocess
import threading

import pytest
import ray

from loadgen.errors import InputError
from testbed import ray_cluster as ray_cluster_module
from testbed.ray_cluster import HARMLESS_NOTICES, _WithoutNotices, ray_cluster


def test_a_cluster_that_does_not_answer_is_one_line_and_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens on it
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        with (
            pytest.raises(InputError, match=r"^RAY_ADDRESS: names 127\.0\.0\.1:\d+, where no Ray cluster answers"),
            ray_cluster(needed_cpus=1),
        ):
            pass


def test_a_ray_that_does_not_start_is_one_line_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(**_settings: object) -> None:
        started.append(subprocess.Popen(["sleep", "600"]))
        raise RuntimeError("Timed out waiting for a file\nand more")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", start)
    with (
        pytest.raises(InputError, match=r"^Ray: did not start \(Timed out waiting for a file\); see that the machine"),
        ray_cluster(needed_cpus=1),
    ):
        pass
    assert started[0].wait(timeout=20) == -signal.SIGKILL


def test_a_ray_that_does_not_end_is_left_and_its_processes_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    never = threading.Event()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster_module, "_SHUTDOWN_TIMEOUT_S", 0.1)
    monkeypatch.setattr(ray, "init", lambda **_settings: started.append(subprocess.Popen(["sleep", "600"])))
    monkeypatch.setattr(ray, "shutdown", never.wait)
    with ray_cluster(needed_cpus=1):
        os.kill(started[0].pid, signal.SIGSTOP)
    assert started[0].wait(timeout=20) == -signal.SIGKILL
    never.set()


def test_a_notice_is_dropped_with_the_end_of_its_line_and_the_rest_passes() -> None:
    shown = io.StringIO()
    stream = _WithoutNotices(shown)
    print("(raylet) out of memory", file=stream)
    print(f"(raylet) WARNING: 8 {HARMLESS_NOTICES[0]}: x", file=stream)
    print(file=stream)
    print("done", file=stream)
    assert shown.getvalue() == "(raylet) out of memory\n\ndone\n"
