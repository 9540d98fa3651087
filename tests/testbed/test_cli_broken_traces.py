"""What a person sees who names a broken trace file: one line that names it and its fault, and exit code 2."""

import gzip
from pathlib import Path

import pytest

from tests.testbed.command import assert_refused, burstscale

BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,1,2,3,API log\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'
BROKEN = {
    "empty": (b"", "is empty"),
    "header only": (BURSTGPT.splitlines()[0].encode(), "holds a header and no request"),
    "foreign": (b"a,b\n1,2\n", "of no known format"),
    "missing column": (BURSTGPT.replace("Model,", "").encode(), "of no known format"),
    "column twice": (BURSTGPT.replace("Total", "Request").encode(), "column 'Request tokens' appears twice"),
    "UTF-16": (BURSTGPT.encode("utf-16"), "line 1 is no UTF-8 text"),
    "binary": (bytes(range(128)) * 20, "of no known format"),
    "negative": ((BURSTGPT + "6,GPT-4,-1,2,3,API log").encode(), "line 3: 'Request tokens' is '-1'"),
    "digits": ((BURSTGPT + f"6,GPT-4,{'9' * 5000},2,3,API log").encode(), "line 3: 'Request tokens' is '999"),
    "control characters": ((BURSTGPT + "6,GPT-4,\x1b[2J\x0b,2,3,x").encode(), r"'Request tokens' is '\x1b[2J\x0b'"),
    "open quote": ((BURSTGPT + '6,"GPT-4,1,2,3,API log\n').encode(), "line 3: is no CSV"),
    "unsorted": ((AZURE + AZURE.splitlines()[1].replace("18:", "17:")).encode(), "line 3: 'TIMESTAMP' goes backward"),
    "no date": ((AZURE + "2023-02-29 00:00:00,1,1").encode(), "line 3: 'TIMESTAMP' is '2023-02-29 00:00:00'"),
    "broken JSON": ((MOONCAKE + MOONCAKE[:-3]).encode(), "line 2: is no JSON"),
    "two objects": ((MOONCAKE + MOONCAKE.strip() * 2).encode(), "line 2: is no JSON (Extra data"),
    "deep JSON": ((MOONCAKE + "[" * 100_000).encode(), "line 2: is no JSON"),
    "rates": (b"t_seconds,requests_per_s,active_clients\n0,1,2\n", "holds one row"),
    "cut gzip": (gzip.compress(BURSTGPT.encode())[:-9], "cannot be read to its end"),
    "cut Parquet": (b"PAR1" + b"\0" * 50, "cannot be read as Parquet"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_trace_is_one_line_and_exit_code_2(tmp_path: Path, fault: str) -> None:
    content, said = BROKEN[fault]
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    result = burstscale("trace", "describe", path)
    assert_refused(result, "broken.csv", said)
    assert result.stdout == ""
