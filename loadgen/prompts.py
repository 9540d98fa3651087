"""Prompts of an exact length in tokens, out of random words, so that no two begin alike."""

from collections.abc import Callable
from itertools import product
from typing import Final

import numpy as np

from loadgen.errors import InputError

_SYLLABLES: Final = tuple("".join(pair) for pair in product("bdfghjklmnprstvz", "aeiou"))

MADE_UP_WORDS: Final = tuple("".join(pair) for pair in product(_SYLLABLES, repeat=2))[:4094]
"""Words like 'bada' and 'foma': all in the vocabulary of the tiny model, each of them one token of it.

They must be in it: words that it does not know are one and the same token, so that all prompts would begin alike and
the engine's prefix cache would save most of the work that the test is about.
"""

_COMMON_TEXT: Final = (
    "about above after again air all also always animal answer any around ask back be because before began below "
    "between big book both boy but by call came can car carry change children city close cold come could country cut "
    "day did different do does done door down draw each earth eat end enough even every example eye face fall family "
    "far father feet few field find fire first fish five follow food form found four from gave get girl give go gold "
    "good got great green ground group grow had half hand hard has have head hear help her here high him his home "
    "horse hour house how idea if important in into is island it just keep kind king know land large last late learn "
    "leave left letter life light like line list little live long look low made make man many map mark may me mean "
    "men might mile money moon more morning most mother mountain move much music must my name near need never new "
    "next night no north not note notice now number of off often old on once one only open or order other our out "
    "over own page paper part pass people place plan plant play point power problem product pull put question quick "
    "rain ran read real red rest right river road rock room round rule run said same saw say school sea second see "
    "seem self sentence set she ship short should show side since sing sit six size sleep slow small snow so some "
    "song soon sound south space spell stand star start state stay step still stop story street strong study such sun "
    "sure table take talk tell ten than that the their them then there these they thing think this those three "
    "through time to together told too took top toward town travel tree true try turn two under unit until up us use "
    "very voice wait walk want war warm was watch water way we week well went were west what wheel when where which "
    "while white who whole why will wind with wood word work world would write year yes you young your "
)
COMMON_WORDS: Final = tuple(_COMMON_TEXT.split())
"""Words that most tokenizers trained on English know as one token each."""

Tokenizer = Callable[[str], int]
"""Counts the tokens of a text."""

_FEWEST_WORDS = 50  # with fewer words of one token, prompts would be too much alike
_TRIES = 8
_LOOK_AHEAD = 40  # characters


class PromptPool:
    """Makes prompts of an exact length.

    Without a tokenizer a word counts as one token: so count the emulated engine and the tiny model. With one, the
    pool looks once for words that cost one token each, so that a prompt is right at the first count; where there are
    none (a tokenizer of characters, say) it cuts a longer text at the right place.
    """

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        """Make a pool; with a tokenizer this counts some hundreds of short texts."""
        self._tokenizer = tokenizer
        self._words = MADE_UP_WORDS
        self._extra_tokens = 0  # what the tokenizer adds to every text, as a mark of its beginning
        if tokenizer is not None:
            self._words = _words_of_one_token(tokenizer) or COMMON_WORDS
            self._extra_tokens = tokenizer(" ".join(self._words[:_FEWEST_WORDS])) - _FEWEST_WORDS

    def prompt(self, tokens: int, rng: np.random.Generator) -> str:
        """A text of exactly `tokens` tokens; the same generator state gives the same text.

        Raises:
            InputError: `tokens` is below 1, or the tokenizer has no text of this length.
        """
        if tokens < 1:
            raise InputError(f"a prompt of {tokens} tokens was asked for; want at least 1")
        if self._tokenizer is None:
            return self._text(tokens, rng)
        if tokens > self._extra_tokens:
            text = self._text(tokens - max(self._extra_tokens, 0), rng)
            if self._tokenizer(text) == tokens:
                return text
        for _ in range(_TRIES):
            cut = _cut_to(tokens, self._long_text(tokens, self._tokenizer, rng), self._tokenizer)
            if cut is not None:
                return cut
        raise InputError(
            f"no prompt of {tokens} tokens could be made with this tokenizer: "
            f"a single word takes {self._tokenizer(self._words[0])}; ask for another length"
        )

    def _text(self, words: int, rng: np.random.Generator) -> str:
        known = self._words
        return " ".join([known[place] for place in rng.integers(len(known), size=words).tolist()])

    def _long_text(self, tokens: int, tokenizer: Tokenizer, rng: np.random.Generator) -> str:
        """A text of at least `tokens` tokens."""
        text = self._text(tokens, rng)
        while tokenizer(text) < tokens:
            text = f"{text} {text}"
        return text


def _words_of_one_token(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Those words that make a text longer by one token wherever they stand; empty if they are too few."""
    start = tokenizer("the the")
    words = tuple(
        word
        for word in COMMON_WORDS
        if tokenizer(f"{word} the") == start  # without the space before it, a word may be another token
        and tokenizer(f"the {word} the") == start + 1
        and tokenizer(f"the {word} {word} {word} the") == start + 3
    )
    return words if len(words) >= _FEWEST_WORDS else ()


def _cut_to(tokens: int, text: str, tokenizer: Tokenizer) -> str | None:
    """The beginning of `text` that has exactly `tokens` tokens; None if there is none near where it would be."""
    too_short, long_enough = 0, len(text)
    while long_enough - too_short > 1:
        middle = (too_short + long_enough) // 2
        if tokenizer(text[:middle]) < tokens:
            too_short = middle
        else:
            long_enough = middle
    for end in range(long_enough, min(long_enough + _LOOK_AHEAD, len(text)) + 1):
        if not text[:end].endswith(" ") and tokenizer(text[:end]) == tokens:
            return text[:end]
    return None
