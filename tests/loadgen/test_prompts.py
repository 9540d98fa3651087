"""A prompt has exactly the tokens that were asked for, whichever way they are counted."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.prompts import COMMON_WORDS, MADE_UP_WORDS, PromptPool


def words(text: str) -> int:
    return len(text.split())


def words_and_a_mark(text: str) -> int:
    return 1 + len(text.split())


def characters(text: str) -> int:
    return len(text)


def pieces_of_three(text: str) -> int:
    """Like a tokenizer that splits words: each word takes a token per three letters begun."""
    return sum(-(-len(word) // 3) for word in text.split())


def pairs_of_words(text: str) -> int:
    """Counts that are always even."""
    return 2 * len(text.split())


def some_words_only(text: str) -> int:
    """Knows only words of up to four letters, all others take two tokens."""
    return sum(1 if len(word) <= 4 else 2 for word in text.split())


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_without_a_tokenizer_a_word_is_a_token(tokens: int, seed: int) -> None:
    text = PromptPool().prompt(tokens, np.random.default_rng(seed))
    assert words(text) == tokens
    assert text == PromptPool().prompt(tokens, np.random.default_rng(seed))


@pytest.mark.parametrize("count", [words, words_and_a_mark, characters, pieces_of_three, some_words_only])
@given(tokens=st.integers(2, 1000), seed=st.integers(0, 2**32))
def test_with_a_tokenizer_the_count_is_exact(count: Callable[[str], int], tokens: int, seed: int) -> None:
    text = PromptPool(count).prompt(tokens, np.random.default_rng(seed))
    assert count(text) == tokens
    assert text == text.strip()


def test_prompts_do_not_begin_alike() -> None:
    """An engine's cache keeps blocks of 16 tokens."""
    for pool in (PromptPool(), PromptPool(words)):
        rng = np.random.default_rng(0)
        beginnings = [tuple(pool.prompt(50, rng).split()[:16]) for _ in range(1000)]
        assert len(set(beginnings)) == 1000


def test_the_words_are_all_different() -> None:
    assert len(set(MADE_UP_WORDS)) == len(MADE_UP_WORDS)
    assert len(set(COMMON_WORDS)) == len(COMMON_WORDS)
    assert all(word.isalpha() for word in MADE_UP_WORDS + COMMON_WORDS)


def test_the_tiny_model_knows_every_made_up_word() -> None:
    tiny_model = pytest.importorskip("testbed.tiny_model")
    assert set(MADE_UP_WORDS) <= set(tiny_model.tiny_vocabulary())


def test_an_impossible_length_is_refused() -> None:
    rng = np.random.default_rng(0)
    assert words(PromptPool(pairs_of_words).prompt(10, rng)) == 5
    with pytest.raises(InputError, match="no prompt of 11 tokens could be made with this tokenizer: a single word"):
        PromptPool(pairs_of_words).prompt(11, rng)
    with pytest.raises(InputError, match="no prompt of 1 tokens could be made"):
        PromptPool(words_and_a_mark).prompt(1, rng)


@pytest.mark.parametrize("tokens", [0, -3])
def test_a_prompt_needs_a_token(tokens: int) -> None:
    with pytest.raises(InputError, match=f"a prompt of {tokens} tokens was asked for; want at least 1"):
        PromptPool().prompt(tokens, np.random.default_rng(0))


def test_a_prompt_is_right_at_the_first_count_where_words_take_one_token() -> None:
    counted: list[int] = []

    def counting(text: str) -> int:
        counted.append(len(text))
        return some_words_only(text)

    pool = PromptPool(counting)
    counted.clear()
    for seed in range(50):
        pool.prompt(300, np.random.default_rng(seed))
    assert len(counted) == 50


def test_a_pool_can_be_sent_to_another_process() -> None:
    again: PromptPool = pickle.loads(pickle.dumps(PromptPool(words)))
    assert again.prompt(7, np.random.default_rng(1)) == PromptPool(words).prompt(7, np.random.default_rng(1))
