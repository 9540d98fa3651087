"""The cluster that a command connects to, and what of Ray's words it lets through."""

import io
import socket

import pytest

from loadgen.errors import InputError
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


def test_a_notice_is_dropped_with_the_end_of_its_line_and_the_rest_passes() -> None:
    shown = io.StringIO()
    stream = _WithoutNotices(shown)
    print("(raylet) out of memory", file=stream)
    print(f"(raylet) WARNING: 8 {HARMLESS_NOTICES[0]}: x", file=stream)
    print(file=stream)
    print("done", file=stream)
    assert shown.getvalue() == "(raylet) out of memory\n\ndone\n"
