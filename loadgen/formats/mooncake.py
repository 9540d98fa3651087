"""Mooncake's traces: requests of a day's hour with the hashes of their prompts' blocks, one JSON object per line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loadgen.errors import shown
from loadgen.formats.bounds import INT32_MAX, LATEST
from loadgen.formats.lines import split_lines
from loadgen.formats.rows import OnError, RowFormat, Rows, read_rows
from loadgen.formats.skipped import BadRow
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Service, Trace, make_trace

MOONCAKE_KEYS = ("timestamp", "input_length", "output_length")
MOONCAKE_TIME = "timestamp"

_HASHES = "hash_ids"
_BLOCK_TOKENS = 512
_INT64_MAX = 2**63 - 1
_SCHEMA = pa.schema(
    [
        (MOONCAKE_TIME, pa.float64()),
        ("input_length", pa.int32()),
        ("output_length", pa.int32()),
        (_HASHES, pa.list_(pa.int64())),
    ]
)


def read_mooncake_rows(path: Path, on_error: OnError = "stop") -> Rows:
    """Read a Mooncake trace: `timestamp` in milliseconds, `input_length`, `output_length`, `hash_ids` (may be missing).

    A prompt has at most one hash for each 512 of its tokens, begun ones included; other keys are ignored.

    Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces.

    Raises:
        InputError: the file is unreadable, or (with 'stop') a row is bad, with its line.
    """
    return read_rows(path, RowFormat(False, _parse, _explain, MOONCAKE_TIME, _time_text), on_error)


def mooncake_trace(name: str, table: Any, service: Service) -> Trace:
    """The trace of the rows of a Mooncake file, in order of time.

    The files do not say which service a request is of, so `service` holds for all of them. The trace counts from the
    first arrival; its duration ends with the whole second after the last.
    """
    timestamp_ms = table[MOONCAKE_TIME].to_numpy()
    arrival_s = (timestamp_ms - timestamp_ms[0]) / 1000.0
    hashes = table[_HASHES].combine_chunks()
    counts = hashes.value_lengths().fill_null(0).to_numpy()
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return make_trace(
        name,
        arrival_s,
        table["input_length"].to_numpy(),
        table["output_length"].to_numpy(),
        duration_s=float(np.floor(arrival_s[-1])) + 1.0,
        service=service,
        prefix=PrefixBlocks(_BLOCK_TOKENS, first, hashes.flatten().to_numpy()) if len(hashes.flatten()) else None,
    )


def _parse(lines: Any) -> Any:
    """Whole lines as a table; None where one is no good row."""
    rows = []
    for line in split_lines(lines):
        row = _decoded(line.decode(errors="surrogateescape"))
        if isinstance(row, BadRow):
            return None
        rows.append((*(row[key] for key in MOONCAKE_KEYS), row.get(_HASHES)))
    return pa.Table.from_arrays(
        [pa.array(column, type) for column, type in zip(zip(*rows, strict=True), _SCHEMA.types, strict=True)],
        schema=_SCHEMA,
    )


def _explain(line: str) -> BadRow | None:
    """The first thing that is wrong with a line."""
    row = _decoded(line)
    return row if isinstance(row, BadRow) else None


def _decoded(line: str) -> dict[str, Any] | BadRow:
    """A line's object where it is a good row, or the first thing that is wrong with it."""
    try:
        row = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        return BadRow("is no JSON", f"is no JSON ({str(error).splitlines()[0]}); a row is one line")
    if not isinstance(row, dict):
        return BadRow("is no JSON object", f"is {_shown(row)}, want an object with {', '.join(MOONCAKE_KEYS)}")
    for key in MOONCAKE_KEYS:
        want = "a number of milliseconds from 0 to 10^15" if key == MOONCAKE_TIME else "an integer >= 0"
        if key not in row:
            return BadRow(f"'{key}' is missing", f"'{key}' is missing, want {want}")
        if not (_is_time(row[key]) if key == MOONCAKE_TIME else _is_integer(row[key], 0, INT32_MAX)):
            return BadRow(f"'{key}' is not {want}", f"'{key}' is {_shown(row[key])}, want {want}")
    return _explain_hashes(row.get(_HASHES), row["input_length"]) or row


def _with_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice")
    return row


def _explain_hashes(hashes: Any, prompt_tokens: int) -> BadRow | None:
    """What is wrong with the hashes of a prompt's blocks; None as hashes is fine."""
    want = "a list of integers"
    if hashes is None:
        return None
    if not isinstance(hashes, list) or not all(_is_integer(value, -_INT64_MAX - 1, _INT64_MAX) for value in hashes):
        return BadRow(f"'{_HASHES}' is not {want}", f"'{_HASHES}' is {_shown(hashes)}, want {want}")
    most = math.ceil(prompt_tokens / _BLOCK_TOKENS)
    if len(hashes) > most:
        return BadRow(
            f"'{_HASHES}' has more blocks of {_BLOCK_TOKENS} tokens than the prompt",
            f"'{_HASHES}' has {len(hashes)} blocks, want at most {most}: the prompt's {prompt_tokens} tokens, "
            f"{_BLOCK_TOKENS} to a block",
        )
    return None


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= LATEST


_DECODER = json.JSONDecoder(object_pairs_hook=_with_different_keys)
"""Not pyarrow's reader, which reads over the ends of lines and can end the process where an object is broken."""


def _time_text(line: str) -> str:
    return str(json.loads(line)[MOONCAKE_TIME])


def _shown(value: Any) -> str:
    try:
        return shown(json.dumps(value))
    except RecursionError:
        return "nested too deep"
