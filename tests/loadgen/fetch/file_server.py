"""A server of one file, whose every answer a test decides, and what a fetch from it must leave."""

import hashlib
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from loadgen.datasets import DatasetFile
from loadgen.errors import InputError
from loadgen.fetch import fetch_file

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes, in more than one piece
OTHER = b"another edition\n" * 64_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NO_WAITS = (0.0, 0.0, 0.0)


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
        """The range that each request asked for."""
        return [headers.get("range") for headers in self.asked]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request as the fields say."""
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


def published(server: FileServer, sha256: str | None = SHA256, size_bytes: int | None = None) -> DatasetFile:
    """The server's file as a table of datasets has it."""
    return DatasetFile("trace.csv", server.url, size_bytes, sha256)


def files_in(folder: Path) -> set[str]:
    """Names of all that lies in a folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def refused(file: DatasetFile, folder: Path) -> str:
    """What a fetch that must fail says, in one line, with nothing under the file's name."""
    with pytest.raises(InputError) as error:
        fetch_file(file, folder, waits_s=NO_WAITS)
    assert "\n" not in str(error.value)
    assert "trace.csv" not in files_in(folder)
    return str(error.value)
