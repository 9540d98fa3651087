"""BurstGPT files of both versions, good and bad."""

from pathlib import Path

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.trace import Service

HEADER_1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
HEADER_2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
GOOD_ROW = "5,ChatGPT,472,18,490,Conversation log"


def write(folder: Path, *lines: str, newline: str = "\n") -> Path:
    path = folder / "BurstGPT_1.csv"
    path.write_bytes((newline.join(lines) + newline).encode())
    return path


def test_the_first_rows_of_the_published_file_are_read(data_folder: Path) -> None:
    trace = read_trace(data_folder / "traces/burstgpt/burstgpt1_first_rows.csv")
    assert len(trace) == 30
    assert trace.arrival_s[:3].tolist() == [5.0, 45.0, 118.0]
    assert trace.duration_s == 2294.0
    assert trace.prompt_tokens[:3].tolist() == [472, 1087, 417]
    assert trace.output_tokens[:3].tolist() == [18, 230, 276]
    assert np.all(trace.service == Service.CONVERSATION)
    assert trace.model_names == ("ChatGPT", "GPT-4")
    assert trace.model[:3].tolist() == [0, 0, 1]
    assert np.count_nonzero(trace.output_tokens == 0) == 1
    assert len(set(trace.session.tolist())) == 30


def test_version_1_tells_conversation_from_api(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER_1, GOOD_ROW, "5,GPT-4,3,0,3,API log", "7,ChatGPT,9,9,18,Conversation log")
    trace = read_trace(path)
    assert trace.service.tolist() == [Service.CONVERSATION, Service.API, Service.CONVERSATION]
    assert trace.arrival_s.tolist() == [5.0, 5.0, 7.0]
    assert trace.duration_s == 8.0


def test_version_2_counts_from_midnight_of_its_own_first_day_and_keeps_sessions(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEADER_2,
        "19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log",
        "19440161.25,d5983bf9,2,ChatGPT,36,29,65,Conversation log",
        "19440192.0,1722ac82,8,GPT-4,1779,123,1902,Conversation log",
        "19526400.5,,3,ChatGPT,935,178,1113,API log",
        "19526401.0,,3,ChatGPT,935,178,1113,API log",
    )
    trace = read_trace(path)
    assert trace.arrival_s.tolist() == [110.0, 161.25, 192.0, 86_400.5, 86_401.0]
    assert trace.duration_s == 86_402.0
    session = trace.session.tolist()
    assert session[0] == session[2]
    assert len(set(session)) == 4, "two requests share a session, the two without one share none"


def test_version_2_keeps_elapsed_times_and_leaves_out_those_it_does_not_know(tmp_path: Path) -> None:
    rows = (
        "1.0,a,43,GPT-4,9,4,13,Conversation log",
        "2.0,a,2.5,GPT-4,9,4,13,Conversation log",
        "3.0,,,GPT-4,9,4,13,API log",
    )
    trace = read_trace(write(tmp_path, HEADER_2, *rows))
    assert trace.elapsed_s is not None
    np.testing.assert_array_equal(trace.elapsed_s, [43.0, 2.5, np.nan])
    assert read_trace(write(tmp_path, HEADER_1, GOOD_ROW)).elapsed_s is None


@pytest.mark.parametrize("elapsed", ["-1", "NaN", "inf", "1 s"])
def test_an_elapsed_time_that_is_no_time_is_a_bad_cell(tmp_path: Path, elapsed: str) -> None:
    path = write(tmp_path, HEADER_2, f"1.0,a,{elapsed},GPT-4,9,4,13,Conversation log")
    with pytest.raises(
        InputError, match=f"line 2: 'Elapsed time' is '{elapsed}', want a number of seconds .*, or nothing"
    ):
        read_trace(path)


def test_sessions_without_elapsed_times_are_read(tmp_path: Path) -> None:
    header = HEADER_2.replace("Elapsed time,", "")
    trace = read_trace(write(tmp_path, header, *("1.0,a,GPT-4,9,4,13,Conversation log",) * 2))
    assert trace.session.tolist() == [0, 0]
    assert trace.elapsed_s is None


def test_a_model_without_a_name_is_unknown(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path, HEADER_1, "1,,9,4,13,API log")).model_names == ("unknown",)
    trace = read_trace(write(tmp_path, HEADER_1, *(f"1,{name},9,4,13,API log" for name in ("unknown", "", "GPT-4"))))
    assert (trace.model_names, trace.model.tolist()) == (("unknown", "GPT-4"), [0, 0, 1])


def test_a_second_file_of_version_1_leaves_the_days_before_it_out(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, HEADER_1, "5270407,ChatGPT,1,1,2,API log"))
    assert trace.arrival_s.tolist() == [7.0]


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_quotes_blank_lines_and_a_byte_order_mark_are_fine(tmp_path: Path, newline: str) -> None:
    path = write(
        tmp_path, "\ufeff" + HEADER_1, '"5","Chat""GPT, new",472,18,490,"Conversation log"', "", "", newline=newline
    )
    trace = read_trace(path)
    assert trace.model_names == ('Chat"GPT, new',)
    assert trace.prompt_tokens.tolist() == [472]


def test_a_last_line_without_its_newline_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text(f"{HEADER_1}\n{GOOD_ROW}\n6,GPT-4,1,2,3,API log")
    assert read_trace(path).output_tokens.tolist() == [18, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("6,GPT-4,abc,2,3,API log", "line 5: 'Request tokens' is 'abc', want an integer >= 0"),
        ("6,GPT-4,-1,2,3,API log", "line 5: 'Request tokens' is '-1', want an integer >= 0"),
        ("6,GPT-4,1,2.5,3,API log", "line 5: 'Response tokens' is '2.5', want an integer >= 0"),
        ("6,GPT-4,1,,3,API log", "line 5: 'Response tokens' is '', want an integer >= 0"),
        ("6,GPT-4,1,NaN,3,API log", "line 5: 'Response tokens' is 'NaN', want an integer >= 0"),
        ("6,GPT-4,1,3000000000,3,API log", "line 5: 'Response tokens' is '3000000000', want an integer"),
        ("nan,GPT-4,1,2,3,API log", "line 5: 'Timestamp' is 'nan', want a number of seconds from 0 to"),
        ("inf,GPT-4,1,2,3,API log", "line 5: 'Timestamp' is 'inf', want a number of seconds from 0 to"),
        ("-6,GPT-4,1,2,3,API log", "line 5: 'Timestamp' is '-6', want a number of seconds from 0 to"),
        ("4.5,GPT-4,1,2,3,API log", r"line 5: 'Timestamp' goes backward \(5, then 4.5\); sort the file"),
        ("6,GPT-4,1,2,3,Api", "line 5: 'Log Type' is 'Api', want 'Conversation log' or 'API log'"),
        ("6,GPT-4,1,2,3", "line 5: has 5 fields, the header has 6; repair the row"),
        ("6,GPT-4,1,2,3,API log,7", "line 5: has 7 fields, the header has 6; repair the row"),
    ],
)
def test_a_bad_row_is_named_by_its_line_in_the_file(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path, HEADER_1, GOOD_ROW, "", GOOD_ROW, row, GOOD_ROW.replace("5", "9", 1))
    with pytest.raises(InputError, match=f"^BurstGPT_1.csv {message}"):
        read_trace(path)


def test_the_first_of_two_bad_rows_is_the_one_that_is_named(tmp_path: Path) -> None:
    rows = [GOOD_ROW] * 5000
    rows[4000] = "6,GPT-4,1,abc,3,API log"
    rows[3000] = "4,GPT-4,1,2,3,API log"
    with pytest.raises(InputError, match=r"line 3002: 'Timestamp' goes backward \(5, then 4\)"):
        read_trace(write(tmp_path, HEADER_1, *rows))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "Timestamp,Model,Request tokens,Log Type", "1,GPT-4,2,API log")
    with pytest.raises(InputError, match="column 'Response tokens' is missing; the header is 'Timestamp,Model"):
        read_trace(path, "burstgpt")


def test_a_file_without_a_request_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a header and no request"):
        read_trace(write(tmp_path, HEADER_1))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "BurstGPT_1.csv"
    path.write_bytes(f"{HEADER_1}\n5,Chat\xffGPT,1,1,2,API log\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"BurstGPT_1.csv line 2: 'Model' is 'Chat\\udcffGPT', want UTF-8 text"):
        read_trace(path)
