"""What a process has sent is known although it was killed while it was sending."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.sent_log import SentLog, read_sent_log

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from loadgen.sent_log import SentLog
log = SentLog(Path(sys.argv[1]))
for number in range(10**9):
    log.note(number, number / 8)
    if number == 200_000:
        print("written", flush=True)
"""


def test_what_was_noted_is_read_back_and_the_first_time_counts(tmp_path: Path) -> None:
    log = SentLog(tmp_path / "log")
    for request_id, sent_s in ((0, 0.0), (7, 1.5), (3, 2.0), (7, 9.0)):
        log.note(request_id, sent_s)
    assert read_sent_log(tmp_path / "log") == {0: 0.0, 7: 1.5, 3: 2.0}  # also while it is still open
    log.close()
    assert read_sent_log(tmp_path / "log") == {0: 0.0, 7: 1.5, 3: 2.0}


def test_a_process_killed_while_writing_has_lost_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / "log")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    noted = read_sent_log(tmp_path / "log")
    assert len(noted) > 200_000
    assert list(noted) == list(range(len(noted)))  # whole up to the last
    assert all(sent_s == request_id / 8 for request_id, sent_s in noted.items())


def test_a_log_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        SentLog(tmp_path / "log")
    assert read_sent_log(tmp_path / "log") == {}


def test_a_log_is_gone_once_it_is_not_needed(tmp_path: Path) -> None:
    log = SentLog(tmp_path / "log")
    log.note(1, 1.0)
    log.remove()
    assert list(tmp_path.iterdir()) == []
