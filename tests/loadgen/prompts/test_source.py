"""What is configured is what the prompts are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import InputError
from loadgen.prompts.dataset import DatasetPrompts
from loadgen.prompts.source import PromptSettings, open_prompts
from loadgen.prompts.synthetic import SyntheticPrompts
from loadgen.strict_config import parse
from testbed.tiny_model import make_tiny_model


def test_without_settings_prompts_are_made_up_words() -> None:
    assert isinstance(open_prompts(PromptSettings()), SyntheticPrompts)


def test_a_file_of_conversations_needs_a_tokenizer(conversations: Callable[..., Path]) -> None:
    path = conversations("a b", "c")
    with pytest.raises(InputError, match=r"conversations\.json: .* without a tokenizer; name the served model's"):
        open_prompts(PromptSettings(source=path))
    seen: list[tuple[float, float]] = []
    prompts = open_prompts(PromptSettings(source=path, tokenizer="words"), lambda *done: seen.append(done))
    assert isinstance(prompts, DatasetPrompts)
    assert len(prompts.pool) == 2
    assert seen[-1][0] == seen[-1][1] == path.stat().st_size


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    settings = PromptSettings(source=Path("texts.json"), tokenizer="model").from_folder(tmp_path)
    assert (settings.source, settings.tokenizer) == (tmp_path / "texts.json", str(tmp_path / "model"))
    by_name = PromptSettings(tokenizer="org/model").from_folder(tmp_path)
    assert (by_name.source, by_name.tokenizer) == ("synthetic", "org/model")
    assert PromptSettings(tokenizer="words").from_folder(tmp_path).tokenizer == "words"


def test_settings_are_strict_and_come_back_from_a_file() -> None:
    values: dict[str, Any] = {"source": "/a/b.json", "tokenizer": "words"}
    settings = parse(PromptSettings, values, "x.yaml")
    assert settings.source == Path("/a/b.json")
    assert settings.model_dump(mode="json") == values
    assert parse(PromptSettings, {"source": "synthetic"}, "x.yaml") == PromptSettings()
    with pytest.raises(InputError, match="unknown key 'path'; known keys: source, tokenizer"):
        parse(PromptSettings, {"path": "x"}, "x.yaml")
