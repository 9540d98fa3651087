"""Dynamo and our simulator are given the same requests, step times and limits."""

from pathlib import Path

import numpy as np
import pytest
from dynamo_inputs import EngineSize, StepTimes, apart, hardware_profile, write_mooncake, write_timing_table
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.cost_model import step_duration_s
from autoscaler.simulator.engine_state import engine_limits
from loadgen.formats.detect import read_trace
from loadgen.prefix import PrefixBlocks
from loadgen.trace import make_trace

TIMES = StepTimes(step_s=0.006, prefill_token_s=22e-6, kv_token_s=50e-9)
SIZE = EngineSize(kv_blocks=100, block_tokens=16, max_sequences=8, max_batched_tokens=512)


def test_a_written_trace_reads_back_as_the_same_requests(tmp_path: Path) -> None:
    prefix = PrefixBlocks(512, np.array([0, 2, 3]), np.array([7, 9, 7]))
    trace = make_trace("t", [0.0, 1.2345671], [1000, 300], [5, 0], duration_s=2.0, prefix=prefix)
    write_mooncake(tmp_path / "t.jsonl", trace)
    read = read_trace(tmp_path / "t.jsonl")
    assert read.arrival_s == pytest.approx(trace.arrival_s, abs=1e-12)
    assert read.prompt_tokens.tolist() == [1000, 300]
    assert read.output_tokens.tolist() == [5, 1], "one that failed asks for one token"
    assert read.prefix is not None
    assert [read.prefix.of(row).tolist() for row in (0, 1)] == [[7, 9], [7]]


def test_prompts_without_recorded_blocks_share_none(tmp_path: Path) -> None:
    trace = make_trace("t", [0.0, 0.5, 0.5], [513, 512, 1], [1, 1, 1], duration_s=1.0)
    write_mooncake(tmp_path / "t.jsonl", trace)
    prefix = read_trace(tmp_path / "t.jsonl").prefix
    assert prefix is not None
    assert np.diff(prefix.first).tolist() == [2, 1, 1]
    assert len(set(prefix.block.tolist())) == 4


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_arrivals_set_apart_wait_only_for_the_one_before(ticks: list[int]) -> None:
    arrival_s = np.sort(np.array(ticks)) / 8
    last_s, expected_s = -1.0, []
    for at_s in arrival_s.tolist():
        last_s = max(at_s, last_s + 0.25)
        expected_s.append(last_s)
    assert apart(arrival_s, 0.25).tolist() == expected_s
    assert apart(arrival_s, 0.0).tolist() == arrival_s.tolist()


@pytest.mark.parametrize(
    ("prefill_tokens", "contexts"), [(0, (500,)), (512, ()), (100, (30, 4000)), (1, tuple(range(1, 200)))]
)
def test_a_step_takes_what_the_table_says(tmp_path: Path, prefill_tokens: int, contexts: tuple[int, ...]) -> None:
    write_timing_table(tmp_path / "times.npz", TIMES)
    table = np.load(tmp_path / "times.npz")
    assert np.ptp(table["decode_itl"], axis=1).tolist() == [0, 0], "the mean context has no effect"
    told_ms = np.interp(prefill_tokens, table["prefill_isl"], table["prefill_ttft_ms"]) + np.interp(
        sum(contexts), table["decode_active_kv_tokens"], table["decode_itl"][:, 0]
    )
    chunks = ((prefill_tokens, 0),) if prefill_tokens else ()
    step_s = step_duration_s(hardware_profile(TIMES, SIZE), chunks, contexts)
    assert step_s == pytest.approx(told_ms / 1000, rel=1e-12)


def test_as_many_blocks_can_be_given_out() -> None:
    assert engine_limits(hardware_profile(TIMES, SIZE)).usable_blocks == 100
