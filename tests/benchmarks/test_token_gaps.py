"""Step by step, one engine does what the fleet simulator says that it did."""

from pathlib import Path

import numpy as np
import pytest
from dynamo_inputs import EngineSize, StepTimes, write_mooncake
from dynamo_runs import Case, fleet_config, run_ours
from token_gaps import token_times

from loadgen.formats.detect import read_trace
from loadgen.trace import make_trace

TIMES = StepTimes(step_s=0.01, prefill_token_s=1e-4, kv_token_s=1e-6)
SIZE = EngineSize(kv_blocks=150, block_tokens=16, max_sequences=16, max_batched_tokens=256)
CASE = Case("small", "small", 1, TIMES, SIZE, prefix_caching=True)


def test_a_request_alone_gets_a_token_a_step() -> None:
    times = token_times(make_trace("t", [1.0], [100], [4], duration_s=2.0), fleet_config(CASE))
    assert times.first_token_s == pytest.approx(1.0 + 0.01 + 100 * 1e-4)
    assert times.gaps_s == pytest.approx([0.01 + context * 1e-6 for context in (101, 102, 103)])


def test_tokens_come_when_the_fleet_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrival_s = np.sort(rng.uniform(0, 20, 300))
    arrival_s[10:14] = arrival_s[10]
    trace = make_trace("t", arrival_s, rng.integers(1, 900, 300), rng.integers(1, 60, 300), duration_s=20.0)
    write_mooncake(tmp_path / "t.jsonl", trace)
    records, _ = run_ours(CASE, tmp_path / "t.jsonl")
    times = token_times(read_trace(tmp_path / "t.jsonl"), fleet_config(CASE))
    assert times.preemptions > 0, "the cache is too small for all"
    assert times.first_token_s.tolist() == records["first_token_s"].tolist()
    assert times.finished_s.tolist() == records["finished_s"].tolist()
    gaps_s = (records["finished_s"] - records["first_token_s"]).sum()
    assert times.gaps_s.sum() == pytest.approx(gaps_s), "a request's gaps add up to its time after the first token"
    assert len(times.gaps_s) == records["output_tokens"].sum() - 300
