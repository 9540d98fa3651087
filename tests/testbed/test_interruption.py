"""A command ends in order at the first signal, at once at the second, and its exit code says which it was."""

import signal
import subprocess
import sys

import pytest

WORK = """
import signal, sys, time
from testbed.interruption import ends_in_order, keeps_sigterm
if "ignored" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with ends_in_order():
    with keeps_sigterm():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))  # as a library may do
    try:
        print("working", flush=True)
        time.sleep(2 if "ignored" in sys.argv else 60)
        print("done", flush=True)
    except KeyboardInterrupt:
        print("ending", flush=True)
        time.sleep(60 if "slow" in sys.argv else 0)
        print("ended", flush=True)
"""


def start(*options: str) -> subprocess.Popen[str]:
    """A process at work, which takes signals as one that a shell has started in the foreground."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_lets_the_work_end_in_order(number: signal.Signals, code: int) -> None:
    process = start()
    process.send_signal(number)
    said, warned = process.communicate(timeout=20)
    assert (process.returncode, said) == (code, "ending\nended\n")
    assert warned == f"burstscale: ending in order after {number.name}; another one ends it at once\n"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(first: signal.Signals, second: signal.Signals) -> None:
    process = start("slow")
    process.send_signal(first)
    assert process.stdout is not None
    assert process.stdout.readline() == "ending\n"
    process.send_signal(second)
    said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (-second, "")


def test_a_signal_that_a_shell_has_its_background_jobs_ignore_stays_ignored() -> None:
    process = start("ignored")
    process.send_signal(signal.SIGINT)
    said, warned = process.communicate(timeout=20)
    assert (process.returncode, said, warned) == (0, "done\n", "")
