"""The project's own trace file: Parquet, one row per request, the rest in the schema's metadata."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import COLUMNS, OPTIONAL_COLUMNS, SERVICE_LABELS, Trace, make_trace

_METADATA_KEY = b"burstscale.trace"
_FORMAT_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # 1 had no optional columns
_PREFIX_COLUMN = "prefix_blocks"


def save_trace(trace: Trace, path: Path) -> None:
    """Write a trace as Parquet: one row per request, the rest in the schema's metadata. Same trace, same bytes.

    Raises:
        InputError: the file exists already, or cannot be written.
    """
    about = {
        "format_version": _FORMAT_VERSION,
        "name": trace.name,
        "duration_s": trace.duration_s,
        "model_names": list(trace.model_names),
        "services": list(SERVICE_LABELS),
    }
    columns: dict[str, Any] = {column: getattr(trace, column) for column in COLUMNS}
    columns |= {column: getattr(trace, column) for column in OPTIONAL_COLUMNS if getattr(trace, column) is not None}
    if trace.prefix is not None:
        about["prefix_block_tokens"] = trace.prefix.block_tokens
        columns[_PREFIX_COLUMN] = pa.LargeListArray.from_arrays(trace.prefix.first, trace.prefix.block)
    table = pa.table(columns)
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(about).encode()})
    try:
        with path.open("xb") as file:
            pq.write_table(table, file, compression="zstd")
    except FileExistsError as error:
        raise InputError(f"{path}: exists already; name another file or remove it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder") from error


def load_trace(path: Path) -> Trace:
    """Read a trace that `save_trace` wrote, exactly as it was.

    Raises:
        InputError: the file is unreadable, not Parquet, of another origin, or of a later format version.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
    if metadata is None:
        raise InputError(
            f"{path}: is Parquet but no trace (columns: {', '.join(table.column_names)}); "
            "a trace file is made by `burstscale trace convert` or `trace make`"
        )
    about = json.loads(metadata)
    if about["format_version"] not in _READABLE_VERSIONS:
        raise InputError(
            f"{path}: has trace format version {about['format_version']}, this program reads up to version "
            f"{_FORMAT_VERSION}; convert the trace again from its source"
        )
    missing = [column for column in COLUMNS if column not in table.column_names]
    if missing:
        raise InputError(f"{path}: column '{missing[0]}' is missing; it was changed after `burstscale` wrote it")
    present = [*COLUMNS, *(column for column in OPTIONAL_COLUMNS if column in table.column_names)]
    return make_trace(
        about["name"],
        duration_s=about["duration_s"],
        model_names=tuple(about["model_names"]),
        prefix=_prefix_blocks(table, about),
        **{column: table[column].to_numpy() for column in present},
    )


def _prefix_blocks(table: Any, about: dict[str, Any]) -> PrefixBlocks | None:
    if "prefix_block_tokens" not in about:
        return None
    lists = table[_PREFIX_COLUMN].combine_chunks()
    counts = lists.value_lengths().to_numpy()
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return PrefixBlocks(about["prefix_block_tokens"], first, lists.flatten().to_numpy())
