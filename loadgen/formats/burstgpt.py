"""BurstGPT: two hundred days of ChatGPT and GPT-4 requests, conversation and API."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from loadgen.formats.csv_columns import choices, integers, read_columns, read_head, seconds, texts
from loadgen.trace import Service, Trace, make_trace

BURSTGPT_COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")

_SESSION_COLUMN = "Session ID"
_SERVICES = {"Conversation log": Service.CONVERSATION, "API log": Service.API}
_DAY_S = 86_400.0


def read_burstgpt(path: Path) -> Trace:
    """Read a BurstGPT file of version 1 (BurstGPT_1, _2) or version 2 (BurstGPT_3: with `Session ID`).

    All files count `Timestamp` in seconds from 0:00 of the collection's first day, so that the later ones start far
    from 0 (BurstGPT_3 at 19,440,110 s, 110 s into day 225). The trace counts from 0:00 of the file's own first day:
    the quiet days before it go, the hour of the day stays. Its duration ends with the second of the last arrival.
    A request without a session (version 1, or an empty `Session ID`) is a session of its own. `Elapsed time` and
    `Total tokens` are not used.

    Source: github.com/HPMLL/BurstGPT, README.md, "Schema".

    Raises:
        InputError: a column is missing or a row is bad, with its line.
    """
    header, _ = read_head(path)
    columns = [
        seconds("Timestamp"),
        texts("Model"),
        integers("Request tokens"),
        integers("Response tokens"),
        choices("Log Type", list(_SERVICES)),
    ]
    has_sessions = _SESSION_COLUMN in header
    if has_sessions:
        columns.append(texts(_SESSION_COLUMN))
    table = read_columns(path, columns, in_order="Timestamp")
    timestamp_s = table["Timestamp"].to_numpy()
    arrival_s = timestamp_s - np.floor(timestamp_s[0] / _DAY_S) * _DAY_S
    model, model_names = _codes(table["Model"])
    log_type, log_types = _codes(table["Log Type"])
    return make_trace(
        path.stem,
        arrival_s,
        table["Request tokens"].to_numpy(),
        table["Response tokens"].to_numpy(),
        duration_s=float(np.floor(arrival_s[-1])) + 1.0,
        service=np.array([_SERVICES[name] for name in log_types])[log_type],
        model=model,
        session=_sessions(table[_SESSION_COLUMN]) if has_sessions else None,
        model_names=tuple(model_names),
    )


def _codes(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """A text column as numbers and the texts that they stand for, in order of first appearance."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _sessions(column: Any) -> NDArray[np.int64]:
    """One number per session in order of first appearance; requests with an empty one get a number each."""
    session, names = _codes(column)
    if "" in names:
        nameless = session == names.index("")
        session[nameless] = len(names) + np.arange(np.count_nonzero(nameless))
    return session
