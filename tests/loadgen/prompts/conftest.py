"""Real tokenizers, each made on the spot, of all the kinds whose tokens behave differently beside each other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from loadgen.prompts.additive_words import find_lexicon
from loadgen.prompts.lexicon import Lexicon
from loadgen.prompts.tokenizer import Tokenizer, open_tokenizer
from loadgen.prompts.words import COMMON_WORDS
from testbed.tiny_model import make_tiny_model

BYTES = pre_tokenizers.ByteLevel.alphabet()


def corpus() -> list[str]:
    """English words in random order, so that frequent pairs of them become tokens where nothing parts words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(COMMON_WORDS, size=200)) for _ in range(100)]


def byte_pairs(vocabulary: int, *, parts_words: bool) -> Any:
    """As GPT-2's; without parting words first, tokens reach across spaces."""
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=parts_words)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=BYTES, show_progress=False)
    model.train_from_iterator(corpus(), trainer)
    return model


def with_marks() -> Any:
    """As Llama 3's: a mark before and one after every text, and it cuts and pads unless told not to."""
    model = byte_pairs(2000, parts_words=True)
    model.add_special_tokens(["<begin>", "<end>"])
    marks = [(mark, model.token_to_id(mark)) for mark in ("<begin>", "<end>")]
    model.post_processor = processors.TemplateProcessing(single="<begin> $A <end>", special_tokens=marks)
    model.enable_truncation(max_length=64)
    model.enable_padding(length=128)
    return model


def llama_2() -> Any:
    """As Llama 2's: one sequence for the whole text, spaces are letters of it."""
    model = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<unk>", *fallback], show_progress=False)
    model.train_from_iterator(corpus(), trainer)
    return model


def unigram() -> Any:
    """As T5's."""
    model = tokenizers.Tokenizer(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    model.train_from_iterator(corpus(), trainer)
    return model


def word_pieces() -> Any:
    """As BERT's."""
    model = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer = normalizers.BertNormalizer()
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False)
    model.train_from_iterator(corpus(), trainer)
    return model


MAKERS: dict[str, Callable[[], Any]] = {
    "words": lambda: None,
    "tiny model": lambda: None,
    "byte pairs": lambda: byte_pairs(2000, parts_words=True),
    "few byte pairs": lambda: byte_pairs(300, parts_words=True),
    "bytes": lambda: byte_pairs(256, parts_words=True),
    "tokens across words": lambda: byte_pairs(3000, parts_words=False),
    "marks": with_marks,
    "llama 2": llama_2,
    "unigram": unigram,
    "word pieces": word_pieces,
}


@pytest.fixture(scope="session", params=MAKERS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One of the kinds, opened from a folder as a user would name it."""
    if request.param == "words":
        return open_tokenizer("words")
    folder = tmp_path_factory.mktemp("model")
    if request.param == "tiny model":
        make_tiny_model(folder)
    else:
        MAKERS[request.param]().save(str(folder / "tokenizer.json"))
    return open_tokenizer(str(folder))


@pytest.fixture(scope="session")
def lexicon(tokenizer: Tokenizer) -> Lexicon:
    """The words found for it."""
    return find_lexicon(tokenizer)


@pytest.fixture(scope="session")
def ids_of(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """The ids that a server's completions API makes of a text, counted by the library itself."""
    if tokenizer.name == "words":
        return lambda text: [hash(word) for word in text.split()]
    model = tokenizers.Tokenizer.from_file(f"{tokenizer.name}/tokenizer.json")
    model.no_truncation()
    model.no_padding()

    def ids(text: str) -> list[int]:
        found: list[int] = model.encode(text).ids
        return found

    return ids


@pytest.fixture
def conversations(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file in ShareGPT's form: one conversation for each text, with an answer that must not be used."""

    def write(*texts: str) -> Path:
        path = tmp_path / "conversations.json"
        turns = [[{"from": "human", "value": text}, {"from": "gpt", "value": "ANSWER"}] for text in texts]
        path.write_text(json.dumps([{"id": i, "conversations": pair} for i, pair in enumerate(turns)]))
        return path

    return write
