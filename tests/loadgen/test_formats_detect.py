"""Trace files are read whatever their format, packing and number, or refused with what is known."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from loadgen.errors import InputError
from loadgen.formats.detect import FORMATS, detect_format, read_trace, read_traces
from loadgen.trace import Service
from loadgen.trace_file import load_trace, save_trace

BURSTGPT_1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURSTGPT_2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
FILES = {
    "burstgpt": BURSTGPT_1 + "5,GPT-4,1,2,3,API log\n",
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
    "mooncake": '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n',
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda data: bytes(pa.Codec("zstd").compress(data)),
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_known_by_its_first_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "trace.txt", FILES[name])
    assert detect_format(path) == name
    assert len(read_trace(path)) == 1
    assert len(read_trace(path, name)) == 1


def test_columns_in_another_order_and_further_ones_are_fine(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "note,GeneratedTokens,TIMESTAMP,ContextTokens\nhm,44,2023-11-16 18:15:46,374\n")
    trace = read_trace(path)
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([374], [44])


def test_a_converted_trace_is_known_by_its_first_bytes_and_equals_its_source(tmp_path: Path) -> None:
    source = write(tmp_path, "trace.csv", FILES["burstgpt"])
    save_trace(read_trace(source), tmp_path / "trace.anything")
    trace = read_trace(tmp_path / "trace.anything")
    assert trace.model_names == ("GPT-4",)
    assert trace.service.tolist() == [Service.API]
    assert load_trace(tmp_path / "trace.anything").duration_s == read_trace(source).duration_s
    assert read_traces([tmp_path / "trace.anything"]).rows == 1


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
        ('{"timestamp": 0}\n', "is of no known format"),
        ('{"timestamp": \n', "is of no known format"),
        ("[1, 2]\n", "is of no known format"),
        ("x" * 100_000, "has no line end in its first 65536 bytes"),
    ],
    ids=["foreign", "empty", "blank", "nearly azure", "nearly mooncake", "broken JSON", "a list", "endless line"],
)
def test_a_file_in_no_known_format_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(write(tmp_path, "trace.csv", content))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(FILES["burstgpt"].encode("utf-16"))
    with pytest.raises(InputError, match="line 1 is no UTF-8 text"):
        read_trace(tmp_path / "trace.csv")


@pytest.mark.parametrize(
    "header", ["t_seconds,requests_per_s,active_clients", "t_seconds,c5,c38", "day,hour,conversation,api,all"]
)
def test_a_rate_series_is_refused_with_the_way_to_make_requests_of_it(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, "rates.csv", header + "\n0,1,2\n")
    with pytest.raises(InputError, match=r"holds rates, not requests; a workload model turns .*process: counts"):
        read_trace(path)


def test_an_unknown_format_name_lists_those_that_are_known(tmp_path: Path) -> None:
    message = "unknown trace format 'burstgtp'; known: auto, burstgpt, azure, mooncake, parquet"
    with pytest.raises(InputError, match=message):
        read_trace(tmp_path / "x", "burstgtp")


def test_the_wrong_format_name_says_which_column_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "trace.csv", FILES["azure"])
    with pytest.raises(InputError, match="column 'Timestamp' is missing; the header is 'TIMESTAMP,ContextTokens"):
        read_trace(path, "burstgpt")
    with pytest.raises(InputError, match=r"trace.csv line 1: is no JSON"):
        read_trace(path, "mooncake")


def test_a_service_is_taken_only_for_a_format_that_does_not_say_it(tmp_path: Path) -> None:
    for name in ("azure", "mooncake"):
        trace = read_trace(write(tmp_path, name, FILES[name]), service=Service.API)
        assert trace.service.tolist() == [Service.API]
    burstgpt = write(tmp_path, "burstgpt", FILES["burstgpt"])
    save_trace(read_trace(burstgpt), tmp_path / "parquet")
    for name in ("burstgpt", "parquet"):
        with pytest.raises(InputError, match=f"'{name}' says itself which service"):
            read_trace(tmp_path / name, service=Service.API)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", FILES)
def test_a_packed_file_is_read_whatever_its_suffix(tmp_path: Path, name: str, packing: str) -> None:
    packed = PACKINGS[packing](FILES[name].encode())
    for file_name in (f"trace.csv.{packing}", "trace.csv"):
        (tmp_path / file_name).write_bytes(packed)
        trace = read_trace(tmp_path / file_name)
        assert (trace.name, len(trace)) == ("trace", 1)


def test_a_file_that_only_looks_packed_by_its_suffix_is_read(tmp_path: Path) -> None:
    assert len(read_trace(write(tmp_path, "trace.csv.gz", FILES["azure"]))) == 1


def test_a_file_of_packed_pieces_one_after_the_other_is_read_to_its_end(tmp_path: Path) -> None:
    first, second = FILES["burstgpt"].encode(), b"7,GPT-4,1,2,3,API log\n"
    for packing, pack in PACKINGS.items():
        path = tmp_path / packing
        path.write_bytes(pack(first) + pack(second))
        assert read_trace(path).arrival_s.tolist() == [5.0, 7.0]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:-6] + bytes([data[-6] ^ 255]) + data[-5:],
        lambda data: data + b"more",
    ],
    ids=["half of it", "the last byte missing", "a changed checksum", "something after it"],
)
def test_a_damaged_packed_file_is_one_clear_error(
    tmp_path: Path, packing: str, on_error: str, damage: Callable[[bytes], bytes]
) -> None:
    rows = "".join(f"{second},GPT-4,{second % 97},2,3,API log\n" for second in range(20_000))
    path = tmp_path / f"trace.csv.{packing}"
    path.write_bytes(damage(PACKINGS[packing]((BURSTGPT_1 + rows).encode())))
    with pytest.raises(InputError, match=r"cannot be read to its end \(.*\); get the file again") as caught:
        read_traces([path], on_error=on_error)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_files_of_burstgpt_are_merged_on_their_own_clock(tmp_path: Path) -> None:
    day_s = 86_400
    one = write(tmp_path, "one.csv", BURSTGPT_1 + f"{day_s + 5},A,1,1,2,API log\n{3 * day_s},B,2,1,3,API log\n")
    two = write(
        tmp_path,
        "two.csv",
        BURSTGPT_2
        + f"{2 * day_s}.5,s1,4,B,3,1,4,Conversation log\n"
        + f"{2 * day_s + 9}.0,,,C,4,0,4,API log\n"
        + f"{4 * day_s}.0,s1,7.5,B,5,1,6,Conversation log\n",
    )
    three = write(tmp_path, "three.csv", BURSTGPT_2 + f"{4 * day_s + 1}.0,s1,,B,6,1,7,Conversation log\n")
    reading = read_traces([three, one, two])
    trace = reading.trace
    assert trace.name == "three + one + two"
    assert (trace.arrival_s - 5).tolist() == [0, day_s - 4.5, day_s + 4, 2 * day_s - 5, 3 * day_s - 5, 3 * day_s - 4]
    assert trace.prompt_tokens.tolist() == [1, 3, 4, 2, 5, 6]
    assert [trace.model_names[model] for model in trace.model] == ["A", "B", "C", "B", "B", "B"]
    assert trace.duration_s == 3 * day_s + 2
    session = trace.session.tolist()
    assert session[1] == session[4] == session[5], "the same id is the same session in whatever file"
    assert len(set(session)) == 4, "requests without an id are sessions of their own"
    assert trace.elapsed_s is not None
    np.testing.assert_array_equal(trace.elapsed_s, [np.nan, 4, np.nan, np.nan, 7.5, np.nan])
    assert (reading.rows, len(reading.skipped), reading.sorted_rows) == (6, 0, 0)


def test_the_order_in_which_files_are_given_changes_nothing_but_the_name(tmp_path: Path) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    conv = write(tmp_path, "conv.csv", header + "2023-11-16 18:00:01,1,1\n2023-11-16 18:00:05.5,2,2\n")
    code = write(tmp_path, "code.csv", header + "2023-11-16 18:00:00,3,3\n2023-11-16 18:00:05,4,4\n")
    for paths in ([conv, code], [code, conv]):
        trace = read_traces(paths).trace
        assert trace.arrival_s.tolist() == [0.0, 1.0, 5.0, 5.5]
        assert trace.prompt_tokens.tolist() == [3, 1, 4, 2]
        assert trace.duration_s == 6.0


def test_files_that_share_no_clock_are_refused(tmp_path: Path) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    naive = write(tmp_path, "naive.csv", header + "2023-11-16 18:00:01,1,1\n")
    zoned = write(tmp_path, "zoned.csv", header + "2024-05-10 00:00:00+00:00,1,1\n")
    mooncake = [write(tmp_path, name, FILES["mooncake"]) for name in ("m1", "m2")]
    for name in ("p1", "p2"):
        save_trace(read_trace(naive), tmp_path / name)
    with pytest.raises(InputError, match=r"zoned.csv: cannot be merged with .*naive.csv: only one of them has times"):
        read_traces([naive, zoned])
    with pytest.raises(InputError, match=r"m2: cannot be merged with .*m1: each file of format 'mooncake' counts"):
        read_traces(mooncake)
    with pytest.raises(InputError, match="each file of format 'parquet' counts from its own start"):
        read_traces([tmp_path / "p1", tmp_path / "p2"])
    with pytest.raises(InputError, match=r"m1: is in format 'mooncake', .*naive.csv in 'azure'; give files of one"):
        read_traces([naive, mooncake[0]])


def test_a_file_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "trace.csv", FILES["azure"])
    with pytest.raises(InputError, match="is given twice"):
        read_traces([path, tmp_path / "." / "trace.csv"])
    with pytest.raises(InputError, match="no trace file is given"):
        read_traces([])


def test_bad_rows_of_several_files_are_counted_together(tmp_path: Path) -> None:
    bad = "x,GPT-4,1,2,3,API log\n"
    one = write(tmp_path, "one.csv", FILES["burstgpt"] + bad + "6,GPT-4,-1,2,3,API log\n")
    two = write(tmp_path, "two.csv", BURSTGPT_1 + bad * 4 + "7,GPT-4,1,2,3,API log\n6,GPT-4,1,2,3,API log\n")
    reading = read_traces([one, two], on_error="skip")
    assert reading.trace.arrival_s.tolist() == [5.0, 6.0, 7.0]
    assert (reading.rows, reading.sorted_rows) == (9, 1)
    assert reading.skipped.counts == {
        "'Timestamp' is not a number of seconds from 0 to 10^15": 5,
        "'Request tokens' is not an integer >= 0": 1,
    }
    assert reading.skipped.examples == [
        "one.csv line 3: 'Timestamp' is 'x', want a number of seconds from 0 to 10^15",
        "one.csv line 4: 'Request tokens' is '-1', want an integer >= 0",
        *(f"two.csv line {line}: 'Timestamp' is 'x', want a number of seconds from 0 to 10^15" for line in (2, 3, 4)),
    ]
