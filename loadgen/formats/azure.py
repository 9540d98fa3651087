"""Azure's LLM inference traces: one service's requests with their token counts."""

from pathlib import Path
from typing import Any

import numpy as np

from loadgen.formats.csv_columns import csv_cells, instants, integers, is_zoned, read_columns, read_header
from loadgen.formats.lines import head_lines
from loadgen.formats.rows import OnError, Rows
from loadgen.trace import Service, Trace, make_trace

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
AZURE_TIME = "TIMESTAMP"


def read_azure_rows(path: Path, on_error: OnError = "stop") -> Rows:
    """Read an Azure LLM inference trace of 2023, or of 2024 (whose times end in +00:00, some without a fraction).

    Times have up to nine digits below the second (seven in 2023, six in 2024), all of which are kept.

    Source: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and ...2024.md.

    Raises:
        InputError: a column is missing, or (with 'stop') a row is bad, with its line.
    """
    columns = [instants(AZURE_TIME, _has_zone(path)), integers("ContextTokens"), integers("GeneratedTokens")]
    return read_columns(path, columns, AZURE_TIME, on_error)


def azure_trace(name: str, table: Any, service: Service) -> Trace:
    """The trace of the rows of one or more Azure files, in order of time.

    The files do not say which service a request is of: each holds one (`..._conv.csv`, `..._code.csv`), so `service`
    holds for all of them. Neither do they name the model. The trace counts from the first arrival; its duration ends
    with the whole second after the last.
    """
    instant_ns = table[AZURE_TIME].to_numpy().view(np.int64)
    # The difference is taken in whole nanoseconds: an hour is 3.6e12 ns, exact in a float, an epoch of 1.7e18 is not.
    # It may be of 584 years, for which the sign's bit is needed.
    arrival_s = (instant_ns - instant_ns[0]).view(np.uint64) / 1e9
    return make_trace(
        name,
        arrival_s,
        table["ContextTokens"].to_numpy(),
        table["GeneratedTokens"].to_numpy(),
        duration_s=float(np.floor(arrival_s[-1])) + 1.0,
        service=service,
    )


def _has_zone(path: Path) -> bool:
    """Whether the times of a file end in a UTC offset, as the first one that is a time does."""
    header = read_header(path)
    place = header.index(AZURE_TIME) if AZURE_TIME in header else 0
    for line in head_lines(path)[1:]:
        has_zone = is_zoned("".join(csv_cells(line)[place : place + 1]))
        if has_zone is not None:
            return has_zone
    return False
