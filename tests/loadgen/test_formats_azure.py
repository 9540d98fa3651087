"""Azure's traces, down to the last digit of their times."""

from pathlib import Path

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.formats.detect import read_trace, read_traces
from loadgen.trace import Service

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def write(folder: Path, *rows: str) -> Path:
    path = folder / "azure.csv"
    path.write_text("\r\n".join((HEADER, *rows)))
    return path


def test_the_published_conversation_trace_is_read(data_folder: Path) -> None:
    trace = read_trace(data_folder / "traces/azure_2023/AzureLLMInferenceTrace_conv.csv")
    assert len(trace) == 19_366
    assert trace.duration_s == 3502.0  # 18:15:46.68 to 19:14:08.40
    assert trace.arrival_s[0] == 0.0
    assert trace.arrival_s[1] == 4.314579  # 50.9951690 - 46.6805900
    assert trace.prompt_tokens[:2].tolist() == [374, 396]
    assert trace.output_tokens[-1] == 183
    assert np.all(trace.service == Service.CONVERSATION)
    assert np.all(np.diff(trace.arrival_s) > 0)
    assert trace.name == "AzureLLMInferenceTrace_conv"


def test_the_seventh_digit_of_a_second_keeps_the_order_of_requests(tmp_path: Path) -> None:
    times = ["23:59:59.9999998", "23:59:59.9999999"]
    rows = [*(f"2023-11-16 {time},1,1" for time in times), "2023-11-17 00:00:00,1,1", "2023-11-17 00:00:00.0000001,1,1"]
    trace = read_trace(write(tmp_path, *rows))
    np.testing.assert_array_equal(trace.arrival_s, np.array([0, 1, 2, 3]) * 1e-7)


def test_a_step_back_in_the_seventh_digit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, "2023-11-16 18:00:00.0000002,1,1", "2023-11-16 18:00:00.0000001,1,1")
    with pytest.raises(InputError, match=r"line 3: 'TIMESTAMP' goes backward \(2023-11-16 18:00:00.0000002, then"):
        read_trace(path)


def test_times_with_a_zone_as_in_2024_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "2024-05-10 00:00:00.009930+00:00,2162,5", "2024-05-10 00:00:00.017335+00:00,2399,6")
    assert read_trace(path).arrival_s.tolist() == [0.0, 0.007405]


def test_whole_seconds_stand_among_fractions_as_in_2024(tmp_path: Path) -> None:
    rows = (
        "2024-05-11 23:59:59.998+00:00,1,1",
        "2024-05-12 00:00:00+00:00,2,2",
        "2024-05-12 00:00:00.001163+00:00,3,3",
    )
    assert read_trace(write(tmp_path, *rows)).arrival_s.tolist() == [0.0, 0.002, 0.003163]


def test_another_offset_is_another_instant(tmp_path: Path) -> None:
    path = write(tmp_path, "2024-05-12 00:00:00+00:00,1,1", "2024-05-12 02:00:01+02:00,2,2", "2024-05-12 00:00:02Z,3,3")
    assert read_trace(path).arrival_s.tolist() == [0.0, 1.0, 2.0]


def test_whether_times_have_an_offset_is_told_by_the_first_that_is_a_time(tmp_path: Path) -> None:
    path = write(tmp_path, "yesterday,1,1", "2024-05-12 00:00:00+00:00,1,1", "2024-05-12 00:00:01,1,1")
    reading = read_traces([path], on_error="skip")
    assert (len(reading.trace), len(reading.skipped)) == (1, 2)


def test_two_traces_are_merged_by_date(data_folder: Path, tmp_path: Path) -> None:
    conv = data_folder / "traces/azure_2023/AzureLLMInferenceTrace_conv.csv"
    code = write(tmp_path, "2023-11-16 18:15:45.6805900,7,7", "2023-11-16 20:00:00,8,8")
    trace = read_traces([conv, code]).trace
    assert len(trace) == 19_368
    assert trace.prompt_tokens[[0, 1, -1]].tolist() == [7, 374, 8]
    assert trace.arrival_s[1] == 1.0


def test_the_service_can_be_told(tmp_path: Path) -> None:
    path = write(tmp_path, "2023-11-16 18:15:46.6805900,374,44")
    assert read_trace(path, service=Service.API).service.tolist() == [Service.API]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 18:15:99.0,1,1", "line 3: 'TIMESTAMP' is '2023-11-16 18:15:99.0', want a time like 2023"),
        ("yesterday,1,1", "line 3: 'TIMESTAMP' is 'yesterday', want a time like"),
        ("2023-11-16 18:15:47+00:00,1,1", "line 3: 'TIMESTAMP' is"),
        ("2023-11-16 18:15:47,1.5,1", "line 3: 'ContextTokens' is '1.5', want an integer >= 0"),
        ("2023-11-16 18:15:45,1,1", "line 3: 'TIMESTAMP' goes backward"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^azure.csv {message}"):
        read_trace(write(tmp_path, "2023-11-16 18:15:46.6805900,374,44", row))
