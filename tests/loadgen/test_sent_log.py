"""What a process has sent is known although it was killed while it was sending."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadgen.sent_log import SentLog, read_sent_log

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from loadgen.sent_log import SentLog
log = SentLog(Path(sys.argv[1]))
for number in range(10**9):
    log.note(number, number / 8, number / 4)
    if number == 200_000:
        print("written", flush=True)
"""

# A limit on files' sizes acts like a full disk: a mapped page beyond it would end the process.
FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from loadgen.sent_log import SentLog
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
log = SentLog(Path(sys.argv[1]))
for number in range(10**6):
    try:
        log.note(number, 0.0, 0.0)
    except OSError as error:
        print(error.strerror, "after", number)
        break
"""


def test_what_was_noted_is_read_back_and_the_first_time_counts(tmp_path: Path) -> None:
    log = SentLog(tmp_path / "log")
    for request_id, scheduled_s, sent_s in ((0, 0.0, 0.1), (7, 1.0, 1.5), (3, 2.0, 2.0), (7, 1.0, 9.0)):
        log.note(request_id, scheduled_s, sent_s)
    want = {"request_id": [0, 3, 7], "scheduled_s": [0.0, 2.0, 1.0], "sent_s": [0.1, 2.0, 1.5], "attempts": [1, 1, 2]}
    assert read_sent_log(tmp_path / "log").to_pydict() == want  # also while it is still open
    log.close()
    assert read_sent_log(tmp_path / "log").to_pydict() == want


def test_a_process_killed_while_writing_has_lost_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / "log")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    noted = read_sent_log(tmp_path / "log")
    ids = noted["request_id"].to_numpy()
    assert len(ids) > 200_000
    assert (ids == np.arange(len(ids))).all()  # whole up to the last
    assert (noted["scheduled_s"].to_numpy() == ids / 8).all()
    assert (noted["sent_s"].to_numpy() == ids / 4).all()


def test_a_log_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        SentLog(tmp_path / "log")
    assert len(read_sent_log(tmp_path / "log")) == 0


def test_a_log_is_gone_once_it_is_not_needed(tmp_path: Path) -> None:
    log = SentLog(tmp_path / "log")
    log.note(1, 1.0, 1.0)
    log.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_finds_no_room_says_so_and_keeps_what_it_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "log")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "File too large after 65536\n"
    assert len(read_sent_log(tmp_path / "log")) == 65_536
