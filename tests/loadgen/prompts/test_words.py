"""The words that prompts are made of."""

from loadgen.prompts.words import COMMON_WORDS, MADE_UP_WORDS
from testbed.tiny_model import tiny_vocabulary


def test_the_words_are_all_different() -> None:
    assert len(set(MADE_UP_WORDS)) == len(MADE_UP_WORDS)
    assert len(set(COMMON_WORDS)) == len(COMMON_WORDS)
    assert all(word.isalpha() for word in MADE_UP_WORDS + COMMON_WORDS)


def test_the_tiny_model_knows_every_made_up_word() -> None:
    assert set(MADE_UP_WORDS) <= set(tiny_vocabulary())
