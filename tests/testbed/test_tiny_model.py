"""The tiny model: valid files, one token per word, nothing overwritten."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from testbed.tiny_model import END_TOKEN, MAX_MODEL_TOKENS, UNKNOWN_TOKEN, make_tiny_model, tiny_vocabulary

WITHOUT_TRANSFORMERS = "transformers is not installed: make test-vllm installs it"
SPECIAL_TOKENS = (UNKNOWN_TOKEN, END_TOKEN)


def read(folder: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return document


def test_the_folder_is_made_with_all_that_vllm_reads(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    make_tiny_model(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    assert read(tmp_path, "config.json")["max_position_embeddings"] == MAX_MODEL_TOKENS


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"holds weights\.bin already.*choose another path"):
        make_tiny_model(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.bin"]


def test_a_file_in_place_of_the_folder_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("precious")
    with pytest.raises(InputError, match="is a file"):
        make_tiny_model(path)
    assert path.read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make_tiny_model(tmp_path / "file" / "model")


def test_every_token_id_has_one_word_and_an_embedding(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    vocabulary = tiny_vocabulary()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert read(tmp_path, "config.json")["vocab_size"] == len(vocabulary)
    assert not any(character.isspace() for word in vocabulary for character in word)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Any:
    """As transformers, which vLLM uses, reads it."""
    transformers = pytest.importorskip("transformers", reason=WITHOUT_TRANSFORMERS)
    return transformers.AutoTokenizer.from_pretrained(tokenizer_folder)


# Words as str.split makes them, less its separators that Unicode does not call white space (\x1c to \x1f).
@pytest.mark.vllm
@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc", "Cs"]), min_size=1).filter(
            lambda word: not any(token in word for token in SPECIAL_TOKENS)
        )
        | st.sampled_from(sorted(tiny_vocabulary())),
        max_size=20,
    ),
    separator=st.sampled_from([" ", "\n", "\t  "]),
)
def test_every_word_is_one_token(tokenizer: Any, words: list[str], separator: str) -> None:
    assert len(tokenizer.encode(separator.join(words))) == len(words)


@pytest.mark.vllm
def test_a_special_token_inside_a_word_does_not_split_it(tokenizer: Any) -> None:
    assert len(tokenizer.encode(f"one{UNKNOWN_TOKEN}two x{END_TOKEN}y {END_TOKEN}")) == 3


@pytest.mark.vllm
def test_known_words_come_back_from_their_ids(tokenizer: Any) -> None:
    text = " ".join(list(tiny_vocabulary())[2:100])
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.vllm
def test_the_chat_template_adds_no_token(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]
    assert len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]) == 5


@pytest.mark.vllm
def test_the_model_is_a_llama_that_ends_with_the_tokenizers_end_token(tokenizer: Any, tokenizer_folder: Path) -> None:
    transformers = pytest.importorskip("transformers", reason=WITHOUT_TRANSFORMERS)
    config = transformers.AutoConfig.from_pretrained(tokenizer_folder)
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.eos_token_id == tokenizer.eos_token_id == tiny_vocabulary()[END_TOKEN]
