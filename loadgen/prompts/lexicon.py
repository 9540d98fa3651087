"""Words whose tokens add up in any order, so that a text of them has a known number of tokens without being counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.prompts.words import MADE_UP_WORDS


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Words and what they cost.

    A text opens with one of `opening`, every further word is one of `further`. An ending is put after a word, or
    opens a text that is too short for a word; it makes up the tokens that no whole word has. Where every word is one
    token no ending is needed.

    Attributes:
        opening, further: object[w], the words as they stand at a text's beginning, and after that with what parts
            them from the word before.
        opening_tokens, further_tokens: i64[w], their tokens.
        opening_endings, endings: by their number of tokens.
    """

    opening: NDArray[Any]
    further: NDArray[Any]
    opening_tokens: NDArray[np.int64]
    further_tokens: NDArray[np.int64]
    opening_endings: Mapping[int, str] = field(default_factory=dict)
    endings: Mapping[int, str] = field(default_factory=dict)

    def text(self, tokens: int, rng: np.random.Generator, *, is_opening: bool = True) -> str:
        """A text of exactly `tokens` tokens, at the beginning of a prompt or after another text of the lexicon.

        A shorter text of an equal generator is the beginning of a longer one, but for its ending.

        Raises:
            InputError: there is no text of this length.
        """
        words = tokens // int(self.further_tokens.min()) + 1
        drawn = rng.integers(len(self.further), size=words)
        costs = self.further_tokens[drawn]
        if is_opening:
            costs[0] = self.opening_tokens[drawn[0]]
        costs = np.concatenate([[0], np.cumsum(costs)])
        for kept in range(int(np.searchsorted(costs, tokens, side="right")) - 1, -1, -1):
            opens = is_opening and kept == 0
            missing = tokens - int(costs[kept])
            ending = "" if missing == 0 else (self.opening_endings if opens else self.endings).get(missing)
            if ending is not None:
                return self._join(drawn[:kept], is_opening) + ending
        raise InputError(
            f"no prompt of {tokens} tokens could be made with this tokenizer: '{self.opening[0]}' takes "
            f"{self.opening_tokens[0]}; take another tokenizer, or texts of your own"
        )

    def _join(self, places: NDArray[np.int64], is_opening: bool) -> str:
        if not is_opening or not len(places):
            return "".join(self.further[places].tolist())
        return str(self.opening[places[0]]) + "".join(self.further[places[1:]].tolist())


def lexicon_of_words(words: Sequence[str] = MADE_UP_WORDS) -> Lexicon:
    """The lexicon for counting words: each is one token."""
    one = np.ones(len(words), dtype=np.int64)
    opening = np.array(words, dtype=object)
    return Lexicon(opening, " " + opening, one, one)
