"""Hardware profiles for live tests whose every step takes 50 ms, whatever is in it: 40 tokens are 2 s."""

from pathlib import Path

import yaml

BLOCK_TOKENS = 16


def write_even_hardware(folder: Path, *, kv_cache_tokens: int, max_sequences: int, max_batched_tokens: int) -> Path:
    """Write a profile of these sizes; gives its file."""
    costs = (
        "memory_s", "memory_token_s", "token_s", "sequence_s", "kv_token_s", "prefill_context_s", "mixed_sequence_s",
        "mixed_kv_token_s", "host_s",
    )  # fmt: skip
    ranges = ("mixed_sequence_s_range", "mixed_kv_token_s_range", "host_s_range")
    profile = {
        "name": "even", "gpu": "none", "gpus": 1, "model": "none", "source": "made for tests",
        "fit_error_percent": None, "fixed_s": 0.05, "block_tokens": BLOCK_TOKENS, "max_model_tokens": 3000,
        "kv_cache_tokens": kv_cache_tokens, "max_sequences": max_sequences, "max_batched_tokens": max_batched_tokens,
    }  # fmt: skip
    path = folder / "even.yaml"
    path.write_text(yaml.safe_dump(profile | dict.fromkeys(costs, 0) | {name: [0, 0] for name in ranges}))
    return path
