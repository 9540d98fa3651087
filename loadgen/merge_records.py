"""One record for each planned request, out of what the processes that sent them have left."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadgen.records import PLANNED_SCHEMA, RECORD_SCHEMA, Cause, Status
from loadgen.sent_log import SENT_SCHEMA

_NOT_SENT = "not sent: the process that was to send it ended first"
_NOT_RECORDED = "sent, but its end was never recorded: the process that had sent it ended first"
_NOT_KNOWN = "whether it was sent is not known: what the machine that was to send it had noted is lost"
_NOT_DUE = "not sent: the run was cut short before its instant"
_CUT_SHORT_BEFORE_SENT = "not sent: the run was cut short before"
_CUT_SHORT_ON_ITS_WAY = "sent, but its end was never recorded: the run was cut short before"


def merge_records(
    parts: Iterable[pa.Table],
    planned: pa.Table,
    ended_s: float,
    sent: pa.Table | None = None,
    *,
    is_cut_short: bool = False,
    unread: Collection[int] = (),
) -> pa.Table:
    """One record for each planned request, in order of request_id.

    A planned request without a record becomes CANCELLED: with cause CLIENT_LOST, since whoever was to send it ended
    first, or, where the whole run was cut short, RUN_ENDED.

    Args:
        parts: tables with `RECORD_SCHEMA`.
        planned: table with `PLANNED_SCHEMA`.
        ended_s: when the run ended, the `finished_s` of requests without a record (never before they were due).
        sent: what was sent, with `SENT_SCHEMA`, as far as it is known of requests without a record.
        is_cut_short: nobody was left after `ended_s`, neither to send nor to see an end.
        unread: requests of which no note could be read, by id.

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
    sent = SENT_SCHEMA.empty_table() if sent is None else sent
    lost = _lost_records(missing, ended_s, sent, is_cut_short, np.fromiter(unread, np.int64))
    return pa.concat_tables([table, lost]).sort_by("request_id").combine_chunks()


def _lost_records(
    planned: pa.Table, ended_s: float, sent: pa.Table, is_cut_short: bool, unread: NDArray[np.int64]
) -> pa.Table:
    """Records for requests of whose end nothing is known; those that waited for another were due when the log says."""
    ids, arrival_s = planned["request_id"].to_numpy(), planned["scheduled_s"].to_numpy()
    sent = sent.sort_by("request_id")
    place = np.searchsorted(sent["request_id"].to_numpy(), ids)
    is_sent = np.isin(ids, sent["request_id"].to_numpy())

    def noted(column: str, otherwise: Any) -> Any:
        values = np.asarray(otherwise).copy()
        values[is_sent] = sent[column].to_numpy()[place[is_sent]]
        return values

    scheduled_s = noted("scheduled_s", arrival_s)
    if is_cut_short:
        error = np.select([is_sent, scheduled_s > ended_s], [_CUT_SHORT_ON_ITS_WAY, _NOT_DUE], _CUT_SHORT_BEFORE_SENT)
    else:
        error = np.select([is_sent, np.isin(ids, unread)], [_NOT_RECORDED, _NOT_KNOWN], _NOT_SENT)
    known: dict[str, Any] = {name: planned[name] for name in PLANNED_SCHEMA.names} | {
        "scheduled_s": scheduled_s,
        "planned_s": pa.array(arrival_s, mask=scheduled_s == arrival_s),
        "sent_s": pa.array(noted("sent_s", np.zeros(len(ids))), mask=~is_sent),
        "attempts": noted("attempts", np.zeros(len(ids), np.int32)),
        "finished_s": np.maximum(scheduled_s, ended_s),
        "output_tokens": np.zeros(len(ids), np.int32),
        "status": np.full(len(ids), Status.CANCELLED.value),
        "cause": np.full(len(ids), (Cause.RUN_ENDED if is_cut_short else Cause.CLIENT_LOST).value),
        "error": error,
    }
    columns = [known.get(field.name, pa.nulls(len(ids), field.type)) for field in RECORD_SCHEMA]
    return pa.Table.from_arrays(
        [column if isinstance(column, pa.ChunkedArray) else pa.array(column) for column in columns],
        schema=RECORD_SCHEMA,
    )
