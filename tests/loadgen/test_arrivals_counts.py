"""Arrivals from counts give exactly those counts, as burstily as asked for."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadgen.arrivals.counts import CountArrivals, draw_counts, expected_counts
from loadgen.errors import InputError
from loadgen.strict_config import parse

TRACES = Path(__file__).parents[2] / "../shared/data/traces"
HOURLY = "day,hour,conversation,api\n3,0,5,0\n3,1,7,1000\n3,3,9,0\n"


def counts(requests: list[float | None], bin_s: float = 10.0, **keys: Any) -> CountArrivals:
    return CountArrivals(process="counts", requests=tuple(requests), bin_s=bin_s, **keys)


def drawn_per_bin(process: CountArrivals, start_s: float, end_s: float, seed: int = 0) -> list[int]:
    arrival_s = draw_counts(process, start_s, end_s, np.random.default_rng(seed))
    assert np.all(np.diff(arrival_s) >= 0)
    assert np.all((arrival_s >= start_s) & (arrival_s < end_s))
    bins = np.arange(len(process.requests) + 1) * process.bin_s + start_s
    return np.diff(np.searchsorted(arrival_s, bins)).tolist()


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=30),
    st.floats(0.1, 3600),
    st.floats(0.01, 1000),
    st.floats(0, 1e6),
    st.integers(0, 2**32),
)
def test_every_bin_holds_exactly_its_count_whatever_the_shape(
    requests: list[int], bin_s: float, alpha: float, start_s: float, seed: int
) -> None:
    process = counts(list(requests), bin_s, alpha=alpha)
    assert drawn_per_bin(process, start_s, start_s + bin_s * len(requests), seed) == requests


def test_with_a_shape_of_one_the_arrivals_of_a_bin_are_uniform() -> None:
    arrival_s = draw_counts(counts([20_000]), 0, 10, np.random.default_rng(0))
    assert stats.kstest(arrival_s / 10, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.25, 4.0])
def test_the_gaps_within_a_bin_have_the_shape_asked_for(alpha: float) -> None:
    gaps_s = np.diff(draw_counts(counts([100_000], alpha=alpha), 0, 10, np.random.default_rng(0)))
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(alpha**-0.5, rel=0.02)


def test_a_factor_keeps_the_total_by_rounding_what_has_been_reached() -> None:
    # Reached after each bin: 0.7, 1.4, 2.1, 2.8, 3.5, rounded 1, 1, 2, 3, 4.
    assert drawn_per_bin(counts([1, 1, 1, 1, 1], factor=0.7), 0, 50) == [1, 0, 1, 1, 1]
    assert sum(drawn_per_bin(counts([3] * 1000, factor=1 / 7), 0, 10_000)) == round(3000 / 7)


def test_missing_counts_are_refused_or_filled_as_asked() -> None:
    requests = [None, 10, None, None, 40, None]
    with pytest.raises(ValueError, match="missing counts: 4, the first in bin 0; set missing to zero or"):
        expected_counts(counts(requests), 0, 60)
    assert drawn_per_bin(counts(requests, missing="zero"), 0, 60) == [0, 10, 0, 0, 40, 0]
    assert drawn_per_bin(counts(requests, missing="interpolate"), 0, 60) == [10, 10, 20, 30, 40, 40]


def test_a_stream_that_ends_within_a_bin_gets_the_part_before_its_end() -> None:
    process = counts([100, 100_000])
    assert expected_counts(process, 5, 20) == 100 + 50_000
    first, second = drawn_per_bin(process, 5, 20)
    assert first == 100
    assert second == pytest.approx(50_000, rel=0.02)


def test_counts_that_end_before_the_stream_are_refused() -> None:
    with pytest.raises(ValueError, match="the counts cover 20 s, the stream lasts 21 s"):
        expected_counts(counts([1, 2]), 0, 21)


def read(folder: Path, **keys: Any) -> CountArrivals:
    return parse(CountArrivals, {"process": "counts", **keys}, "model.yaml", folder)


def test_counts_are_read_from_a_file_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "hours.csv").write_text(HOURLY)
    process = read(tmp_path, file="hours.csv", label="conversation", missing="zero", skip_s=3600)
    assert process.bin_s == 3600
    assert drawn_per_bin(process, 0, 3 * 3600) == [7, 0, 9], "the third hour has no row"
    (tmp_path / "hours.csv").unlink()
    assert parse(CountArrivals, process.model_dump(mode="json", exclude_none=True), "again") == process


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "give file, or requests and bin_s"),
        ({"requests": [1, 2]}, "key 'bin_s' is missing"),
        ({"requests": [], "bin_s": 1}, "'requests': .* at least 1 item"),
        ({"requests": [-1], "bin_s": 1}, "'requests.0': .*greater than or equal to 0, got -1"),
        ({"file": "none.csv"}, "none.csv: cannot be read"),
        ({"file": 3}, "'file': input is not a valid path"),
        ({"file": "hours.csv"}, "holds 2 series; give label, one of conversation, api"),
        ({"file": "hours.csv", "label": "chat"}, "has no 'chat'; it has conversation, api"),
        ({"file": "hours.csv", "label": "api", "skip_s": 60}, "skip_s is 60, want a multiple of the bin of 3600 s"),
    ],
)
def test_what_cannot_be_read_as_counts_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    (tmp_path / "hours.csv").write_text(HOURLY)
    with pytest.raises(InputError, match=f"^model.yaml: .*{message}"):
        read(tmp_path, **keys)


# With real traffic.


@pytest.mark.skipif(not TRACES.is_dir(), reason="the real traces are not here (../shared/data)")
@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
def test_forty_days_of_burstgpt_are_met_hour_by_hour(alpha: float) -> None:
    path = TRACES / "burstgpt/burstgpt1_hourly_days00-39.csv"
    with path.open() as rows:
        hourly = [int(row["api"]) for row in csv.DictReader(rows)]
    process = read(path.parent, file=path.name, label="api", alpha=alpha)
    assert drawn_per_bin(process, 0, 40 * 86_400) == hourly


@pytest.mark.skipif(not TRACES.is_dir(), reason="the real traces are not here (../shared/data)")
def test_gaps_of_a_production_recording_are_told_and_filled() -> None:
    keys: dict[str, Any] = {"file": "m-small_total_rate_10min.csv", "factor": 0.01}
    folder, fortnight_s = TRACES / "servegen_rates", 14 * 86_400
    with pytest.raises(ValueError, match="missing counts: 37, the first in"):
        expected_counts(read(folder, **keys), 0, fortnight_s)
    zero, filled = (
        expected_counts(read(folder, **keys, missing=missing), 0, fortnight_s) for missing in ("zero", "interpolate")
    )
    # 37 of 2016 bins of 10 minutes.
    assert 1 < filled / zero < 1 + 4 * 37 / 2016
