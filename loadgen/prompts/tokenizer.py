"""How the served model counts tokens: its own tokenizer, or one token for each word."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from loadgen.errors import InputError
from loadgen.prompts.chat_template import CHAT_TEMPLATE_FILES, render_chat

WORDS: Final = "words"
"""The name of the tokenizer that counts words, as the emulated engine does."""

_TOKENIZER_FILE = "tokenizer.json"
_PROBE = "mountain"


@dataclass(frozen=True, slots=True)
class Overhead:
    """The tokens that a server puts before and after a prompt's text."""

    before_tokens: int = 0
    after_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.before_tokens + self.after_tokens


class Tokenizer(Protocol):
    """Counts the tokens of texts, without what a server adds to each of them.

    Attributes:
        name: for messages.
        completion: what the completions API adds: the mark of a text's beginning, if the tokenizer has one.
        chat: what the chat API adds to a single message: the chat template.
    """

    @property
    def name(self) -> str: ...

    @property
    def completion(self) -> Overhead: ...

    @property
    def chat(self) -> Overhead: ...

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text."""
        ...

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        ...

    def ends(self, text: str) -> list[int]:
        """Where in `text` each of its tokens ends, in characters."""
        ...


@dataclass(frozen=True, slots=True)
class WordTokenizer:
    """One token for each word between white space: so counts the emulated engine, and so does the tiny model."""

    name: str = WORDS
    completion: Overhead = Overhead()
    chat: Overhead = Overhead()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[zlib.crc32(word.encode()) for word in text.split()] for text in texts]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def ends(self, text: str) -> list[int]:
        return [match.end() for match in re.finditer(r"\S+", text)]


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """The tokenizer of a model, run by the `tokenizers` library.

    Attributes:
        model: a `tokenizers.Tokenizer` that neither cuts nor pads.
    """

    name: str
    model: Any
    completion: Overhead
    chat: Overhead

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.model.encode_batch(list(texts), add_special_tokens=False)]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding) for encoding in self.model.encode_batch(list(texts), add_special_tokens=False)]

    def ends(self, text: str) -> list[int]:
        return [end for _, end in self.model.encode(text, add_special_tokens=False).offsets]


def open_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that `name` stands for: 'words', a folder with tokenizer.json, such a file, or a model of the hub.

    Raises:
        InputError: there is none of this name, it cannot be read, or the `tokenizers` package is missing.
    """
    if name == WORDS:
        return WordTokenizer()
    try:
        import tokenizers
    except ImportError as error:
        raise InputError(
            f"tokenizer '{name}': the package that reads it is missing; `pip install tokenizers`, "
            f"or count words with the tokenizer '{WORDS}'"
        ) from error
    path = Path(name) if Path(name).exists() else _hub_folder(name)
    file = path / _TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path}: holds no {_TOKENIZER_FILE}; give the folder of a model, or the file itself")
    try:
        model = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{file}: cannot be read as a tokenizer ({_one_line(error)})") from error
    model.no_truncation()
    model.no_padding()
    return ModelTokenizer(name, model, _completion_overhead(model), _chat_overhead(model, file.parent))


def _hub_folder(name: str) -> Path:
    """The folder where the hub's client keeps the files of this model, fetched where they are not there yet."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[_TOKENIZER_FILE, *CHAT_TEMPLATE_FILES]))
    except Exception as error:  # of the client, of its HTTP library, of the network
        raise InputError(
            f"tokenizer '{name}': is no path here and cannot be had from the hub ({_one_line(error)}); "
            f"give a folder with {_TOKENIZER_FILE}"
        ) from error


def _completion_overhead(model: Any) -> Overhead:
    is_mark = model.encode(_PROBE).special_tokens_mask
    before_tokens = is_mark.index(0) if 0 in is_mark else 0
    return Overhead(before_tokens, sum(is_mark) - before_tokens)


def _chat_overhead(model: Any, folder: Path) -> Overhead:
    """What the chat template puts around a message; nothing without a template, since there is no chat then."""
    rendered = render_chat(folder, _PROBE)
    if rendered is None or _PROBE not in rendered:
        return Overhead()
    probe, whole = model.encode_batch([_PROBE, rendered], add_special_tokens=False)
    before_tokens = sum(end <= rendered.rindex(_PROBE) for _, end in whole.offsets)
    return Overhead(before_tokens, max(len(whole) - len(probe) - before_tokens, 0))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
