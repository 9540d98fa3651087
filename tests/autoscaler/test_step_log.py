"""A log of steps becomes a table of what each took, and that a profile."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoscaler.profile_fit.fit import MIXED, PURE, predicted_steps
from autoscaler.profile_fit.measured_profile import MeasuredEngine, measured_hardware, typical_steps
from autoscaler.profile_fit.profile_file import write_hardware
from autoscaler.profile_fit.step_log import MeasuredSteps, StepLog, StepLogHeader, measured_steps, read_step_log
from autoscaler.profile_fit.step_table import StepTable
from autoscaler.simulator.cost_model import read_hardware
from autoscaler.simulator.engine_state import EngineLimits
from loadgen.errors import InputError

HEADER = StepLogHeader(
    vllm_version="0.29.0",
    device="a card",
    model="models/some-llama",
    gpus=1,
    blocks=101,
    block_tokens=16,
    max_sequences=32,
    max_batched_tokens=512,
    max_model_tokens=1024,
    has_prefix_cache=False,
    is_asynchronous=False,
)
COSTS = {
    "fixed_s": 0.003,
    "memory_s": 0.008,
    "memory_token_s": 1e-5,
    "token_s": 2e-4,
    "sequence_s": 1e-4,
    "kv_token_s": 2e-6,
    "prefill_context_s": 1e-7,
    "mixed_sequence_s": 5e-5,
    "mixed_kv_token_s": 1e-6,
}


def log_of(*steps: tuple[float, float, float, int, float, int, int, int]) -> StepLog:
    return StepLog(HEADER, np.array(steps, dtype=np.float64))


def write_log(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in (HEADER.model_dump(), *lines)))
    return path


def measured_grid(repeats: int, rng: np.random.Generator, noise: float) -> StepTable:
    """Every kind of step over a grid, several times, with times from COSTS that are a little off."""
    rows = [(n, n * n / 2, 0, 0) for n in (16, 32, 64, 128, 256, 512)]
    rows += [(0, 0, b, b * k) for b in (1, 4, 16, 32) for k in (16, 64, 256, 1024)]
    rows += [(n, n * n / 2, b, b * k) for n in (32, 128, 480) for b in (1, 4, 31) for k in (16, 256)]
    columns = np.tile(np.array(rows, dtype=np.float64).T, repeats)
    table = StepTable(*columns, duration_s=np.zeros(columns.shape[1]))
    return replace(table, duration_s=predicted_steps(table, COSTS) * rng.normal(1.0, noise, columns.shape[1]))


def engine(limits: EngineLimits | None = None) -> MeasuredEngine:
    return MeasuredEngine("mine", "a card", 1, "some-llama", "Measured here.", limits or HEADER.limits())


def test_a_log_reads_as_it_was_written_and_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = write_log(tmp_path / "steps.jsonl", [1.0, 1.1, 1.5, 16, 128.0, 0, 0, 1], [1.6, 1.7, 1.9, 0, 0.0, 1, 17, 0])
    with path.open("a") as file:
        file.write("[2.0, 2.1, ")
    log = read_step_log(path)
    assert log.header == HEADER
    assert log.column("kv_tokens").tolist() == [0, 17]
    assert log.after(1).column("finished_s").tolist() == [1.9]
    assert log.between([(0.0, 1.2), (5.0, 6.0)]).column("prefill_tokens").tolist() == [16]


def test_limits_are_the_engines_own_less_the_null_block() -> None:
    assert HEADER.limits() == EngineLimits(100, 16, 32, 512, 1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"is empty, want a step log; was the engine started with BURSTSCALE_STEP_LOG"),
        ('{"vllm_version": 1}\n', r"steps.jsonl line 1"),
        ("not json\n[1]\n", r"line 1: no JSON"),
        (json.dumps(HEADER.model_dump()) + "\n[1, 2]\n[]\n", r"line 2: want a list of 8 numbers, got \[1, 2\]"),
    ],
)
def test_what_is_no_step_log_is_refused_with_the_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_step_log(path)


def test_time_between_steps_is_told_from_steps_and_from_idle_time() -> None:
    steps = measured_steps(
        log_of(
            (0.0, 0.25, 1.0, 16, 128.0, 0, 0, 1),
            (1.0, 1.5, 2.0, 0, 0.0, 1, 17, 1),  # 0.5 s after the step before
            (2.0, 2.5, 4.0, 0, 0.0, 1, 18, 0),
            (90.0, 90.25, 91.0, 16, 128.0, 0, 0, 1),  # the engine was idle: no gap
            (91.0, 91.75, 93.0, 0, 0.0, 1, 17, 0),  # a quarter more than the median counts to the step
        )
    )
    assert steps.host_s == 0.5
    assert steps.table.duration_s.tolist() == [0.75, 0.5, 1.5, 0.75, 1.5]


def test_with_asynchronous_scheduling_a_step_begins_when_the_one_before_is_done() -> None:
    steps = measured_steps(
        log_of(
            (0.0, 0.1, 1.0, 16, 128.0, 0, 0, 1), (0.1, 0.2, 1.5, 0, 0.0, 1, 17, 1), (1.0, 1.1, 2.25, 0, 0.0, 1, 18, 0)
        )
    )
    assert steps.host_s == 0.0
    assert steps.table.duration_s.tolist() == pytest.approx([0.9, 0.5, 0.75])


def test_a_log_without_two_steps_in_a_row_says_that_it_tells_no_time_between() -> None:
    with pytest.raises(InputError, match="no step follows another"):
        measured_steps(log_of((0.0, 0.1, 1.0, 16, 128.0, 0, 0, 0)))


def test_repeats_become_their_median_and_other_sizes_stay_apart() -> None:
    table = StepTable(
        prefill_tokens=np.array([0.0, 0, 0, 0, 64, 64]),
        prefill_context=np.array([0.0, 0, 0, 0, 2048, 2048]),
        decodes=np.array([4.0, 4, 4, 5, 0, 4]),
        kv_tokens=np.array([400.0, 402, 404, 402, 0, 402]),
        duration_s=np.array([0.010, 0.011, 0.5, 0.012, 0.02, 0.03]),
    )
    assert sorted(typical_steps(table).duration_s.tolist()) == [0.011, 0.012, 0.02, 0.03]


def test_planted_costs_come_back_from_measured_steps_with_limits_and_ranges(tmp_path: Path) -> None:
    table = measured_grid(5, np.random.default_rng(1), noise=0.02)
    hardware = measured_hardware(engine(), MeasuredSteps(table, 0.001, (0.0005, 0.002)))
    found = {name: getattr(hardware, name) for name in (*PURE, *MIXED)}
    error = predicted_steps(table, found) / predicted_steps(table, COSTS) - 1
    assert np.abs(error).mean() < 0.02
    assert hardware.host_s == 0.001
    assert hardware.host_s_range == (0.0005, 0.002)
    assert hardware.mixed_kv_token_s_range[0] < COSTS["mixed_kv_token_s"] < hardware.mixed_kv_token_s_range[1]
    assert (hardware.kv_cache_tokens, hardware.max_sequences, hardware.max_batched_tokens) == (1616, 32, 512)
    assert "up to 512 prefill tokens, 32 decoding sequences and 32,768 KV tokens read" in hardware.source
    write_hardware(hardware, tmp_path / "mine.yaml", "profile measure")
    assert read_hardware(tmp_path / "mine.yaml") == hardware


def test_without_mixed_steps_their_terms_may_be_anything_up_to_the_most_that_cards_showed() -> None:
    table = measured_grid(3, np.random.default_rng(1), noise=0.0)
    pure = StepTable(*(getattr(table, name)[~table.is_mixed] for name in StepTable.__slots__))
    hardware = measured_hardware(engine(), MeasuredSteps(pure, 0.0, (0.0, 0.01)))
    assert hardware.mixed_kv_token_s == 0.0
    assert hardware.mixed_kv_token_s_range == pytest.approx((0.0, 1.13 * COSTS["kv_token_s"]), rel=0.02)
    assert hardware.fit_error_percent is not None
    assert hardware.fit_error_percent.mixed is None


def test_steps_of_one_kind_alone_are_too_few() -> None:
    table = measured_grid(2, np.random.default_rng(1), noise=0.0)
    decodes = StepTable(*(getattr(table, name)[table.is_decode] for name in StepTable.__slots__))
    with pytest.raises(InputError, match="0 sizes of prefill alone, want 2 or more; measure for longer"):
        measured_hardware(engine(), MeasuredSteps(decodes, 0.001, (0.0, 0.002)))
