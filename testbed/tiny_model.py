"""A tiny Llama without weights: real vLLM runs it on a CPU with `load_format: dummy`.

Its tokenizer counts words: one word, whichever it is, is one token, and the chat template adds none. So the token
counts that a trace asks for are exact. The files are plain JSON, written without the transformers library.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadgen.errors import InputError
from loadgen.prompts.words import MADE_UP_WORDS

# vLLM refuses a prompt with more characters than its tokens can have at most, by the longest word of the vocabulary.
# Unknown words may be long; this token, which is never shown, lets each of them have 64 characters.
UNKNOWN_TOKEN: Final = f"<{'unknown':.<62}>"
END_TOKEN: Final = "</s>"
MAX_MODEL_TOKENS: Final = 2048


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How large a made-up Llama is.

    Attributes:
        feed_forward: width of the MLP.
        heads: of hidden / heads values each; 32 are the fewest that vLLM's attention for CPUs takes.
    """

    layers: int
    hidden: int
    feed_forward: int
    heads: int


TINY: Final = ModelSize(layers=2, hidden=64, feed_forward=128, heads=2)


def make_tiny_model(folder: Path, size: ModelSize = TINY) -> None:
    """Write the model's configuration and tokenizer into `folder`, which is made if it is missing.

    Raises:
        InputError: `folder` is a file, or holds something already; nothing is overwritten.
    """
    if folder.is_file():
        raise InputError(f"{folder}: is a file, want a new or an empty folder; choose another path")
    if folder.is_dir() and (found := sorted(path.name for path in folder.iterdir())):
        raise InputError(f"{folder}: holds {found[0]} already, want a new or an empty folder; choose another path")
    vocabulary = tiny_vocabulary()
    files = {
        "config.json": _model_config(vocabulary, size),
        "generation_config.json": {"eos_token_id": vocabulary[END_TOKEN]},
        "tokenizer.json": _tokenizer(vocabulary),
        "tokenizer_config.json": _tokenizer_config(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another path") from error


def tiny_vocabulary() -> dict[str, int]:
    """Token ids by word: the special tokens, then the words that prompts are made of.

    A word outside it counts as one unknown token.
    """
    return {word: token for token, word in enumerate([UNKNOWN_TOKEN, END_TOKEN, *MADE_UP_WORDS])}


def _model_config(vocabulary: dict[str, int], size: ModelSize) -> dict[str, Any]:
    """A Llama; by default two layers: small enough that a laptop's core makes hundreds of tokens a second."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.feed_forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "head_dim": size.hidden // size.heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": MAX_MODEL_TOKENS,
        "vocab_size": len(vocabulary),
        "eos_token_id": vocabulary[END_TOKEN],
        "bos_token_id": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _tokenizer(vocabulary: dict[str, int]) -> dict[str, Any]:
    """The tokenizer as the `tokenizers` library reads it: split at white space, look the word up.

    `single_word` keeps a special token that is part of a longer word from splitting that word.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[token],
                "content": token,
                "single_word": True,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in (UNKNOWN_TOKEN, END_TOKEN)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN_TOKEN},
    }


def _tokenizer_config() -> dict[str, Any]:
    """How transformers loads the tokenizer. The chat template joins the contents and adds no word of its own."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN_TOKEN,
        "eos_token": END_TOKEN,
        "model_max_length": MAX_MODEL_TOKENS,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for message in messages %}{{ message['content'] }}{{ '\\n' }}{% endfor %}",
    }
