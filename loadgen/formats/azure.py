"""Azure's LLM inference traces: one service's requests with their token counts."""

from pathlib import Path

import numpy as np

from loadgen.formats.csv_columns import instants, integers, is_zoned, read_columns, read_head
from loadgen.trace import Service, Trace, make_trace

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(path: Path, service: Service = Service.CONVERSATION) -> Trace:
    """Read an Azure LLM inference trace of 2023, or of 2024 (whose times end in +00:00).

    The files do not say which service a request is of: each holds one (`..._conv.csv`, `..._code.csv`), so `service`
    holds for all of them. Neither do they name the model. The trace counts from the first arrival; its duration ends
    with the whole second after the last. Times have seven digits below the second, all of which are kept.

    Source: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md.

    Raises:
        InputError: a column is missing or a row is bad, with its line.
    """
    header, first_row = read_head(path)
    time_place = header.index("TIMESTAMP") if "TIMESTAMP" in header else 0
    zoned = len(first_row) > time_place and is_zoned(first_row[time_place])
    columns = [instants("TIMESTAMP", zoned), integers("ContextTokens"), integers("GeneratedTokens")]
    table = read_columns(path, columns, in_order="TIMESTAMP")
    instant_ns = table["TIMESTAMP"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    # The difference is taken in whole nanoseconds: an hour is 3.6e12 ns, exact in a float, an epoch of 1.7e18 is not.
    arrival_s = (instant_ns - instant_ns[0]) / 1e9
    return make_trace(
        path.stem,
        arrival_s,
        table["ContextTokens"].to_numpy(),
        table["GeneratedTokens"].to_numpy(),
        duration_s=float(np.floor(arrival_s[-1])) + 1.0,
        service=service,
    )
