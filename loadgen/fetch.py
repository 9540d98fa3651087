"""Download published files: resumed where they were cut off, verified, kept in a cache folder."""

import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from loadgen.datasets import DatasetFile
from loadgen.errors import InputError

WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Between one try and the next, so there are five tries."""

OnProgress = Callable[[int, int | None], object]
"""Is told the bytes that are here and, where the server says it, how many there will be."""

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 18
_WORTH_ANOTHER_TRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is in place.

    Attributes:
        is_new: it was downloaded now.
        is_published: its hash is the published one; otherwise none is known, and it is kept beside the file.
    """

    path: Path
    sha256: str
    is_new: bool
    is_published: bool


class _CutOffError(Exception):
    """The transfer did not come to its end; another try may."""

    def __init__(self, reason: str, *, is_connected: bool = True) -> None:
        super().__init__(reason)
        self.is_connected = is_connected


def data_folder() -> Path:
    """Where fetched files are kept: BURSTSCALE_DATA, by default the user's cache folder."""
    chosen = os.environ.get("BURSTSCALE_DATA")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "burstscale"


def fetch_file(
    file: DatasetFile,
    folder: Path,
    on_progress: OnProgress = lambda *_bytes: None,
    waits_s: Sequence[float] = WAITS_S,
) -> Fetched:
    """Put a published file into `folder` unless it is there, and verify it.

    While it is downloaded its name ends in .part; that is kept when the download fails, and the next one goes on from
    there. A file that was put there by hand is verified like a downloaded one. Where no hash is published, the first
    one found is written beside the file as <name>.sha256 (what `sha256sum -c` reads) and holds from then on.

    Args:
        file: what to download, from where.
        folder: made if need be.
        on_progress: called at every piece.
        waits_s: the pause before each further try.

    Raises:
        InputError: the server can't be reached, has no such file, or sends another one; or the folder can't be written.
    """
    path = folder / file.name
    try:
        if path.exists():
            return _verified(file, path, path)
        folder.mkdir(parents=True, exist_ok=True)
        _download(file, path, on_progress, waits_s)
        fetched = _verified(file, path, _part(path))
        _part(path).replace(path)
        _edition(path).unlink(missing_ok=True)
        return fetched
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written or read ({error.strerror or error}); make room, or set BURSTSCALE_DATA to "
            "another folder"
        ) from error


def _part(path: Path) -> Path:
    """What is here of a file."""
    return path.with_name(f"{path.name}.part")


def _edition(path: Path) -> Path:
    """What tells the edition of the file that the part is of; without it the part is begun anew."""
    return path.with_name(f"{path.name}.part.edition")


def _download(file: DatasetFile, path: Path, on_progress: OnProgress, waits_s: Sequence[float]) -> None:
    """Bring the part to its full length, in several tries if need be."""
    was_connected = False
    for tries, wait_s in enumerate((*waits_s, None), start=1):
        try:
            _receive(file, path, on_progress)
            return
        except _CutOffError as cut:
            was_connected |= cut.is_connected
            if not was_connected:
                raise InputError(
                    f"{file.name}: cannot be fetched from {file.url} ({cut}); go online, or get it elsewhere and "
                    f"put it at {path}"
                ) from cut
            if wait_s is None:
                raise InputError(
                    f"{file.name}: {file.url} failed {tries} times, the last time because {cut}; run the command again "
                    f"to go on from there, or put the file at {path}"
                ) from cut
            time.sleep(wait_s)


def _receive(file: DatasetFile, path: Path, on_progress: OnProgress) -> None:
    """One try: ask for what is missing and append it, or for everything."""
    part, validator = _part(path), _read_validator(path)
    done_bytes = part.stat().st_size if part.exists() and validator else 0
    if done_bytes and done_bytes == file.size_bytes:
        return
    with _ask(file, path, done_bytes, validator) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            _check_continues(response, path, done_bytes, validator)
        else:
            done_bytes = 0  # the server can't resume, or the file is another one by now
        length = response.headers.get("Content-Length", "")
        total_bytes = done_bytes + int(length) if length.isdigit() else file.size_bytes
        if file.size_bytes is not None and total_bytes != file.size_bytes:
            raise _not_the_published(file, path, f"has {total_bytes} bytes, want {file.size_bytes}")
        with part.open("ab" if done_bytes else "wb") as out:
            if not done_bytes:
                _edition(path).write_text(_validator_of(response), encoding="utf-8")
            on_progress(done_bytes, total_bytes)
            while chunk := _read(response):
                out.write(chunk)
                done_bytes += len(chunk)
                on_progress(done_bytes, total_bytes)
    if total_bytes is not None and done_bytes < total_bytes:
        raise _CutOffError(f"the connection was cut at {done_bytes} of {total_bytes} bytes")


def _ask(file: DatasetFile, path: Path, start_byte: int, validator: str) -> HTTPResponse:
    """Send the request. Proxies are those of the environment; redirects are followed."""
    request = urllib.request.Request(file.url, headers={"User-Agent": "burstscale"})
    if start_byte:
        request.add_header("Range", f"bytes={start_byte}-")
        request.add_header("If-Range", validator)
    try:
        response: HTTPResponse = urllib.request.build_opener().open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        answer = f"the server answered {error.code} {error.reason}"
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _edition(path).unlink(missing_ok=True)  # so the next try asks for all
        elif error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _WORTH_ANOTHER_TRY:
            raise InputError(
                f"{file.name}: {file.url}: {answer}; it may have moved: find it and put it at {path}"
            ) from error
        raise _CutOffError(answer) from error
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise _CutOffError(f"no connection: {reason}", is_connected=False) from error
    except (OSError, HTTPException) as error:
        raise _CutOffError(f"the connection was cut: {error}") from error
    return response


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _CutOffError(f"the connection was cut: {error}") from error


def _check_continues(response: HTTPResponse, path: Path, done_bytes: int, validator: str) -> None:
    """A partial answer must begin where the part ends, in the same edition of the file."""
    sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    edition = response.headers.get("ETag" if validator.startswith('"') else "Last-Modified", validator)
    if sent is None or int(sent[1]) != done_bytes or edition != validator:
        _edition(path).unlink(missing_ok=True)
        raise _CutOffError("the server continued another file than it began")


def _read_validator(path: Path) -> str:
    try:
        return _edition(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _validator_of(response: HTTPResponse) -> str:
    """What If-Range takes: a strong ETag (RFC 9110, section 13.1.5, forbids a weak one), else the date."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _verified(file: DatasetFile, path: Path, found: Path) -> Fetched:
    """Check the hash of `found`: `path`, or what is to become it. A bad download is removed, a user's file is not."""
    with found.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    is_new = found != path
    recorded = path.with_name(f"{path.name}.sha256")
    if file.sha256 is None:
        if is_new or not recorded.exists():
            recorded.write_text(f"{sha256}  {file.name}\n", encoding="utf-8")
        wanted = [recorded.read_text(encoding="utf-8").split(" ")[0]]
    else:
        wanted = [file.sha256, *([] if is_new else file.also_sha256)]
    if sha256 not in wanted:
        if is_new:
            found.unlink()
            _edition(path).unlink(missing_ok=True)
            raise _not_the_published(file, path, f"has sha256 {sha256}, want {wanted[0]}")
        raise InputError(f"{path}: has sha256 {sha256}, want {wanted[0]}; remove it, and the next fetch gets it anew")
    return Fetched(path, sha256, is_new, is_published=file.sha256 is not None)


def _not_the_published(file: DatasetFile, path: Path, difference: str) -> InputError:
    return InputError(
        f"{file.name}: what {file.url} sends is not the published file: it {difference}; nothing was put at {path}"
    )
