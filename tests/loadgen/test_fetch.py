"""A fetched file is the published one, whole, or it is not there; whatever the server and the disk do."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadgen import fetch
from loadgen.datasets import DATASETS, DatasetFile, find_dataset
from loadgen.errors import InputError
from loadgen.fetch import data_folder, fetch_file

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes, in more than one piece
OTHER = b"another edition\n" * 64_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NO_WAITS = (0.0, 0.0, 0.0)
SHARED = Path(__file__).parents[2] / "../shared/data/traces"


@dataclass
class FileServer:
    """What a server of one file does, and what it was asked; `cuts`, `answers`: one per request, then as usual."""

    content: bytes = CONTENT
    etag: str | None = '"first"'
    date: str | None = None
    has_ranges: bool = True
    heeds_if_range: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes of the body after which the connection is closed
    always_cuts: int | None = None
    length_lie: int = 0
    has_length: bool = True
    answers: list[int] = field(default_factory=list)  # a status other than success
    redirect: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.asked]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        if self.answers:
            request.send_error(self.answers.pop(0))
            return
        if self.redirect is not None and request.path == "/file":
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.end_headers()
            return
        start = self._start(request)
        if start >= len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.has_length:
            request.send_header("Content-Length", str(len(body) + self.length_lie))
        for name, value in (("ETag", self.etag), ("Last-Modified", self.date)):
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else self.always_cuts
        request.wfile.write(body if cut is None else body[:cut])
        request.close_connection = True

    def _start(self, request: BaseHTTPRequestHandler) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted is None or not self.has_ranges:
            return 0
        if self.heeds_if_range and request.headers.get("If-Range") not in (None, self.etag, self.date):
            return 0
        return int(wanted[1])


@pytest.fixture
def server() -> Iterator[FileServer]:
    scripted = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scripted.answer(self)

        def log_message(self, *_args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_args: object) -> None:
            """A client that has seen enough hangs up."""

    running = Server(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{running.server_port}/file"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield scripted
    running.shutdown()
    running.server_close()
    thread.join(timeout=5)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def published(server: FileServer, sha256: str | None = SHA256, size_bytes: int | None = None) -> DatasetFile:
    return DatasetFile("trace.csv", server.url, size_bytes, sha256)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def refused(file: DatasetFile, folder: Path) -> str:
    """What a fetch that must fail says, in one line, with nothing under the file's name."""
    with pytest.raises(InputError) as error:
        fetch_file(file, folder, waits_s=NO_WAITS)
    assert "\n" not in str(error.value)
    assert "trace.csv" not in files_in(folder)
    return str(error.value)


# A server that behaves.


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


# Connections that are cut.


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


# Offline, and files that a person puts in place.


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


# The table of what can be fetched.


def test_every_dataset_names_files_that_can_be_told_apart_and_checked() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        names = [file.name for file in dataset.files]
        assert len(set(names)) == len(names)
        assert set(dataset.main) <= set(names)
        for file in dataset.files:
            assert file.url.startswith("https://")
            assert file.url.endswith(f"/{file.name}")
            assert file.sha256 is not None
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        ("azure2023", "azure_2023/AzureLLMInferenceTrace_conv.csv"),
        ("mooncake", "mooncake_fast25/conversation_trace.jsonl"),
    ],
)
def test_the_tables_size_and_hash_are_those_of_the_real_file(dataset: str, path: str) -> None:
    real = SHARED / path
    if not real.exists():
        pytest.skip(f"needs {real}")
    file = DATASETS[dataset].file(real.name)
    assert file.size_bytes == real.stat().st_size
    assert file.sha256 == hashlib.sha256(real.read_bytes()).hexdigest()


def test_unknown_datasets_and_files_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown dataset 'sharegpt'; known: burstgpt, azure2023"):
        find_dataset("sharegpt")
    with pytest.raises(InputError, match=r"has no file .BurstGPT_4\.csv.; it has BurstGPT_1\.csv, "):
        find_dataset("burstgpt").file("BurstGPT_4.csv")
