"""A trace file is read whatever its format, or refused with the formats that are known."""

from pathlib import Path

import pytest

from loadgen.errors import InputError
from loadgen.formats.detect import FORMATS, detect_format, read_trace
from loadgen.trace import Service
from loadgen.trace_file import load_trace, save_trace

FILES = {
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,1,2,3,API log\n",
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_csv_file_is_known_by_its_header(tmp_path: Path, name: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(FILES[name])
    assert detect_format(path) == name
    assert len(read_trace(path)) == 1
    assert len(read_trace(path, name)) == 1


def test_a_converted_trace_is_known_by_its_first_bytes_and_equals_its_source(tmp_path: Path) -> None:
    source = tmp_path / "trace.csv"
    source.write_text(FILES["burstgpt"])
    save_trace(read_trace(source), tmp_path / "trace.anything")
    trace = read_trace(tmp_path / "trace.anything")
    assert trace.model_names == ("GPT-4",)
    assert trace.service.tolist() == [Service.API]
    assert load_trace(tmp_path / "trace.anything").duration_s == read_trace(source).duration_s


def test_every_known_format_has_a_reader(tmp_path: Path) -> None:
    for name in FORMATS:
        with pytest.raises(InputError, match="cannot be read"):
            read_trace(tmp_path / "absent", name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c\n1,2,3\n", r"the header 'a,b,c' is of no known format; known: burstgpt \(Timestamp,Model"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        (FILES["azure"].replace("ContextTokens", "Tokens"), "is of no known format"),
    ],
    ids=["foreign", "empty", "blank", "nearly azure"],
)
def test_a_file_in_no_known_format_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_trace(path)


def test_an_unknown_format_name_lists_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="unknown trace format 'burstgtp'; known: auto, burstgpt, azure, mooncake, parquet"
    ):
        read_trace(tmp_path / "x", "burstgtp")


def test_the_wrong_format_name_says_which_column_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(FILES["azure"])
    with pytest.raises(InputError, match="column 'Timestamp' is missing; the header is 'TIMESTAMP,ContextTokens"):
        read_trace(path, "burstgpt")


def test_a_service_is_taken_only_for_a_format_that_does_not_say_it(tmp_path: Path) -> None:
    azure, burstgpt = tmp_path / "azure.csv", tmp_path / "burstgpt.csv"
    azure.write_text(FILES["azure"])
    burstgpt.write_text(FILES["burstgpt"])
    assert read_trace(azure, service=Service.API).service.tolist() == [Service.API]
    with pytest.raises(InputError, match="'burstgpt' says itself which service"):
        read_trace(burstgpt, service=Service.API)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path)
