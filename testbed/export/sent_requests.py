"""The requests of a run as other load generators time them: from the send, the end being the last chunk."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadgen.metrics import Floats, Mask, float_column, is_value
from loadgen.records import Cause, Status


@dataclass(frozen=True, slots=True, eq=False)
class SentRequests:
    """The requests that were sent, in order of their instant.

    Attributes:
        rows: the records as they are, one for each element of the arrays.
        is_ok: answered within the deadline, counted from the send too.
        ttft_s, latency_s: from the send to the first token and to the last chunk with text, or to the end where the
            chunks' instants were not kept; NaN = never came.
        gaps_s: between chunks, of each request; empty where their instants were not kept.
    """

    rows: pd.DataFrame
    is_ok: Mask
    sent_s: Floats
    ttft_s: Floats
    latency_s: Floats
    output_tokens: NDArray[np.int64]
    gaps_s: list[Floats]

    @property
    def ended_s(self) -> Floats:
        """When the last chunk came, from the run's start."""
        return self.sent_s + self.latency_s


def sent_requests(records: pd.DataFrame) -> SentRequests:
    """Take the records of requests that were sent; those never sent are in no other tool's output."""
    rows = records[records["sent_s"].notna()].sort_values(["sent_s", "request_id"], ignore_index=True)
    sent_s, first_token_s = float_column(rows, "sent_s"), float_column(rows, "first_token_s")
    offsets = rows["chunk_offsets_s"] if "chunk_offsets_s" in rows else [None] * len(rows)
    kept = [np.zeros(0) if chunks is None else np.asarray(chunks, dtype=np.float64) for chunks in offsets]
    last_chunk_s = first_token_s + np.array(
        [chunks[-1] if len(chunks) else np.nan for chunks in kept], dtype=np.float64
    )
    ended_s = np.where(np.isnan(last_chunk_s), float_column(rows, "finished_s"), last_chunk_s)
    return SentRequests(
        rows=rows,
        is_ok=is_value(rows, "status", Status.OK) | is_value(rows, "cause", Cause.SENT_LATE),
        sent_s=sent_s,
        ttft_s=first_token_s - sent_s,
        latency_s=ended_s - sent_s,
        output_tokens=rows["output_tokens"].to_numpy(np.int64),
        gaps_s=[np.diff(chunks) for chunks in kept],
    )
