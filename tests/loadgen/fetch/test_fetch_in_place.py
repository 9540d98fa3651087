"""A fetch without a network, with files put in place by hand, and on disks that refuse."""

import hashlib
import socket
from pathlib import Path

import pytest

from loadgen.datasets import DatasetFile
from loadgen.errors import InputError
from loadgen.fetch import data_folder, fetch_file
from tests.loadgen.fetch.file_server import CONTENT, OTHER, SHA256, FileServer, published, refused


def test_offline_one_line_names_the_file_its_url_and_where_to_put_it(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/trace.csv"
        said = refused(DatasetFile("trace.csv", url, None, SHA256), tmp_path)
    assert said == (
        f"trace.csv: cannot be fetched from {url} (no connection: Connection refused); go online, or get it elsewhere "
        f"and put it at {tmp_path / 'trace.csv'}"
    )


def test_a_name_that_is_not_resolved_is_said_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(*_args: object, **_options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_answer)
    said = refused(DatasetFile("trace.csv", "http://traces.example/trace.csv"), tmp_path)
    assert "(no connection: Name or service not known)" in said


def test_a_connection_that_is_lost_for_good_midway_is_not_called_offline(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = [1000]
    resolve, calls = socket.getaddrinfo, []

    def once(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) > 1:
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", once)
    said = refused(published(server), tmp_path)
    assert "failed 4 times" in said
    assert (tmp_path / "trace.csv.part").read_bytes() == CONTENT[:1000]


def test_a_file_put_in_place_by_hand_is_verified_and_used(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(CONTENT)
    fetched = fetch_file(DatasetFile("trace.csv", "http://127.0.0.1:9/x", len(CONTENT), SHA256), tmp_path)
    assert (fetched.is_new, fetched.is_published) == (False, True)


def test_another_edition_with_the_same_rows_may_be_put_in_place_by_hand(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(OTHER)
    also = (hashlib.sha256(OTHER).hexdigest(),)
    fetched = fetch_file(DatasetFile("trace.csv", "http://127.0.0.1:9/x", len(CONTENT), SHA256, also), tmp_path)
    assert fetched.sha256 == also[0]


def test_a_wrong_file_put_in_place_by_hand_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(OTHER)
    with pytest.raises(InputError, match=f"want {SHA256}; remove it, and the next fetch gets it anew"):
        fetch_file(DatasetFile("trace.csv", "http://127.0.0.1:9/x", None, SHA256), tmp_path)
    assert (tmp_path / "trace.csv").read_bytes() == OTHER


# Disks.


def test_a_full_disk_is_said_so(server: FileServer, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "trace.csv.part").symlink_to("/dev/full")
    said = refused(published(server), tmp_path)
    assert "cannot be written or read (No space left on device); make room, or set BURSTSCALE_DATA" in said


def test_a_folder_that_cannot_be_made_is_said_so(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said = refused(published(server), tmp_path / "taken")
    assert str(tmp_path / "taken/trace.csv") in said
    assert "set BURSTSCALE_DATA to another folder" in said


def test_the_cache_folder_is_the_environments_else_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("BURSTSCALE_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert data_folder() == tmp_path / ".cache/burstscale"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg/burstscale"
    monkeypatch.setenv("BURSTSCALE_DATA", str(tmp_path / "mine"))
    assert data_folder() == tmp_path / "mine"
