"""Finds words whose tokens add up in a tokenizer, by trying each beside each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadgen.errors import InputError
from loadgen.prompts.lexicon import Lexicon, lexicon_of_words
from loadgen.prompts.tokenizer import Tokenizer, WordTokenizer
from loadgen.prompts.words import COMMON_WORDS, MADE_UP_WORDS

# The space first. A tokenizer without a rule that parts words may have tokens that reach across it; hardly any has
# tokens that reach across the others as well.
_SEPARATORS: Final = (" ", "\n", "\t", " | ")
_MOST_WORDS: Final = 200  # each is tried beside each other: 40,000 short texts, a quarter of a second
_ENOUGH_WORDS: Final = 50  # words of one token are preferred if there are so many of them
_FEWEST_WORDS: Final = 16  # with fewer, prompts would be too much alike
_MARKS: Final = (".", ",", "!", "?", ";", ":", "-")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of text and the ids that it takes wherever it stands."""

    text: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word as it opens a text and as it follows another."""

    opening: _Piece
    further: _Piece


def find_lexicon(tokenizer: Tokenizer) -> Lexicon:
    """The words to make prompts of for this tokenizer: those that keep their tokens beside each other, two by two.

    Then they keep them in any order: two sequences of tokens that byte-pair encoding makes of their texts, one ending
    with the token that the other begins with, join to the sequence that it makes of the joined text. Source:
    github/rust-gems, crates/bpe/README.md, corollary III. Tokenizers that part a text at white space first need no
    proof.

    Raises:
        InputError: too few words keep their tokens.
    """
    if isinstance(tokenizer, WordTokenizer):
        return lexicon_of_words()
    words: list[_Word] = []
    for separator in _SEPARATORS:
        words = _additive(tokenizer, _candidates(tokenizer, separator))
        if len(words) >= _FEWEST_WORDS:
            return _lexicon(tokenizer, words, separator)
    raise InputError(
        f"tokenizer '{tokenizer.name}': only {len(words)} words keep their tokens beside other words, want "
        f"{_FEWEST_WORDS} to make prompts of; take another tokenizer"
    )


def _candidates(tokenizer: Tokenizer, separator: str) -> list[_Word]:
    """Words that no other word shares its tokens with, as unknown words do; those of one token if they are enough."""
    texts = tuple(dict.fromkeys((*COMMON_WORDS, *MADE_UP_WORDS)))
    opening_ids = tokenizer.ids(texts)
    pair_ids = tokenizer.ids([text + separator + text for text in texts])
    words = [
        _Word(_Piece(text, first), _Piece(separator + text, both[len(first) :]))
        for text, first, both in zip(texts, opening_ids, pair_ids, strict=True)
        if first and both[: len(first)] == first and len(both) > len(first)
    ]
    openings = Counter(tuple(word.opening.ids) for word in words)
    furthers = Counter(tuple(word.further.ids) for word in words)
    words = [word for word in words if openings[tuple(word.opening.ids)] == furthers[tuple(word.further.ids)] == 1]
    of_one_token = [word for word in words if len(word.opening.ids) == len(word.further.ids) == 1]
    if len(of_one_token) >= _ENOUGH_WORDS:
        return of_one_token[:_MOST_WORDS]
    return sorted(words, key=lambda word: len(word.further.ids))[:_MOST_WORDS]


def _additive(tokenizer: Tokenizer, words: list[_Word]) -> list[_Word]:
    """Those that keep their tokens after each other one, and as a text's beginning before each other one."""
    keeps = np.array(
        [_add_up(tokenizer, [(word.opening, other.further, word.further) for other in words]) for word in words],
        dtype=bool,
    ).reshape(len(words), len(words))
    left = np.arange(len(words))
    while not keeps.all():
        most_broken = int(np.argmin(keeps.sum(axis=0) + keeps.sum(axis=1)))
        keeps = np.delete(np.delete(keeps, most_broken, axis=0), most_broken, axis=1)
        left = np.delete(left, most_broken)
    return [words[place] for place in left]


def _add_up(tokenizer: Tokenizer, sequences: Sequence[Sequence[_Piece]]) -> list[bool]:
    """For each sequence of pieces: whether each keeps its tokens in the text of all."""
    found = tokenizer.ids(["".join(piece.text for piece in pieces) for pieces in sequences])
    return [
        ids == [token for piece in pieces for token in piece.ids] for ids, pieces in zip(found, sequences, strict=True)
    ]


def _lexicon(tokenizer: Tokenizer, words: list[_Word], separator: str) -> Lexicon:
    most_tokens = max(len(piece.ids) for word in words for piece in (word.opening, word.further))
    opening_endings: dict[int, _Piece] = {}
    endings: dict[int, _Piece] = {}
    if most_tokens > 1:
        beginnings = list(dict.fromkeys(word.opening.text[:end] for word in words for end in range(1, 5)))
        endings = _endings(
            tokenizer, words, [*_MARKS, *beginnings, *(separator + text for text in beginnings)], most_tokens
        )
        opening_endings = _opening_endings(tokenizer, words, endings, beginnings, most_tokens)
    return Lexicon(
        opening=np.array([word.opening.text for word in words], dtype=object),
        further=np.array([word.further.text for word in words], dtype=object),
        opening_tokens=np.array([len(word.opening.ids) for word in words]),
        further_tokens=np.array([len(word.further.ids) for word in words]),
        opening_endings={tokens: piece.text for tokens, piece in opening_endings.items()},
        endings={tokens: piece.text for tokens, piece in endings.items()},
    )


def _endings(
    tokenizer: Tokenizer, words: list[_Word], candidates: Sequence[str], most_tokens: int
) -> dict[int, _Piece]:
    """What lengthens a text by 1, 2, ... `most_tokens` tokens and keeps them between any two words and endings."""
    first = words[0].opening
    found: dict[int, _Piece] = {}
    for text, both in zip(candidates, tokenizer.ids([first.text + text for text in candidates]), strict=True):
        piece = _Piece(text, both[len(first.ids) :])
        if not 1 <= len(piece.ids) <= most_tokens or len(piece.ids) in found:
            continue
        sequences = [(word.opening, piece, word.further) for word in words]
        sequences += [(word.opening, word.further, piece) for word in words]
        sequences += [(first, *pair) for other in [*found.values(), piece] for pair in ((piece, other), (other, piece))]
        if all(_add_up(tokenizer, sequences)):
            found[len(piece.ids)] = piece
    return found


def _opening_endings(
    tokenizer: Tokenizer, words: list[_Word], endings: Mapping[int, _Piece], candidates: Sequence[str], most_tokens: int
) -> dict[int, _Piece]:
    """Texts of 1, 2, ... `most_tokens` tokens that keep them before each word and ending."""
    found: dict[int, _Piece] = {}
    followers = [*(word.further for word in words), *endings.values()]
    for text, ids in zip(candidates, tokenizer.ids(candidates), strict=True):
        piece = _Piece(text, ids)
        is_wanted = 1 <= len(ids) <= most_tokens and len(ids) not in found
        if is_wanted and all(_add_up(tokenizer, [(piece, follower) for follower in followers])):
            found[len(ids)] = piece
    return found
