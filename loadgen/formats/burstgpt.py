"""BurstGPT: two hundred days of ChatGPT and GPT-4 requests, conversation and API."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.formats.csv_columns import either, integers, numbers, optional_numbers, read_columns, read_header, texts
from loadgen.formats.rows import OnError, Rows
from loadgen.trace import Service, Trace, make_trace

BURSTGPT_COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")
BURSTGPT_TIME = "Timestamp"

_SESSION, _ELAPSED = "Session ID", "Elapsed time"
_SERVICE_OF = np.array([Service.CONVERSATION, Service.API], dtype=np.int8)
_DAY_S = 86_400.0


def read_burstgpt_rows(path: Path, on_error: OnError = "stop") -> Rows:
    """Read a BurstGPT file of version 1 (BurstGPT_1, _2) or version 2 (BurstGPT_3: with `Session ID`).

    `Elapsed time` may be empty; `Total tokens` is not used.

    Source: github.com/HPMLL/BurstGPT, README.md, "Schema".

    Raises:
        InputError: a column is missing, or (with 'stop') a row is bad, with its line.
    """
    columns = [
        numbers(BURSTGPT_TIME, "a number of seconds"),
        texts("Model"),
        integers("Request tokens"),
        integers("Response tokens"),
        either("Log Type", "Conversation log", "API log"),
    ]
    header = read_header(path)
    if _SESSION in header:
        columns.append(texts(_SESSION))
    if _ELAPSED in header:
        columns.append(optional_numbers(_ELAPSED, "a number of seconds"))
    return read_columns(path, columns, BURSTGPT_TIME, on_error)


def burstgpt_trace(name: str, table: Any) -> Trace:
    """The trace of the rows of one or more BurstGPT files, in order of time.

    All files count `Timestamp` in seconds from 0:00 of the collection's first day, so that the later ones start far
    from 0 (BurstGPT_3 at 19,440,110 s, 110 s into day 225). The trace counts from 0:00 of its own first day: the quiet
    days before it go, the hour of the day stays. Its duration ends with the second of the last arrival. A session is
    all requests with the same `Session ID`, in whatever file; a request without one (version 1, and all API requests
    of version 2) is a session of its own.
    """
    timestamp_s = table[BURSTGPT_TIME].to_numpy()
    arrival_s = timestamp_s - np.floor(timestamp_s[0] / _DAY_S) * _DAY_S
    table = table.unify_dictionaries()
    model, model_names = _named(*_codes(table["Model"]))
    has_sessions, has_elapsed = (column in table.column_names for column in (_SESSION, _ELAPSED))
    return make_trace(
        name,
        arrival_s,
        table["Request tokens"].to_numpy(),
        table["Response tokens"].to_numpy(),
        duration_s=float(np.floor(arrival_s[-1])) + 1.0,
        service=_SERVICE_OF[table["Log Type"].to_numpy().astype(np.intp)],
        model=model,
        session=_sessions(table[_SESSION]) if has_sessions else None,
        model_names=tuple(model_names),
        elapsed_s=table[_ELAPSED].to_numpy() if has_elapsed else None,
    )


def _codes(column: Any) -> tuple[NDArray[np.int32], list[str]]:
    """A text column as numbers and the texts that they stand for, in order of first appearance; no text = ''."""
    encoded = column.combine_chunks()
    names = encoded.dictionary.to_pylist()
    codes = encoded.indices
    if codes.null_count:  # rows of a file without this column
        names = names if "" in names else [*names, ""]
        codes = codes.fill_null(names.index(""))
    return codes.to_numpy(), names


def _named(model: NDArray[np.int32], names: list[str]) -> tuple[NDArray[np.int32], list[str]]:
    """The models, those without a name as 'unknown'."""
    known = list(dict.fromkeys(name or "unknown" for name in names))
    return np.array([known.index(name or "unknown") for name in names], dtype=np.int32)[model], known


def _sessions(column: Any) -> NDArray[np.int64]:
    """One number per session in order of first appearance; requests with an empty one get a number each."""
    codes, names = _codes(column)
    session = codes.astype(np.int64)
    if "" in names:
        nameless = session == names.index("")
        session[nameless] = len(names) + np.arange(np.count_nonzero(nameless))
    return session
