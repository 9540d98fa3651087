"""The shapes of the models that profiles are made for: what a layer multiplies, reads and keeps."""

from dataclasses import dataclass

BYTES_PER_VALUE = 2  # bfloat16


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer with gated MLP, as one card of `tensor_parallel` cards sees it.

    Attributes:
        feed_forward: width of the MLP.
        max_model_tokens: the context that profiles of it are given.
        weight_bytes_per_value, kv_bytes_per_value: 2 for bfloat16, 1 for FP8; activations are bfloat16 either way.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    max_model_tokens: int
    tensor_parallel: int = 1
    weight_bytes_per_value: int = BYTES_PER_VALUE
    kv_bytes_per_value: int = BYTES_PER_VALUE
    head_size: int = 128

    @property
    def card_heads(self) -> int:
        """Query heads on each card."""
        return self.heads // self.tensor_parallel

    @property
    def card_kv_heads(self) -> int:
        """KV heads on each card; with fewer heads than cards each card keeps one."""
        return max(1, self.kv_heads // self.tensor_parallel)

    @property
    def queries_per_kv_head(self) -> int:
        """1 with multi-head attention, more with grouped attention."""
        return self.heads // self.kv_heads

    @property
    def layer_kv_bytes_per_token(self) -> int:
        """What one layer keeps for each token in the KV cache of one card."""
        return 2 * self.card_kv_heads * self.head_size * self.kv_bytes_per_value

    @property
    def kv_bytes_per_token(self) -> int:
        """What all layers keep for each token in the KV cache of one card."""
        return self.layers * self.layer_kv_bytes_per_token

    @property
    def layer_products(self) -> tuple[tuple[int, int], ...]:
        """(columns, inner size) of the four matrix products of a layer on one card."""
        query_size = self.card_heads * self.head_size
        kv_size = self.card_kv_heads * self.head_size
        feed_forward = self.feed_forward // self.tensor_parallel
        return (
            (query_size + 2 * kv_size, self.hidden),
            (self.hidden, query_size),
            (2 * feed_forward, self.hidden),
            (self.hidden, feed_forward),
        )

    @property
    def weight_bytes(self) -> int:
        """Weights on one card; embedding and output matrix stay bfloat16. Norms are a few kilobytes, left out."""
        layer = sum(columns * inner for columns, inner in self.layer_products)
        ends = 2 * self.vocabulary * self.hidden // self.tensor_parallel
        return self.layers * layer * self.weight_bytes_per_value + ends * BYTES_PER_VALUE


LLAMA_2_7B = ModelShape("llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096)
LLAMA_2_13B = ModelShape("llama-2-13b", 40, 5120, 40, 40, 13824, 32000, 4096)
LLAMA_3_8B = ModelShape("llama-3-8b", 32, 4096, 32, 8, 14336, 128256, 8192)
LLAMA_3_70B_ON_4 = ModelShape("llama-3-70b", 80, 8192, 64, 8, 28672, 128256, 8192, tensor_parallel=4)
