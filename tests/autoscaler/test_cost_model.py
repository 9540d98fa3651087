"""Step time by hand arithmetic, and the profiles in configs/hardware."""

from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.interface import HardwareProfile
from autoscaler.simulator.cost_model import known_hardware, load_hardware, step_duration_s
from loadgen.errors import InputError

HARDWARE = HardwareProfile(
    name="by-hand",
    source="test",
    fixed_s=1.0,
    memory_s=2.0,
    memory_token_s=0.001,
    token_s=0.01,
    sequence_s=0.1,
    kv_token_s=0.001,
    prefill_context_s=0.0001,
    mixed_sequence_s=0.2,
    mixed_kv_token_s=0.002,
    host_s=0.5,
    kv_cache_tokens=1024,
    block_tokens=16,
    max_sequences=8,
    max_batched_tokens=512,
    max_model_tokens=1024,
)


def test_a_small_step_takes_the_time_of_reading_the_weights() -> None:
    # 3 tokens would compute in 0.03 s, reading takes 2.003 s: 1 + 2.003 + 3 * 0.1 + (10 + 20 + 30) * 0.001 + 0.5
    assert step_duration_s(HARDWARE, decode_contexts=(10, 20, 30)) == pytest.approx(3.863)


def test_a_large_step_takes_the_time_of_computing_its_tokens() -> None:
    # 400 tokens * 0.01 = 4 s, more than 2 + 400 * 0.001 s; attention of the chunk: 400 * (100 + 200) * 0.0001 = 12 s
    assert step_duration_s(HARDWARE, ((400, 100),)) == pytest.approx(1.0 + 4.0 + 12.0 + 0.5)


def test_decodes_cost_more_in_a_step_that_carries_prefill_and_nowhere_else() -> None:
    prefill_s = step_duration_s(HARDWARE, ((400, 100),))
    both_s = step_duration_s(HARDWARE, ((400, 100),), (5, 10))
    # 2 more tokens * 0.01, 2 * (0.1 + 0.2) for the sequences, 15 * (0.001 + 0.002) for what they read
    assert both_s == pytest.approx(prefill_s + 0.02 + 0.6 + 0.045)
    without = replace(HARDWARE, mixed_sequence_s=0.0, mixed_kv_token_s=0.0)
    assert step_duration_s(without, ((400, 100),)) == prefill_s
    assert step_duration_s(without, decode_contexts=(5, 10)) == step_duration_s(HARDWARE, decode_contexts=(5, 10))


def test_a_prompt_in_two_chunks_attends_to_as_much_as_in_one() -> None:
    whole_s = step_duration_s(HARDWARE, ((512, 0),))
    halves_s = step_duration_s(HARDWARE, ((256, 0),)) + step_duration_s(HARDWARE, ((256, 256),))
    # fixed and host time are paid twice, reading and computing is 2.56 s a half and 5.12 s whole
    assert halves_s == pytest.approx(whole_s + 1.5)


@pytest.mark.parametrize("name", known_hardware())
def test_every_profile_loads_and_bears_the_name_of_its_file(name: str) -> None:
    hardware = load_hardware(name)
    assert hardware.name == name
    assert len(hardware.source) > 40
    assert step_duration_s(hardware, decode_contexts=(100,)) > 0


def test_the_a100_profile_decodes_a_full_batch_in_tens_of_milliseconds() -> None:
    # 26 GB of weights and 33 * 1,250 tokens of 819,200 bytes are 60 GB; at 0.8 of 2,039 GB/s they take 36.7 ms
    duration_s = step_duration_s(load_hardware("a100-llama-2-13b"), decode_contexts=(1250,) * 33)
    assert 0.0367 < duration_s < 1.25 * 0.0367


def test_a_profile_loads_from_a_path(tmp_path: Path) -> None:
    text = Path("configs/hardware/tiny-cpu.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: tiny-cpu", "name: mine"), encoding="utf-8")
    assert load_hardware(path).name == "mine"


def test_an_unknown_profile_is_an_error_that_lists_the_known_ones() -> None:
    said = r"unknown hardware 'a100'; known: a100-llama-2-13b, .*tiny-cpu, or give a path"
    with pytest.raises(InputError, match=said):
        load_hardware("a100")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("host_s: 0.0002363", "host_s: 0.0002363\nhost_ms: 3", "unknown key 'host_ms'; known keys: block_tokens, "),
        ("\ntoken_s: 6.058e-06", "\ntoken_s: -1", r"'token_s': input should be greater than or equal to 0, got -1"),
        ("kv_cache_tokens: 32768", "kv_cache_tokens: 128", "must hold at least 2 blocks"),
        ("max_sequences: 32", "", "key 'max_sequences' is missing"),
        ("mixed_kv_token_s: 0.0", "", "key 'mixed_kv_token_s' is missing"),
        (
            "host_s_range: [0.000127, 0.0005743]",
            "host_s_range: [0.0004, 0.0006]",
            r"host_s must lie in host_s_range, got 0.0002363",
        ),
    ],
)
def test_a_wrong_profile_is_an_error_that_names_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = Path("configs/hardware/tiny-cpu.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_hardware(path)
