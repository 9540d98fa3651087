"""The words found for a tokenizer keep their tokens in any order, and all texts of them are different to it."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.prompts.additive_words import find_lexicon
from loadgen.prompts.lexicon import Lexicon, lexicon_of_words
from loadgen.prompts.tokenizer import Overhead, Tokenizer
from loadgen.prompts.words import COMMON_WORDS, MADE_UP_WORDS


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_tokens_of_texts_add_up_when_they_are_put_together(
    tokenizer: Tokenizer, lexicon: Lexicon, data: st.DataObject
) -> None:
    """Short ones above all, which are hardly more than endings."""
    lengths = data.draw(st.lists(st.integers(1, 12) | st.integers(100, 200), min_size=1, max_size=8))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    text, counts = "", []
    for place, tokens in enumerate(lengths):
        try:
            text += lexicon.text(tokens, rng, is_opening=place == 0)
        except InputError:  # this one knows no single letter with the space that it puts before every text
            assert (place, tokens) == (0, 1)
            return
        counts += tokenizer.counts([text])
    assert counts == np.cumsum(lengths).tolist()


def test_no_two_words_have_the_same_tokens(tokenizer: Tokenizer, lexicon: Lexicon) -> None:
    assert len(lexicon.further) >= 16
    ids = {tuple(found) for found in tokenizer.ids([lexicon.opening[0] + word for word in lexicon.further.tolist()])}
    assert len(ids) == len(lexicon.further)


def test_a_shorter_text_is_the_beginning_of_a_longer_one() -> None:
    lexicon = lexicon_of_words()
    long = lexicon.text(1000, np.random.default_rng(5))
    for tokens in (1, 2, 17, 512):
        assert long.startswith(lexicon.text(tokens, np.random.default_rng(5)) + " ")


class Counting:
    """A tokenizer by a rule for the ids of a text."""

    name = "rule"
    completion = chat = Overhead()

    def __init__(self, rule: Callable[[str], list[int]]) -> None:
        self._rule = rule

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._rule(text) for text in texts]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.ids(texts)]

    def ends(self, text: str) -> list[int]:
        raise NotImplementedError


def test_words_that_the_tokenizer_does_not_know_are_left_out() -> None:
    known = {word: place for place, word in enumerate(COMMON_WORDS[:80])}
    lexicon = find_lexicon(Counting(lambda text: [known.get(word, 999) for word in text.split()]))
    assert set(lexicon.opening) == set(known)


def test_a_length_that_no_text_has_is_refused() -> None:
    places = {word: place for place, word in enumerate((*COMMON_WORDS, *MADE_UP_WORDS))}
    pairs = Counting(lambda text: [n for word in text.split() for n in (places.get(word, 9999), 5)])
    lexicon = find_lexicon(pairs)
    rng = np.random.default_rng(0)
    assert len(lexicon.text(10, rng).split()) == 5
    with pytest.raises(InputError, match=r"no prompt of 11 tokens could be made with this tokenizer: '\w+' takes 2"):
        lexicon.text(11, rng)


def test_a_tokenizer_in_which_nothing_adds_up_is_refused() -> None:
    with pytest.raises(InputError, match="tokenizer 'rule': only 0 words keep their tokens"):
        find_lexicon(Counting(lambda text: [len(text)]))
