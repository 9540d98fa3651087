"""What was written on another machine is copied home whole, and then removed there."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen import node_files
from loadgen.errors import InputError
from loadgen.node_files import fetch_folder, folder_there
from loadgen.replay_files import REPLAY_FACTS, ReplayFacts, part_paths, recover, write_facts
from loadgen.trace import make_trace


def do_here(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder 'run' in a folder for temporary files of its own; files are copied by 10 bytes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(node_files, "PIECE_BYTES", 10)
    folder_there("run").mkdir()
    return folder_there("run")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder to copy to."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_files_of_any_length_come_home_in_pieces_and_are_removed_there(there: Path, home: Path) -> None:
    contents = {f"{length}.jsonl": bytes(range(length)) for length in (0, 1, 9, 10, 11, 20, 25)}
    for name, content in contents.items():
        (there / name).write_bytes(content)
    fetch_folder(do_here, "run", home)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == contents
    assert not there.exists()


def test_a_machine_that_is_lost_meanwhile_leaves_what_had_come(there: Path, home: Path) -> None:
    (there / "records.jsonl").write_bytes(b"0123456789abcdefghijklmn")
    pieces: list[bytes] = []

    def do_until_lost(work: Callable[..., Any], *arguments: Any) -> Any:
        done = work(*arguments)
        if isinstance(done, bytes):
            if len(pieces) == 2:
                raise ConnectionError("lost")
            pieces.append(done)
        return done

    with pytest.raises(ConnectionError):
        fetch_folder(do_until_lost, "run", home)
    assert (home / "records.jsonl").read_bytes() == b"0123456789abcdefghij"
    assert there.exists(), "nothing is removed before all of it is here"


def test_where_no_actor_came_to_write_there_is_nothing_to_fetch(there: Path, home: Path) -> None:
    there.rmdir()
    fetch_folder(do_here, "run", home)
    assert list(home.iterdir()) == []


def test_a_file_that_is_here_already_is_not_written_over(there: Path, home: Path) -> None:
    (there / "records.jsonl").write_bytes(b"theirs")
    (home / "records.jsonl").write_bytes(b"ours")
    with pytest.raises(FileExistsError):
        fetch_folder(do_here, "run", home)
    assert (home / "records.jsonl").read_bytes() == b"ours"


def test_a_replay_whose_driver_was_killed_says_where_the_rest_of_it_lies(home: Path) -> None:
    facts = ReplayFacts("m", "abcd", is_closed_loop=False, keeps_attempts=False, actors=2, start_epoch_s=1000.0)
    write_facts(home, facts)
    os.utime(home / REPLAY_FACTS, (1010.0, 1010.0))
    ours, theirs = part_paths(home, 2)
    ours.touch()
    trace = make_trace("even", np.arange(4.0), np.full(4, 5), np.full(4, 3), duration_s=4.0)
    with pytest.raises(InputError, match=r"records.part-001.jsonl is missing.* copy it from burstscale-replay-abcd-\*"):
        recover(home, trace)
    theirs.touch()
    _, ended_s, gathered = recover(home, trace)
    assert ended_s == pytest.approx(10.0)
    assert set(gathered.table["cause"].to_pylist()) == {"run_ended"}
