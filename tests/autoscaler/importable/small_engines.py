"""Small engines for tests, of which each test replaces what it is about."""

from autoscaler.interface import HardwareProfile

EVERY_TERM = HardwareProfile(
    name="every term",
    source="test",
    fixed_s=0.01,
    memory_s=0.005,
    memory_token_s=0.00001,
    token_s=0.0001,
    sequence_s=0.001,
    kv_token_s=0.00001,
    prefill_context_s=1e-7,
    mixed_sequence_s=0.0001,
    mixed_kv_token_s=0.00002,
    host_s=0.002,
    kv_cache_tokens=16 * 1025,
    block_tokens=16,
    max_sequences=8,
    max_batched_tokens=64,
    max_model_tokens=4096,
    kv_token_bytes=2**20,
    host_link_bytes_per_s=2.0**30,
)
"""All of the cost model's terms take time; there is room for everything."""

TOKENS_AND_SEQUENCES = HardwareProfile(
    name="tokens and sequences",
    source="test",
    fixed_s=0.02,
    memory_s=0.0,
    memory_token_s=0.0,
    token_s=0.0001,
    sequence_s=0.001,
    kv_token_s=0.0,
    prefill_context_s=0.0,
    mixed_sequence_s=0.0,
    mixed_kv_token_s=0.0,
    host_s=0.0,
    kv_cache_tokens=8000,
    block_tokens=16,
    max_sequences=8,
    max_batched_tokens=512,
    max_model_tokens=2048,
)
"""A step's time goes by its tokens and sequences alone."""
