"""A description counts everything once, part by part, and never fails on a trace that is one."""

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.statistics.describe import describe
from loadgen.trace import Trace, make_trace

TOTALS = ("requests", "prompt_tokens", "output_tokens", "failures")


def described(trace: Trace) -> dict[str, Any]:
    """The description as a reader of its JSON text has it."""
    found: dict[str, Any] = json.loads(describe(trace).json_text())
    return found


def test_totals_rates_and_quantiles_are_those_of_the_requests() -> None:
    trace = make_trace(
        "four",
        [0.0, 1.0, 1.5, 95.0],
        [100, 200, 300, 400],
        [10, 0, 30, 20],
        duration_s=100.0,
        service=[0, 1, 0, 0],
        model=[0, 0, 1, 1],
        model_names=("a", "b", "never asked"),
    )
    found = described(trace)
    assert (found["name"], found["duration_s"]) == ("four", 100.0)
    assert [found[key] for key in TOTALS] == [4, 1000, 60, 1]
    assert found["failed_fraction"] == 0.25
    assert (found["mean_rate_per_s"], found["peak_rate_per_s"]) == (0.04, 0.3)
    assert found["prompt_lengths"]["quantiles"]["p50"] == 250
    assert found["output_lengths"]["quantiles"]["p50"] == 20, "the failed request has no length"
    assert {label: [part[key] for key in TOTALS] for label, part in found["services"].items()} == {
        "conversation": [3, 800, 60, 0],
        "api": [1, 200, 0, 1],
    }
    assert {name: part["requests"] for name, part in found["models"].items()} == {"a": 2, "b": 2}
    by_both = {
        (label, name): part["prompt_tokens"]
        for label, parts in found["services_by_model"].items()
        for name, part in parts.items()
    }
    assert by_both == {("conversation", "a"): 100, ("conversation", "b"): 700, ("api", "a"): 200}
    assert found["services"]["api"]["duration_s"] == 100.0, "a part lasts as long as the recording"
    assert found["services"]["api"]["gaps"] is None
    timeline = describe(trace).all.timeline
    assert timeline.bin_s == 1.0
    assert [getattr(timeline, key).sum() for key in TOTALS] == [4, 1000, 60, 1]
    assert "timeline" not in found, "thousands of bins are for plots"


def test_outputs_left_to_the_engine_are_no_lengths() -> None:
    trace = make_trace("t", [0, 1, 2], [5, 5, 5], [10, 4096, 0], duration_s=3.0, output_is_limit=[False, True, False])
    found = described(trace)
    assert found["outputs_left_to_engine"] == 1
    assert found["output_lengths"]["mean_tokens"] == 10.0
    assert found["relation"]["requests"] == 1
    assert found["failures"] == 1


times = st.one_of(st.integers(0, 50).map(float), st.floats(0, 4e5, allow_subnormal=False), st.just(1000.0))
rows = st.tuples(times, st.integers(0, 40), st.integers(0, 3), st.integers(0, 1), st.integers(0, 2), st.integers(0, 5))


@settings(max_examples=30)
@given(
    st.lists(rows, max_size=120), st.sampled_from([1, 1000, 2**31 - 50]), st.booleans(), st.sampled_from([1e-3, 9e5])
)
def test_any_trace_is_described_and_its_parts_add_up(
    requests: list[tuple[float, int, int, int, int, int]], factor: int, has_elapsed: bool, tail_s: float
) -> None:
    ordered = sorted(requests)
    columns = [np.array([row[place] for row in ordered]) for place in range(6)]
    trace = make_trace(
        "any",
        columns[0].astype(float),
        np.minimum(columns[1].astype(int) * factor, 2**31 - 1),
        columns[2].astype(int) * 7,
        duration_s=max([row[0] for row in requests], default=0.0) + tail_s,
        service=columns[3].astype(int),
        model=columns[4].astype(int),
        session=columns[5].astype(int),
        model_names=("a", "b", "c"),
        elapsed_s=np.where(columns[1] > 20, np.nan, columns[1] / 3.0) if has_elapsed else None,
    )
    found, timeline = described(trace), describe(trace).all.timeline
    by_both = [part for parts in found["services_by_model"].values() for part in parts.values()]
    for parts in (list(found["services"].values()), list(found["models"].values()), by_both):
        for key in TOTALS:
            assert sum(part[key] for part in parts) == found[key]
            assert getattr(timeline, key).sum() == found[key]
        assert {part["duration_s"] for part in parts} <= {found["duration_s"]}
    assert found["requests"] == len(requests)
    assert found["prompt_lengths"]["requests"] == sum(found["prompt_lengths"]["histogram"]["counts"])
    assert found["prompt_lengths"]["requests"] == np.count_nonzero(trace.prompt_tokens)
    assert found["relation"]["requests"] == sum(map(sum, found["relation"]["counts"]))


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("output_tokens", [0, 9])
def test_requests_at_one_instant_are_described(count: int, output_tokens: int) -> None:
    columns = np.full(count, 5.0), np.zeros(count, dtype=int), np.full(count, output_tokens)
    found = described(make_trace("heap", *columns, duration_s=7200.0))
    assert found["requests"] == count
    assert found["failures"] == (count if output_tokens == 0 else 0)
    assert found["gaps"] is None
    assert found["conversations"] is None
    assert found["elapsed"] is None


def test_a_recording_of_more_than_twenty_years_is_refused() -> None:
    with pytest.raises(InputError, match="more than 20 years; are its times in milliseconds"):
        describe(make_trace("ms", [0, 1.7e12], [1, 1], [1, 1], duration_s=1.7e12 + 1))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("decimals", [0, 3])
def test_alpha_and_theta_are_found_again_in_a_file(tmp_path: Path, alpha: float, decimals: int) -> None:
    rng = np.random.default_rng(8)
    count, beta_s, theta = 30_000, 1.5 / alpha, 1.1
    lengths = np.arange(1, 4097)
    prompts = rng.choice(lengths, count, p=lengths**-theta / np.sum(lengths**-theta))
    arrival_s = np.cumsum(rng.gamma(alpha, beta_s, count))
    stamps = np.floor(arrival_s * 10**decimals) / 10**decimals
    path = tmp_path / "drawn.csv"
    with path.open("w", newline="") as file:
        file.write("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n")
        for stamp, prompt in zip(stamps, prompts, strict=True):
            file.write(f"{stamp:.{decimals}f},ChatGPT,{prompt},7,{prompt + 7},Conversation log\n")
    found = described(read_trace(path))
    assert found["requests"] == count
    assert found["gaps"]["resolution_s"] == 10.0**-decimals
    assert found["gaps"]["alpha"] == pytest.approx(alpha, rel=0.05)
    assert found["gaps"]["beta_s"] == pytest.approx(beta_s, rel=0.05)
    assert found["gaps"]["by_window"]["alpha"]["median"] == pytest.approx(alpha, rel=0.05)
    assert found["prompt_lengths"]["zipf"]["theta"] == pytest.approx(theta, rel=0.03)


# Real traces, counted anew with the csv and json modules.


def test_the_first_rows_of_burstgpt_are_described(data_folder: Path) -> None:
    path = data_folder / "traces/burstgpt/burstgpt1_first_rows.csv"
    found = described(read_trace(path))
    with path.open(newline="") as file:
        counted = list(csv.DictReader(file))
    assert found["requests"] == len(counted) == 30
    assert found["prompt_tokens"] == sum(int(row["Request tokens"]) for row in counted)
    assert found["output_tokens"] == sum(int(row["Response tokens"]) for row in counted)
    assert found["failures"] == sum(row["Response tokens"] == "0" for row in counted) == 1
    for name in ("ChatGPT", "GPT-4"):
        assert found["models"][name]["prompt_tokens"] == sum(
            int(row["Request tokens"]) for row in counted if row["Model"] == name
        )
    assert found["gaps"]["resolution_s"] == 1.0


def test_azures_conversations_are_a_little_burstier_than_poisson(data_folder: Path) -> None:
    path = data_folder / "traces/azure_2023/AzureLLMInferenceTrace_conv.csv"
    found = described(read_trace(path))
    with path.open(newline="") as file:
        counted = list(csv.DictReader(file))
    assert found["requests"] == len(counted) == 19_366
    assert found["prompt_tokens"] == sum(int(row["ContextTokens"]) for row in counted)
    assert found["output_tokens"] == sum(int(row["GeneratedTokens"]) for row in counted)
    first, last = (datetime.fromisoformat(counted[place]["TIMESTAMP"][:26]) for place in (0, -1))
    assert found["duration_s"] == pytest.approx((last - first).total_seconds(), abs=1.0)
    assert list(found["services"]) == ["conversation"]
    assert 0.8 < found["gaps"]["alpha"] < 1
    assert found["gaps"]["by_window"]["windows"] == 3


def test_mooncakes_arrivals_come_in_heaps_that_hide_their_gaps(data_folder: Path) -> None:
    path = data_folder / "traces/mooncake_fast25/conversation_trace.jsonl"
    found = described(read_trace(path))
    counted = [json.loads(line) for line in path.read_text().splitlines()]
    assert found["requests"] == len(counted) == 12_031
    assert found["prompt_tokens"] == sum(row["input_length"] for row in counted)
    assert found["output_tokens"] == sum(row["output_length"] for row in counted)
    assert found["failures"] == 0
    assert found["gaps"]["resolution_s"] == pytest.approx(3.0, abs=0.002)
    assert found["gaps"]["alpha"] is None
    assert found["gaps"]["by_window"] is None
