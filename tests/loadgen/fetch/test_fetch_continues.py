"""A download that is cut goes on where it was cut, and never joins two editions of a file."""

from pathlib import Path

import pytest

from loadgen import fetch
from loadgen.errors import InputError
from loadgen.fetch import fetch_file
from tests.loadgen.fetch.file_server import CONTENT, NO_WAITS, OTHER, FileServer, files_in, published, refused


def test_a_cut_connection_is_continued_where_it_was_cut(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300_000, 100_000]
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=300000-", "bytes=400000-"]
    assert {headers.get("if-range") for headers in server.asked[1:]} == {'"first"'}
    assert files_in(tmp_path) == {"trace.csv"}


def test_a_server_without_ranges_begins_anew_and_nothing_is_appended(server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.has_ranges = [300_000], False
    assert fetch_file(published(server, sha256=None), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=300000-"]


def test_a_connection_that_is_always_cut_ends_with_what_is_here_kept(server: FileServer, tmp_path: Path) -> None:
    server.always_cuts = 1000
    said = refused(published(server), tmp_path)
    assert "failed 4 times, the last time because the connection was cut at 4000 of 1024000 bytes" in said
    assert "run the command again" in said
    server.always_cuts = None
    assert fetch_file(published(server), tmp_path).path.read_bytes() == CONTENT
    assert server.ranges()[-1] == "bytes=4000-"


def test_without_ranges_a_connection_that_is_always_cut_ends_too(server: FileServer, tmp_path: Path) -> None:
    server.always_cuts, server.has_ranges = 1000, False
    assert "was cut at 1000 of 1024000 bytes" in refused(published(server), tmp_path)


def test_a_cut_before_the_first_byte_is_tried_again(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [0]
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT


def test_a_server_error_is_tried_again_a_few_times(server: FileServer, tmp_path: Path) -> None:
    server.answers = [500, 503, 429]
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    server.answers = [500] * 9
    said = refused(published(server), tmp_path / "second")
    assert "the server answered 500" in said
    assert len(server.answers) == 5  # of nine, four were used


def test_each_try_waits_longer(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", waited.append)
    server.answers = [500] * 9
    with pytest.raises(InputError):
        fetch_file(published(server), tmp_path)
    assert waited == [1.0, 2.0, 4.0, 8.0]


def test_a_fetch_that_a_person_interrupts_goes_on_from_there(server: FileServer, tmp_path: Path) -> None:
    def interrupt(done_bytes: int, _total_bytes: int | None) -> None:
        if done_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_file(published(server), tmp_path, interrupt)
    here = (tmp_path / "trace.csv.part").stat().st_size
    assert 0 < here < len(CONTENT)
    assert fetch_file(published(server), tmp_path).path.read_bytes() == CONTENT
    assert server.ranges() == [None, f"bytes={here}-"]


def test_a_part_of_full_length_is_verified_without_asking(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "trace.csv.part").write_bytes(CONTENT)
    (tmp_path / "trace.csv.part.edition").write_text('"first"')
    assert fetch_file(published(server, size_bytes=len(CONTENT)), tmp_path).path.read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_the_server_cannot_continue_is_begun_anew(server: FileServer, tmp_path: Path, length: int) -> None:
    (tmp_path / "trace.csv.part").write_bytes(bytes(length))
    (tmp_path / "trace.csv.part.edition").write_text('"first"')
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    assert server.ranges() == [f"bytes={length}-", None]


def test_a_part_of_unknown_edition_is_begun_anew(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "trace.csv.part").write_bytes(OTHER[:5000])
    assert fetch_file(published(server, sha256=None), tmp_path).path.read_bytes() == CONTENT
    assert server.ranges() == [None]


# A file that changes between two tries.


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_between_two_tries_is_not_spliced(
    server: FileServer, tmp_path: Path, heeds_if_range: bool
) -> None:
    server.always_cuts = 1000
    refused(published(server, sha256=None), tmp_path)
    server.always_cuts, server.content, server.etag = None, OTHER, '"second"'
    server.heeds_if_range = heeds_if_range
    assert fetch_file(published(server, sha256=None), tmp_path, waits_s=NO_WAITS).path.read_bytes() == OTHER


def test_a_date_serves_where_there_is_no_strong_etag(server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.etag, server.date = [5000], 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT"
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    assert server.asked[1]["if-range"] == server.date
    assert server.asked[1]["range"] == "bytes=5000-"


def test_without_anything_that_tells_editions_apart_a_part_is_begun_anew(server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.etag = [5000], None
    assert fetch_file(published(server), tmp_path, waits_s=NO_WAITS).path.read_bytes() == CONTENT
    assert server.ranges() == [None, None]
