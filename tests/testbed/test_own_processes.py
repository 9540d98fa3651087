"""What a process has started is found, down to the last child, and is ended even where it is frozen."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from testbed.own_processes import OwnProcess, children_of, end_all, with_descendants

PARENT = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""
Family = tuple[subprocess.Popen[str], int]


@pytest.fixture
def family() -> Iterator[Family]:
    """A process, and the number of the one that it has started."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    yield parent, child
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    parent.kill()
    parent.communicate()


def test_children_and_their_children_are_found(family: Family) -> None:
    parent, child = family
    own = {each.process_id: each for each in children_of(os.getpid())}
    assert {each.process_id for each in with_descendants([own[parent.pid]])} == {parent.pid, child}


def test_frozen_processes_are_ended_by_force(family: Family) -> None:
    parent, child = family
    os.kill(parent.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGSTOP)
    found = with_descendants(each for each in children_of(os.getpid()) if each.process_id == parent.pid)
    assert all(each.is_alive() for each in found)
    end_all(found, patience_s=0.1)
    assert parent.wait(timeout=20) == -signal.SIGKILL
    end_all(found, patience_s=20)
    assert not any(each.is_alive() for each in found)


def test_who_ends_by_itself_is_waited_for_and_not_killed() -> None:
    process = subprocess.Popen(["sleep", "0.3"])
    found = [each for each in children_of(os.getpid()) if each.process_id == process.pid]
    end_all(found, patience_s=20)
    assert process.wait(timeout=20) == 0


def test_a_later_process_of_the_same_number_is_let_be(family: Family) -> None:
    parent, _ = family
    (found,) = (each for each in children_of(os.getpid()) if each.process_id == parent.pid)
    earlier = OwnProcess(found.process_id, found.began_ticks - 1)
    assert not earlier.is_alive()
    earlier.kill()
    assert found.is_alive()
