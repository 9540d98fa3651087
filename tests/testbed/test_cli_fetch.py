"""`burstscale trace fetch` as a person meets it, against a server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadgen import datasets
from loadgen.datasets import Dataset, DatasetFile
from tests.testbed.command import assert_refused, burstscale

HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
ROWS = "5,ChatGPT,472,18,490,Conversation log\n9,GPT-4,100,20,120,API log\n"
SIZE = len(HEADER + ROWS)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_args: object) -> None:
        """Not on stderr, where the command speaks."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which is not there yet."""
    folder = tmp_path / "data"
    monkeypatch.setenv("BURSTSCALE_DATA", str(folder))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """BurstGPT's table says that its files are here: two, of which the second has no published hash."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("BurstGPT_1.csv", "BurstGPT_2.csv"):
        (folder / name).write_text(HEADER + ROWS)
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{running.server_port}/"
    sha256 = hashlib.sha256((HEADER + ROWS).encode()).hexdigest()
    files = (
        DatasetFile("BurstGPT_1.csv", url + "BurstGPT_1.csv", SIZE, sha256),
        DatasetFile("BurstGPT_2.csv", url + "BurstGPT_2.csv"),
    )
    monkeypatch.setitem(datasets.DATASETS, "burstgpt", replace(burstgpt(), files=files))
    yield running
    running.shutdown()
    running.server_close()
    thread.join(timeout=5)


def burstgpt() -> Dataset:
    return datasets.DATASETS["burstgpt"]


@pytest.mark.usefixtures("server")
def test_the_main_files_are_fetched_and_the_next_command_works(data: Path) -> None:
    code, stdout, stderr = burstscale("trace", "fetch", "burstgpt")
    assert (code, stderr) == (0, "")
    assert sorted(path.name for path in (data / "burstgpt").iterdir()) == [
        "BurstGPT_1.csv",
        "BurstGPT_2.csv",
        "BurstGPT_2.csv.sha256",
    ]
    first, second = data / "burstgpt/BurstGPT_1.csv", data / "burstgpt/BurstGPT_2.csv"
    assert f"{first}: {SIZE} bytes, sha256 as published (CC BY 4.0)" in stdout
    assert f"{second}: {SIZE} bytes, no sha256 is published: noted, and checked from now on" in stdout
    next_command = stdout.splitlines()[-1]
    assert next_command == f"next: burstscale trace describe {first}"
    assert burstscale(*next_command.split()[2:])[0] == 0
    assert f"{first}: was here already, {SIZE} bytes" in burstscale("trace", "fetch", "burstgpt")[1]


@pytest.mark.usefixtures("server")
def test_only_the_files_that_are_asked_for_are_fetched(data: Path) -> None:
    assert burstscale("trace", "fetch", "burstgpt", "--file", "BurstGPT_1.csv")[0] == 0
    assert [path.name for path in (data / "burstgpt").iterdir()] == ["BurstGPT_1.csv"]


def test_the_list_has_every_file_with_its_size_licence_and_source(data: Path) -> None:
    code, stdout, _ = burstscale("trace", "fetch", "--list")
    assert code == 0
    for dataset in datasets.DATASETS.values():
        assert f"{dataset.name}: " in stdout
        assert f"licence {dataset.licence}, from {dataset.page}" in stdout
        for file in dataset.files:
            assert file.name in stdout
    assert "52.3 MB" in stdout
    assert str(data) in stdout
    one = burstscale("trace", "fetch", "mooncake", "--list")[1]
    assert "toolagent_trace.jsonl" in one
    assert "BurstGPT_1.csv" not in one
    assert not data.exists()


def test_no_dataset_and_names_that_are_not_known_are_refused(data: Path) -> None:
    assert_refused(burstscale("trace", "fetch"), "no dataset is named; give one of burstgpt, azure2023")
    assert_refused(burstscale("trace", "fetch", "sharegpt"), "unknown dataset 'sharegpt'; known: burstgpt, ")
    result = burstscale("trace", "fetch", "burstgpt", "--file", "BurstGPT_9.csv")
    assert_refused(result, "dataset 'burstgpt' has no file 'BurstGPT_9.csv'; it has BurstGPT_1.csv, ")
    assert not data.exists()


def test_a_server_with_another_file_is_refused(data: Path, server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (tmp_path / "served/BurstGPT_1.csv").write_text(HEADER + ROWS.replace("472", "473"))
    assert_refused(burstscale("trace", "fetch", "burstgpt"), "is not the published file", "nothing was put at")
    (tmp_path / "served/BurstGPT_1.csv").unlink()
    assert_refused(burstscale("trace", "fetch", "burstgpt"), "the server answered 404", str(data / "burstgpt"))
    server.shutdown()
    server.server_close()
    result = burstscale("trace", "fetch", "burstgpt")
    path = data / "burstgpt/BurstGPT_1.csv"
    assert_refused(result, "BurstGPT_1.csv: cannot be fetched from http://127.0.0.1", f"put it at {path}")
    assert list((data / "burstgpt").iterdir()) == []


@pytest.mark.usefixtures("server")
def test_a_folder_that_cannot_be_written_is_refused(data: Path) -> None:
    data.write_text("a file")
    assert_refused(burstscale("trace", "fetch", "burstgpt"), "cannot be written or read", "set BURSTSCALE_DATA")
