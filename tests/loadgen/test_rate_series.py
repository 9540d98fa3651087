"""Published rates become counts per bin, with gaps where nothing was recorded."""

import csv
from pathlib import Path

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.rate_series import read_rate_series


def write(folder: Path, text: str) -> Path:
    path = folder / "rates.csv"
    path.write_text(text)
    return path


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "gaps"), [("m-large", 0), ("m-small", 37)])
def test_the_published_total_rates_are_read_with_their_gaps(data_folder: Path, name: str, gaps: int) -> None:
    path = data_folder / f"traces/servegen_rates/{name}_total_rate_10min.csv"
    series = read_rate_series(path)
    assert series.labels == ("all",)
    assert (series.bin_s, series.duration_s) == (600.0, 14 * 86_400.0)
    assert series.requests.shape == (1, 2016)
    assert np.count_nonzero(np.isnan(series.requests)) == gaps
    rates = np.array([float(row["requests_per_s"]) for row in cells(path)])
    np.testing.assert_allclose(np.nan_to_num(series.of("all")), rates * 600, rtol=1e-12)
    assert np.all(np.isnan(series.of("all")) == (rates == 0))


def test_a_published_client_may_be_silent(data_folder: Path) -> None:
    path = data_folder / "traces/servegen_rates/m-small_top20_clients_rate_10min.csv"
    series = read_rate_series(path)
    assert series.labels[:3] == ("c5", "c38", "c17")
    assert series.requests.shape == (20, 2016)
    assert not np.isnan(series.requests).any()
    assert series.of("c19")[0] == pytest.approx(7.77333 * 600)
    assert np.count_nonzero(series.of("c11") == 0) == sum(float(row["c11"]) == 0 for row in cells(path))


def test_the_published_hourly_counts_are_read(data_folder: Path) -> None:
    path = data_folder / "traces/burstgpt/burstgpt1_hourly_days00-39.csv"
    series = read_rate_series(path)
    assert series.labels == ("conversation", "api", "all")
    assert (series.bin_s, series.duration_s) == (3600.0, 40 * 86_400.0)
    for label in series.labels:
        assert series.of(label).tolist() == [float(row[label]) for row in cells(path)]
    np.testing.assert_array_equal(series.of("conversation") + series.of("api"), series.of("all"))


def test_a_bin_without_a_row_is_missing(tmp_path: Path) -> None:
    series = read_rate_series(write(tmp_path, "t_seconds,a,b\n100,1,0\n160,2,0.5\n280,3,1\n"))
    assert series.bin_s == 60.0
    np.testing.assert_array_equal(series.requests, [[60, 120, np.nan, 180], [0, 30, np.nan, 60]])


def test_hours_count_from_midnight_of_the_first_day(tmp_path: Path) -> None:
    series = read_rate_series(write(tmp_path, "day,hour,api\n7,22,5\n8,1,6\n"))
    np.testing.assert_array_equal(series.of("api")[22:], [5, np.nan, np.nan, 6])
    assert np.isnan(series.of("api")[:22]).all()
    assert series.duration_s == 26 * 3600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "the header 'a,b' is of no rate series; want t_seconds,requests_per_s"),
        ("t_seconds\n1\n", "the header 't_seconds' is of no rate series"),
        ("day,hour\n1,2\n", "the header 'day,hour' is of no rate series"),
        ("t_seconds,a\n", "holds a header and no request"),
        ("t_seconds,a\n0,1\n", "holds one row; want at least two, to know how long a bin is"),
        ("t_seconds,a\n0,1\n0,1\n", "t_seconds 0 is no multiple of the bin of 0 s after 0, or comes twice"),
        ("t_seconds,a\n0,1\n60,1\n60,1\n", "comes twice; want a regular series"),
        ("t_seconds,a\n0,1\n60,1\n150,1\n", "t_seconds 150 is no multiple of the bin of 60 s after 0"),
        ("t_seconds,a\n0,1\n60,1\n6e12,1\n", "at most 10000000 values; check its times"),
        ("t_seconds,a\n60,1\n0,1\n", r"rates.csv line 3: 't_seconds' goes backward \(60, then 0\)"),
        ("t_seconds,a\n0,1\n60,-1\n", "rates.csv line 3: 'a' is '-1', want a number from 0 to"),
        ("t_seconds,a\n0,1\n60,nan\n", "rates.csv line 3: 'a' is 'nan', want a number from 0 to"),
        ("t_seconds,a,a\n0,1,1\n60,1,1\n", "column 'a' appears twice"),
        ("day,hour,a\n0,24,1\n", "'hour' is 24, want 0 to 23"),
        ("day,hour,a\n0,5,1\n0,5,2\n", "day 0 hour 5 comes twice or late"),
        ("day,hour,a\n0,5,1\n0,4,2\n", "day 0 hour 4 comes twice or late"),
        ("day,hour,a\n0,5,1.5\n", "rates.csv line 2: 'a' is '1.5', want an integer >= 0"),
    ],
)
def test_a_series_that_is_no_series_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rate_series(write(tmp_path, text))


def test_an_unknown_label_lists_those_that_are_known(tmp_path: Path) -> None:
    series = read_rate_series(write(tmp_path, "t_seconds,a,b\n0,1,0\n60,2,0\n"))
    with pytest.raises(InputError, match="rate series 'rates': has no 'c'; it has a, b"):
        series.of("c")
