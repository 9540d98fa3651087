"""Mooncake's traces: requests of a day's hour with the hashes of their prompts' blocks, one JSON object per line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from loadgen.formats.bounds import INT32_MAX, LATEST, within
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
_SHOWN_CHARACTERS = 60
_PARSE = pyarrow.json.ParseOptions(
    explicit_schema=pa.schema(
        [
            (MOONCAKE_TIME, pa.float64()),
            ("input_length", pa.int32()),
            ("output_length", pa.int32()),
            (_HASHES, pa.list_(pa.int64())),
        ]
    ),
    unexpected_field_behavior="ignore",
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
    try:
        table = pyarrow.json.read_json(pa.BufferReader(lines), parse_options=_PARSE)
    except pa.ArrowInvalid:
        return None
    if not _is_object_per_line(lines) or any(table[key].null_count for key in MOONCAKE_KEYS):
        return None
    blocks = pc.list_value_length(table[_HASHES]).fill_null(0)
    is_good = (
        within(table[MOONCAKE_TIME], LATEST)
        and within(table["input_length"])
        and within(table["output_length"])
        and np.all(blocks.to_numpy() * _BLOCK_TOKENS < table["input_length"].to_numpy() + _BLOCK_TOKENS)
        and pc.list_flatten(table[_HASHES]).null_count == 0
    )
    return table if is_good else None


def _is_object_per_line(lines: Any) -> bool:
    """Whether no line holds the end of one object and the beginning of another: pyarrow minds no line ends."""
    codes = np.frombuffer(lines, dtype=np.uint8)
    ends = np.flatnonzero(codes[:-1] == ord("\n"))
    if codes[0] == ord("{") and np.all(codes[ends + 1] == ord("{")) and np.all(codes[ends - 1] == ord("}")):
        return True
    return all(line.strip()[:1] == b"{" and line.strip()[-1:] == b"}" for line in split_lines(lines))


def _explain(line: str) -> BadRow | None:
    """The first thing that is wrong with a line."""
    try:
        row = json.loads(line)
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
    return _explain_hashes(row.get(_HASHES), row["input_length"])


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


def _time_text(line: str) -> str:
    return str(json.loads(line)[MOONCAKE_TIME])


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
