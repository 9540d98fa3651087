"""A fetched file is the published one, whole, or it is not there, whatever the server says."""

import hashlib
from pathlib import Path

import pytest

from loadgen.datasets import DatasetFile
from loadgen.errors import InputError
from loadgen.fetch import fetch_file
from tests.loadgen.fetch.file_server import CONTENT, NO_WAITS, OTHER, SHA256, FileServer, files_in, published, refused


def test_a_file_is_fetched_whole_with_nothing_left_beside_it(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetched = fetch_file(published(server, size_bytes=len(CONTENT)), tmp_path / "new/data", lambda *at: seen.append(at))
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.sha256, fetched.is_new, fetched.is_published) == (SHA256, True, True)
    assert files_in(tmp_path / "new/data") == {"trace.csv"}
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_file_that_is_there_is_verified_and_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    fetch_file(published(server), tmp_path)
    again = fetch_file(published(server), tmp_path)
    assert not again.is_new
    assert len(server.asked) == 1


def test_redirects_are_followed(server: FileServer, tmp_path: Path) -> None:
    server.redirect = server.url.replace("/file", "/elsewhere")
    server.cuts = [5000]
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    assert server.ranges() == [None, None, "bytes=5000-", "bytes=5000-"]


def test_a_file_without_a_length_is_fetched(server: FileServer, tmp_path: Path) -> None:
    server.has_length = False
    assert fetch_file(published(server), tmp_path).path.read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_used(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/file"))
    monkeypatch.setenv("no_proxy", "")
    file = DatasetFile("trace.csv", "http://traces.example/file", None, SHA256)
    assert fetch_file(file, tmp_path).path.read_bytes() == CONTENT
    assert server.asked[0]["host"] == "traces.example"


# Without a published hash.


def test_without_a_published_hash_the_first_is_noted_and_holds(server: FileServer, tmp_path: Path) -> None:
    fetched = fetch_file(published(server, sha256=None), tmp_path)
    assert not fetched.is_published
    assert (tmp_path / "trace.csv.sha256").read_text() == f"{SHA256}  trace.csv\n"
    assert not fetch_file(published(server, sha256=None), tmp_path).is_new
    fetched.path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=f"trace.csv: has sha256 .*, want {SHA256}; remove it"):
        fetch_file(published(server, sha256=None), tmp_path)


def test_a_noted_hash_is_renewed_with_a_new_download(server: FileServer, tmp_path: Path) -> None:
    fetch_file(published(server, sha256=None), tmp_path).path.unlink()
    server.content = OTHER
    assert fetch_file(published(server, sha256=None), tmp_path).path.read_bytes() == OTHER
    assert not fetch_file(published(server, sha256=None), tmp_path).is_new


# Servers that lie.


def test_a_wrong_hash_is_refused_with_both_hashes_and_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    server.content = OTHER
    said = refused(published(server), tmp_path)
    assert SHA256 in said
    assert hashlib.sha256(OTHER).hexdigest() in said
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("lie", [-1000, 1000])
def test_a_length_that_is_not_the_published_one_is_refused_at_once(
    server: FileServer, tmp_path: Path, lie: int
) -> None:
    server.length_lie = lie
    said = refused(published(server, size_bytes=len(CONTENT)), tmp_path)
    assert f"has {len(CONTENT) + lie} bytes, want {len(CONTENT)}" in said
    assert len(server.asked) == 1


def test_a_length_that_is_too_short_is_found_by_the_hash(server: FileServer, tmp_path: Path) -> None:
    server.length_lie = -1000
    assert f"want {SHA256}" in refused(published(server), tmp_path)


def test_a_length_that_is_too_long_looks_like_a_cut_and_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.length_lie = 1000
    assert "failed 4 times" in refused(published(server, sha256=None), tmp_path)


def test_a_file_that_is_not_there_is_refused_without_another_try(server: FileServer, tmp_path: Path) -> None:
    server.answers = [404]
    said = refused(published(server), tmp_path)
    assert "the server answered 404" in said
    assert server.url in said
    assert str(tmp_path / "trace.csv") in said
    assert len(server.asked) == 1
