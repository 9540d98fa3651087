"""The project's own trace file: Parquet, one row per request, the rest in the schema's metadata."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loadgen.errors import InputError, shown
from loadgen.prefix import PrefixBlocks
from loadgen.strict_config import StrictModel, parse
from loadgen.trace import COLUMNS, OPTIONAL_COLUMNS, SERVICE_LABELS, Trace, make_trace

_METADATA_KEY = b"burstscale.trace"
_FORMAT_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # 1 had no optional columns
_PREFIX_COLUMN = "prefix_blocks"
_BODY_COLUMN = "body_bytes"  # of a plan: the requests as they are sent
_BLOCKS_TYPE = pa.large_list(pa.int64())


def save_trace(trace: Trace, path: Path, body_bytes: NDArray[np.int64] | None = None) -> None:
    """Write a trace as Parquet: one row per request, the rest in the schema's metadata. Same trace, same bytes.

    With `body_bytes`, of each request's body, it is the plan of a replay.

    Raises:
        InputError: the file exists already, or cannot be written.
    """
    about = {
        "format_version": _FORMAT_VERSION,
        "name": trace.name,
        "duration_s": trace.duration_s,
        "model_names": list(trace.model_names),
        "services": list(SERVICE_LABELS),
        "requests": len(trace),
    }
    columns: dict[str, Any] = {column: getattr(trace, column) for column in COLUMNS}
    columns |= {column: getattr(trace, column) for column in OPTIONAL_COLUMNS if getattr(trace, column) is not None}
    if body_bytes is not None:
        columns[_BODY_COLUMN] = body_bytes
    if trace.prefix is not None:
        about["prefix_block_tokens"] = trace.prefix.block_tokens
        columns[_PREFIX_COLUMN] = pa.LargeListArray.from_arrays(trace.prefix.first, trace.prefix.block)
    table = pa.table(columns)
    table = table.replace_schema_metadata({_METADATA_KEY: _with_checksum(about)})
    try:
        with path.open("xb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    except FileExistsError as error:
        raise InputError(f"{path}: exists already; name another file or remove it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder") from error


class _About(StrictModel):
    """What the metadata of a trace file say.

    Attributes:
        services: their names by the values of the column.
        prefix_block_tokens: as in `PrefixBlocks`; None = the trace has none.
        requests: how many rows there are; None = written before this was said.
        crc32: of the rest, as JSON; None = written before there was one. Parquet has checksums for its pages only.
    """

    format_version: int
    name: str
    duration_s: float
    model_names: tuple[str, ...]
    services: tuple[str, ...]
    prefix_block_tokens: int | None = None
    requests: int | None = None
    crc32: int | None = None


def load_trace(path: Path) -> Trace:
    """Read a trace that `save_trace` wrote, exactly as it was.

    Raises:
        InputError: the file is unreadable, not Parquet, damaged, of another origin, or of a later format version.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        names = table.column_names
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
    if metadata is None:
        raise InputError(
            f"{path}: is Parquet but no trace (columns: {', '.join(names)}); "
            "a trace file is made by `burstscale trace convert` or `trace make`"
        )
    about = _read_about(path, metadata)
    if about.requests is not None and about.requests != table.num_rows:
        raise InputError(
            f"{path}: holds {table.num_rows} of {about.requests} requests; make or convert the trace again"
        )
    unknown = set(names) - {*COLUMNS, *OPTIONAL_COLUMNS, _PREFIX_COLUMN, _BODY_COLUMN}
    if unknown:
        raise InputError(f"{path}: has a column '{shown(min(unknown))}'; it was changed after `burstscale` wrote it")
    present = [*COLUMNS, *(column for column in OPTIONAL_COLUMNS if column in names)]
    for column in present:
        type_ = pa.from_numpy_dtype(np.dtype((COLUMNS | OPTIONAL_COLUMNS)[column]))
        if column not in names or table.schema.field(column).type != type_ or table[column].null_count:
            raise InputError(
                f"{path}: column '{column}' is no whole column of {type_}; it was changed after `burstscale` wrote it"
            )
    return make_trace(
        about.name,
        duration_s=about.duration_s,
        model_names=about.model_names,
        prefix=_prefix_blocks(path, table, about.prefix_block_tokens),
        **{column: table[column].to_numpy() for column in present},
    )


def _read_about(path: Path, metadata: bytes) -> _About:
    """The metadata, of a version that is known."""
    try:
        values = json.loads(metadata)
    except ValueError as error:
        raise InputError(f"{path}: its metadata are damaged ({error}); make or convert the trace again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in _READABLE_VERSIONS:
        raise InputError(
            f"{path}: has trace format version {version}, this program reads up to version {_FORMAT_VERSION}; "
            "convert the trace again from its source"
        )
    about = parse(_About, values, str(path))
    rest = {key: value for key, value in values.items() if key != "crc32"}
    if about.crc32 is not None and _with_checksum(rest) != metadata:
        raise InputError(f"{path}: its metadata are damaged (another checksum); make or convert the trace again")
    return about


def _with_checksum(about: dict[str, Any]) -> bytes:
    return json.dumps({**about, "crc32": zlib.crc32(json.dumps(about).encode())}).encode()


def _prefix_blocks(path: Path, table: Any, block_tokens: int | None) -> PrefixBlocks | None:
    if block_tokens is None:
        return None
    if _PREFIX_COLUMN not in table.column_names or table.schema.field(_PREFIX_COLUMN).type != _BLOCKS_TYPE:
        raise InputError(f"{path}: column '{_PREFIX_COLUMN}' is missing; it was changed after `burstscale` wrote it")
    lists = table[_PREFIX_COLUMN].combine_chunks()
    if lists.null_count or lists.flatten().null_count:
        raise InputError(f"{path}: column '{_PREFIX_COLUMN}' has gaps; it was changed after `burstscale` wrote it")
    counts = lists.value_lengths().to_numpy()
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return PrefixBlocks(block_tokens, first, lists.flatten().to_numpy())
