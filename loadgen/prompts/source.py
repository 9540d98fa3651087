"""Where the texts of a replay come from, as configured."""

from pathlib import Path
from typing import Literal, Self

from loadgen.errors import InputError
from loadgen.plan import Prompts
from loadgen.prompts.additive_words import find_lexicon
from loadgen.prompts.conversations import OnRead
from loadgen.prompts.dataset import DatasetPrompts
from loadgen.prompts.pool import read_pool
from loadgen.prompts.synthetic import synthetic_prompts
from loadgen.prompts.tokenizer import WORDS, open_tokenizer
from loadgen.strict_config import StrictModel


class PromptSettings(StrictModel):
    """What the prompts are made of, and who counts their tokens.

    Attributes:
        source: 'synthetic' for made-up words, or a file of conversations such as ShareGPT's.
        tokenizer: the served model's: a folder with tokenizer.json, that file, or a hub's model; 'words' counts words.
    """

    source: Literal["synthetic"] | Path = "synthetic"
    tokenizer: str | None = None

    def from_folder(self, folder: Path) -> Self:
        """The same, with absolute paths where they are relative to `folder`."""
        source = self.source if self.source == "synthetic" else (folder / self.source).absolute()
        tokenizer = self.tokenizer
        if tokenizer is not None and tokenizer != WORDS and (folder / tokenizer).exists():
            tokenizer = str((folder / tokenizer).absolute())
        return self.model_copy(update={"source": source, "tokenizer": tokenizer})


def open_prompts(settings: PromptSettings, on_read: OnRead | None = None) -> Prompts:
    """Read the tokenizer, and the file of conversations where one is named.

    Raises:
        InputError: one of them is missing or unreadable, or a file of conversations comes without a tokenizer.
    """
    tokenizer = None if settings.tokenizer is None else open_tokenizer(settings.tokenizer)
    if settings.source == "synthetic":
        return synthetic_prompts(tokenizer)
    path = Path(settings.source)
    if tokenizer is None:
        raise InputError(
            f"{path}: its texts cannot be cut to length without a tokenizer; name the served model's (the folder "
            "with its tokenizer.json), or 'words' for the emulated engine"
        )
    return DatasetPrompts(read_pool(path, tokenizer, on_read), tokenizer, find_lexicon(tokenizer))
