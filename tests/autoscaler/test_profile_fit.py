"""Profiles from tables: planted coefficients come back, and what is shipped is what the tables give."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.interface import HardwareProfile
from autoscaler.profile_fit.aiconfigurator_tables import AIConfiguratorKernels
from autoscaler.profile_fit.catalogue import CARDS, find_shipped, profile_name, shipped
from autoscaler.profile_fit.fit import MIXED, PURE, fit_steps, predicted_steps
from autoscaler.profile_fit.model_shapes import (
    LLAMA_2_7B,
    LLAMA_2_13B,
    LLAMA_3_8B,
    LLAMA_3_70B_ON_4,
    ModelShape,
)
from autoscaler.profile_fit.profile_file import MixedRatios, fit_profile, hardware_file, mixed_ratios, write_hardware
from autoscaler.profile_fit.serving_sim_tables import serving_sim_steps
from autoscaler.profile_fit.step_table import StepTable
from autoscaler.simulator.cost_model import known_hardware, load_hardware, read_hardware, step_duration_s
from loadgen.errors import InputError

TABLES = Path(__file__).parents[2] / "../shared/data/gpu_profiles"
PLANTED = {
    "fixed_s": 0.004,
    "memory_s": 0.006,
    "memory_token_s": 8e-6,
    "token_s": 5e-5,
    "sequence_s": 3e-6,
    "kv_token_s": 1.2e-7,
    "prefill_context_s": 3e-9,
    "mixed_sequence_s": 2e-5,
    "mixed_kv_token_s": 9e-8,
}
RATIOS = MixedRatios(sequence=(150.0, 200.0, 250.0), kv_token=(0.5, 0.9, 1.2))

needs_tables = pytest.mark.skipif(not TABLES.is_dir(), reason="the measured GPU tables are not here")


def steps(with_mixed: bool = True) -> StepTable:
    """A grid of steps; their times are still zero."""
    rows = [(b * n, b * n * n / 2, 0, 0) for n in (16, 64, 128, 256, 512, 1024, 2048) for b in (1, 2, 4)]
    rows += [(0, 0, b, b * k) for b in (1, 4, 16, 64, 256) for k in (128, 512, 2048)]
    if with_mixed:
        rows += [(n, n * n / 2, b, b * k) for n in (64, 512, 1024) for b in (1, 16, 128) for k in (128, 2048)]
    columns = [np.array(column, dtype=float) for column in zip(*rows, strict=True)]
    return StepTable(*columns, duration_s=np.zeros(len(rows)))


def timed(table: StepTable, coefficients: dict[str, float], noise: float = 0.0) -> StepTable:
    """The steps with times from planted coefficients, each off by a few percent where there is noise."""
    off = np.random.default_rng(3).normal(1.0, noise, len(table.decodes))
    return replace(table, duration_s=predicted_steps(table, coefficients) * off)


def test_planted_coefficients_come_back() -> None:
    fit = fit_steps(timed(steps(), PLANTED))
    assert fit.mixed is not None
    assert dict(fit.coefficients) == pytest.approx({name: PLANTED[name] for name in PURE}, rel=0.01)
    assert dict(fit.mixed) == pytest.approx({name: PLANTED[name] for name in MIXED}, rel=0.01)
    assert max(fit.errors.prefill, fit.errors.decode, fit.errors.mixed or 0.0) < 0.1


def test_two_percent_of_noise_moves_what_is_predicted_by_less() -> None:
    table = timed(steps(), PLANTED)
    fit = fit_steps(timed(steps(), PLANTED, noise=0.02))
    assert fit.mixed is not None
    error = predicted_steps(table, {**fit.coefficients, **fit.mixed}) / table.duration_s - 1
    assert np.abs(error).mean() < 0.02
    assert 1.0 < fit.errors.decode < 3.0, "the error that is reported is the noise"


def test_one_wild_kernel_does_not_bend_the_fit() -> None:
    table = timed(steps(with_mixed=False), PLANTED)
    wild = table.duration_s.copy()
    wild[3] *= 4
    fit = fit_steps(replace(table, duration_s=wild))
    others = np.arange(len(wild)) != 3
    error = predicted_steps(table, {**fit.coefficients, **dict.fromkeys(MIXED, 0.0)}) / table.duration_s - 1
    assert np.abs(error[others]).mean() < 0.02


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_coefficient_is_below_zero_whatever_the_times(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = timed(
        steps(), {name: value * rng.choice([0.0, 1.0]) for name, value in PLANTED.items()} | {"fixed_s": 0.01}
    )
    fit = fit_steps(replace(table, duration_s=table.duration_s * rng.lognormal(0, 0.3, len(table.decodes))))
    assert fit.mixed is not None
    assert min([*fit.coefficients.values(), *fit.mixed.values()]) >= 0


def test_mixed_steps_do_not_touch_what_pure_steps_say() -> None:
    slow = timed(steps(), PLANTED)
    slow = replace(slow, duration_s=np.where(slow.is_mixed, 3 * slow.duration_s, slow.duration_s))
    assert fit_steps(slow).coefficients == fit_steps(timed(steps(with_mixed=False), PLANTED)).coefficients


def test_without_mixed_steps_there_are_no_mixed_terms() -> None:
    fit = fit_steps(timed(steps(with_mixed=False), PLANTED))
    assert fit.mixed is None
    assert fit.errors.mixed is None


def test_the_fit_predicts_what_the_engine_is_told() -> None:
    table = steps()
    hardware = HardwareProfile("x", "x", **PLANTED, host_s=0.0, kv_cache_tokens=1024, block_tokens=16, max_sequences=8,
                               max_batched_tokens=512, max_model_tokens=512)  # fmt: skip
    row = int(np.flatnonzero(table.is_mixed)[7])
    tokens, decodes = int(table.prefill_tokens[row]), int(table.decodes[row])
    said_s = step_duration_s(hardware, ((tokens, 0),), (int(table.kv_tokens[row]) // decodes,) * decodes)
    assert said_s == pytest.approx(float(predicted_steps(table, PLANTED)[row]))


@pytest.mark.parametrize(
    ("shape", "parameters", "kv_bytes"),
    [(LLAMA_2_7B, 6.74e9, 524288), (LLAMA_2_13B, 13.02e9, 819200), (LLAMA_3_8B, 8.03e9, 131072)],
)
def test_a_model_has_its_published_size(shape: ModelShape, parameters: float, kv_bytes: int) -> None:
    assert shape.weight_bytes / 2 == pytest.approx(parameters, rel=0.002)
    assert shape.kv_bytes_per_token == kv_bytes


def test_four_cards_share_weights_and_kv_cache() -> None:
    assert 4 * LLAMA_3_70B_ON_4.weight_bytes / 2 == pytest.approx(70.55e9, rel=0.002)
    assert 4 * LLAMA_3_70B_ON_4.kv_bytes_per_token == 80 * 2 * 8 * 128 * 2
    assert replace(LLAMA_3_70B_ON_4, tensor_parallel=16).card_kv_heads == 1


def test_mixed_terms_that_were_not_measured_are_a_range_from_nothing() -> None:
    fit = fit_steps(timed(steps(with_mixed=False), PLANTED))
    card, grouped = find_shipped("h100", "llama-3-8b")
    file = hardware_file(card, grouped, fit, RATIOS)
    kv_token_s = fit.coefficients["kv_token_s"]
    assert file.mixed_kv_token_s == pytest.approx(0.9 * kv_token_s, rel=1e-3)
    assert file.mixed_kv_token_s_range == pytest.approx((0.0, 1.2 * kv_token_s), rel=1e-3)
    multi_head = hardware_file(*find_shipped("h100", "llama-2-7b"), fit, RATIOS)
    assert multi_head.mixed_sequence_s == 0.0
    assert multi_head.mixed_sequence_s_range[1] > 0


def test_a_written_profile_reads_as_what_it_was(tmp_path: Path) -> None:
    file = hardware_file(*find_shipped("rtx4090", "llama-3-8b"), fit_steps(timed(steps(), PLANTED)), RATIOS)
    path = tmp_path / "mine.yaml"
    write_hardware(file, path)
    assert read_hardware(path) == file
    assert max(len(line) for line in path.read_text(encoding="utf-8").splitlines()) <= 120


def test_gpus_and_models_without_tables_are_refused_with_those_that_have() -> None:
    with pytest.raises(InputError, match="no tables for gpu 'a40' and model 'llama-3-8b'; known: a100 llama-2-7b, "):
        find_shipped("a40", "llama-3-8b")


def test_every_shipped_profile_is_in_the_catalogue_and_says_what_is_uncertain() -> None:
    names = {profile_name(card, shape) for card, shape in shipped()}
    assert names == set(known_hardware()) - {"tiny-cpu"}
    for name in names:
        file = read_hardware(name)
        assert file.fit_error_percent is not None
        assert max(file.fit_error_percent.prefill, file.fit_error_percent.decode) < 5.0, name
        assert file.host_s == 0.001, "one host time for all cards"
        assert file.host_s_range[0] < file.host_s < file.host_s_range[1]
        assert file.mixed_kv_token_s_range[0] < file.mixed_kv_token_s_range[1]


def test_a_card_with_more_bandwidth_decodes_faster() -> None:
    names = ("h200", "h100", "a100", "l40s")
    steps_s = [step_duration_s(load_hardware(f"{name}-llama-3-8b"), decode_contexts=(512,) * 32) for name in names]
    assert steps_s == sorted(steps_s)


@needs_tables
@pytest.mark.parametrize(
    ("gpu", "model"),
    [("a100", "llama-2-13b"), ("h100", "llama-3-70b"), ("a40", "llama-2-7b"), ("rtx4090", "llama-3-8b")],
)
def test_the_shipped_profile_is_what_the_tables_give(gpu: str, model: str) -> None:
    card, shape = find_shipped(gpu, model)
    file = hardware_file(card, shape, fit_profile(card, shape, TABLES), mixed_ratios(TABLES))
    shipped_file = read_hardware(profile_name(card, shape))
    there, here = (step_duration_s(one.profile(), ((256, 0),), (512,) * 8) for one in (shipped_file, file))
    assert here == pytest.approx(there, rel=0.001)
    assert file.fit_error_percent == shipped_file.fit_error_percent


@needs_tables
def test_the_earlier_step_table_is_met() -> None:
    """Another program summed the same kernels before, for Llama-2-13b on the A100 among others."""
    earlier = pd.read_csv(TABLES / "derived" / "step_table_aic.csv")
    earlier = earlier[(earlier["gpu"] == "a100_sxm") & (earlier["model"] == "Llama-2-13b")]
    kernels = AIConfiguratorKernels(TABLES / "aiconfigurator" / "a100_sxm" / "0.14.0", LLAMA_2_13B)
    ratios = []
    for row in earlier[(earlier["prefill"] == 0) & (earlier["decode"] > 0)].to_dict("records"):
        sequences, context = int(row["decode"]), int(row["ctx"])
        attention_s = kernels.decode_attention_s(sequences, context)
        mine_s = kernels.dense_s(sequences) + kernels.sampling_s(sequences) + attention_s
        ratios.append(1000 * mine_s / float(row["step_ms"]))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.03)


@needs_tables
def test_decodes_cost_more_in_measured_mixed_steps() -> None:
    card = next(card for card in CARDS if card.key == "rtx4090")
    table = card.steps(TABLES, LLAMA_3_8B, 41408, 2048)
    fit = fit_steps(table)
    plain = predicted_steps(table, {**fit.coefficients, **dict.fromkeys(MIXED, 0.0)})
    busy = table.is_mixed & (table.decodes >= 16)
    assert (plain[busy] / table.duration_s[busy] - 1).mean() < -0.1, "adding the attention of both says too little"


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"h100_sxm.yaml: no such file; check the folder"):
        AIConfiguratorKernels(tmp_path / "h100_sxm" / "0.24.0", LLAMA_3_8B)
    with pytest.raises(InputError, match=r"dense.csv: no such table; check the folder"):
        serving_sim_steps(tmp_path, LLAMA_3_8B, 41408)
