"""A file of lines is whole up to its last line, whatever happens to the disk or to the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.file_lock import is_locked
from loadgen.line_file import LineFile, whole_lines

# A limit on files' sizes acts like a full disk: a part of the line goes in, the rest does not.
WRITE_BEYOND_THE_LIMIT = """
import resource, sys
from pathlib import Path
from loadgen.line_file import LineFile
with LineFile(Path(sys.argv[1])) as file:
    file.write_line(b"first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 200))
    try:
        file.write_line(b"x" * 150)
    except OSError as error:
        print(error.strerror)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    file.write_line(b"y" * 150)
    file.sync()
"""


def test_a_line_that_finds_no_room_leaves_no_trace_and_the_next_one_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, str(tmp_path / "lines")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "File too large\n")
    assert (tmp_path / "lines").read_bytes() == b"first\n" + b"y" * 150 + b"\n"


def test_who_reads_can_tell_whether_anybody_writes(tmp_path: Path) -> None:
    with LineFile(tmp_path / "lines") as file:
        file.write_line(b"one")
        assert is_locked(tmp_path / "lines")
        assert whole_lines(tmp_path / "lines") == [b"one"]
    assert not is_locked(tmp_path / "lines")


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        LineFile(tmp_path / "lines")
    assert (tmp_path / "lines").read_bytes() == b"precious"
    assert whole_lines(tmp_path / "lines") == []
