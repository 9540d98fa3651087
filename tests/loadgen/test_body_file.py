"""Bodies lie in a file that nobody sees, and are the same when they are sent."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen.body_file import keep_bodies_in_file
from loadgen.errors import InputError
from loadgen.plan import PlannedRequest


def request(number: int, body: bytes) -> PlannedRequest:
    return PlannedRequest(number, "api", "m", 1, 1, float(number), 5.0, "/v1/completions", b"x: %d\r\n" % number, body)


def test_the_requests_come_back_as_they_were(tmp_path: Path) -> None:
    bodies = [bytes([65 + number]) * (number * 1000) for number in range(20)]
    kept = keep_bodies_in_file((request(number, body) for number, body in enumerate(bodies)), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert [bytes(one.body) for one in kept] == bodies
    assert [one.request_id for one in kept] == list(range(20))
    assert kept[3].header_lines == b"x: 3\r\n"
    assert all(isinstance(one.body, memoryview) for one in kept)


def test_no_request_needs_no_file(tmp_path: Path) -> None:
    assert keep_bodies_in_file(iter(()), tmp_path) == []


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path: Path) -> None:
    def requests() -> Iterator[PlannedRequest]:
        yield request(0, b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"cannot be written there .No space left on device., after 0\.0 GB"):
        keep_bodies_in_file(requests(), tmp_path)
