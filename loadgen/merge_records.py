"""One record for each planned request, out of what the processes that sent them have left."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadgen.records import PLANNED_SCHEMA, RECORD_SCHEMA, Cause, Status

_NOT_SENT = "not sent: the process that was to send it ended first"
_NOT_RECORDED = "sent, but its end was never recorded: the process that had sent it ended first"


def merge_records(
    parts: Iterable[pa.Table], planned: pa.Table, ended_s: float, sent_s: Mapping[int, float] | None = None
) -> pa.Table:
    """One record for each planned request, in order of request_id.

    A planned request without a record becomes CANCELLED with cause CLIENT_LOST: whoever was to send it ended first.

    Args:
        parts: tables with `RECORD_SCHEMA`.
        planned: table with `PLANNED_SCHEMA`.
        ended_s: when the run ended, the `finished_s` of requests without a record (never before they were due).
        sent_s: when requests were sent, by id, as far as it is known of those without a record.

    Raises:
        ValueError: a request has two records, or a record belongs to no planned request.
    """
    table = pa.concat_tables([RECORD_SCHEMA.empty_table(), *parts])
    ids = table["request_id"].to_numpy()
    planned_ids = planned["request_id"].to_numpy()
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = unique[counts > 1]
        raise ValueError(f"request {twice[0]} has {counts.max()} records, want one ({len(twice)} such requests)")
    strangers = np.setdiff1d(unique, planned_ids)
    if len(strangers):
        raise ValueError(f"request {strangers[0]} was not planned but has a record ({len(strangers)} such requests)")
    missing = planned.filter(pa.array(~np.isin(planned_ids, ids)))
    merged = pa.concat_tables([table, _lost_records(missing, ended_s, sent_s or {})])
    return merged.sort_by("request_id").combine_chunks()


def _lost_records(planned: pa.Table, ended_s: float, sent_s: Mapping[int, float]) -> pa.Table:
    """Records for requests of whose end nothing is known."""
    sent = [sent_s.get(request_id) for request_id in planned["request_id"].to_pylist()]
    fixed: dict[str, Any] = {
        "output_tokens": 0,
        "first_token_s": None,
        "status": Status.CANCELLED.value,
        "replica_id": None,
        "cause": Cause.CLIENT_LOST.value,
        "chunk_offsets_s": None,
        "planned_s": None,
        "phase": None,
    }
    by_request: dict[str, list[Any]] = {
        "sent_s": sent,
        "attempts": [0 if instant is None else 1 for instant in sent],
        "error": [_NOT_SENT if instant is None else _NOT_RECORDED for instant in sent],
    }
    columns = {name: planned[name] for name in PLANNED_SCHEMA.names}
    for name, value in fixed.items():
        columns[name] = pa.array([value] * len(planned), RECORD_SCHEMA.field(name).type)
    for name, values in by_request.items():
        columns[name] = pa.array(values, RECORD_SCHEMA.field(name).type)
    columns["finished_s"] = pc.max_element_wise(planned["scheduled_s"], ended_s)
    return pa.table([columns[name] for name in RECORD_SCHEMA.names], schema=RECORD_SCHEMA)
