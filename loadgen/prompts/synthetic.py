"""Prompts of made-up text: random words, so that no two prompts begin alike unless the trace says so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadgen.prompts.additive_words import find_lexicon
from loadgen.prompts.lexicon import Lexicon
from loadgen.prompts.outline import Part, outline_prompts
from loadgen.prompts.tokenizer import Overhead, Tokenizer, WordTokenizer
from loadgen.trace import Service, Trace

_UNSIGNED: Final = 2**64  # block numbers may be negative, seeds may not


@dataclass(frozen=True, slots=True)
class SyntheticPrompts:
    """Prompts out of the words of a lexicon; `overhead` as in `outline_prompts`."""

    lexicon: Lexicon
    overhead: Mapping[Service, Overhead]

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:
        """The prompt of each of `rows`: it depends on the trace, the row and the seed alone.

        Raises:
            InputError: the lexicon has no text of a prompt's length.
        """
        outlines = outline_prompts(trace, self.overhead)
        for row in rows:
            yield compose(self.lexicon, outlines.parts(row), seed)


def synthetic_prompts(tokenizer: Tokenizer | None = None) -> SyntheticPrompts:
    """Made-up prompts whose tokens this tokenizer counts; without one, each word is a token.

    Raises:
        InputError: no words for this tokenizer are known.
    """
    counting = tokenizer or WordTokenizer()
    return SyntheticPrompts(find_lexicon(counting), overhead_by_service(counting))


def overhead_by_service(tokenizer: Tokenizer) -> dict[Service, Overhead]:
    """What the server adds to a prompt's text: conversations go to its chat API, the others to completions."""
    return {Service.CONVERSATION: tokenizer.chat, Service.API: tokenizer.completion}


def compose(lexicon: Lexicon, parts: Sequence[Part], seed: int) -> str:
    """The text of these parts, one after the other; equal parts have equal text."""
    texts = [made_up(lexicon, part, seed, is_opening=place == 0) for place, part in enumerate(parts)]
    return "".join(texts)


def made_up(lexicon: Lexicon, part: Part, seed: int, *, is_opening: bool) -> str:
    """The text of one part."""
    rng = np.random.default_rng([seed, part.kind, part.number % _UNSIGNED])
    return lexicon.text(part.tokens, rng, is_opening=is_opening)
