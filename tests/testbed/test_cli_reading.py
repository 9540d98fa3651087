"""Commands that read traces say what they left out, on standard error."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadgen.errors import InputError
from loadgen.trace import Service
from loadgen.trace_file import load_trace
from testbed.cli_reading import read_files
from testbed.cli_trace import trace_app

HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
GOOD = HEADER + "".join(f"{second},GPT-4,10,2,12,API log\n" for second in range(5, 65))


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_several_files_are_converted_into_one_trace(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one.csv", GOOD), write(tmp_path, "two.csv", HEADER + "9,ChatGPT,1,1,2,API log\n")
    done = CliRunner().invoke(trace_app, ["convert", str(one), str(two), "-o", str(tmp_path / "out.parquet")])
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    trace = load_trace(tmp_path / "out.parquet")
    assert (trace.name, len(trace), trace.model_names) == ("one + two", 61, ("GPT-4", "ChatGPT"))


def test_skipped_and_sorted_rows_are_told_beside_the_json(tmp_path: Path) -> None:
    path = write(
        tmp_path, "bad.csv", GOOD + "x,GPT-4,1,2,3,API log\n5,GPT-4,1,2,3,API log\n70,GPT-4,1,2\n70,[b],y,1,1\n"
    )
    with pytest.raises(InputError, match=r"bad.csv line 62: 'Timestamp' is 'x'"):
        CliRunner().invoke(trace_app, ["describe", str(path), "--json"], catch_exceptions=False)
    done = CliRunner().invoke(trace_app, ["describe", str(path), "--json", "--on-error", "skip"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["requests"] == 61
    assert done.stderr.splitlines() == [
        "skipped 3 of 64 rows:",
        "  2 rows: has another number of fields than the header",
        "  1 row: 'Timestamp' is not a number of seconds from 0 to 10^15",
        "  such as bad.csv line 62: 'Timestamp' is 'x', want a number of seconds from 0 to 10^15",
        "  such as bad.csv line 64: has 4 fields, the header has 6; repair the row",
        "  such as bad.csv line 65: has 5 fields, the header has 6; repair the row",
        "sorted in 1 row that came after a later one",
    ]


def test_the_service_of_an_azure_file_can_be_told(tmp_path: Path) -> None:
    path = write(tmp_path, "code.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n")
    assert read_files([path], "auto", "api", "stop").service.tolist() == [Service.API]
    with pytest.raises(InputError, match="--as-service: unknown service 'code'; known: conversation, api"):
        read_files([path], "auto", "code", "stop")
