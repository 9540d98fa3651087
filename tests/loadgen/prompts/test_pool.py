"""Each request gets a text of about its length, and none twice before all that are of use have been used."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import InputError
from loadgen.prompts.pool import assign_texts, read_pool
from loadgen.prompts.tokenizer import WordTokenizer


def assign(pool_tokens: list[int], wanted: list[int], seed: int = 0) -> list[list[int]]:
    """The lengths of the texts that each request gets, by places of a pool in which each length is there once."""
    found = assign_texts(np.array(pool_tokens), np.array(wanted), np.random.default_rng(seed))
    return [found.of(row) for row in range(len(wanted))]


def test_a_pool_holds_each_text_once_the_short_ones_first(conversations: Callable[..., Path]) -> None:
    pool = read_pool(conversations("a b c", "d", "", "a b c", "e f"), WordTokenizer())
    assert [pool.text(place) for place in range(len(pool))] == ["d", "e f", "a b c"]
    assert pool.tokens.tolist() == [1, 2, 3]


def test_a_large_file_is_counted_in_batches_and_says_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = [{"messages": [{"role": "user", "content": f"w{number} " * (1 + number % 7)}]} for number in range(7001)]
    path.write_text("\n".join(map(json.dumps, lines)))
    seen: list[float] = []
    pool = read_pool(path, WordTokenizer(), lambda done, total: seen.append(done / total))
    assert len(pool) == 7001
    assert [len(pool.text(place).split()) for place in range(0, 7001, 500)] == pool.tokens[::500].tolist()
    assert seen[-1] == 1.0


def test_a_file_without_a_persons_text_is_refused(conversations: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="holds no text of a person; want turns from 'human' or 'user'"):
        read_pool(conversations("", " "), WordTokenizer())


def test_a_request_gets_the_shortest_text_that_is_long_enough() -> None:
    assert assign([3, 5, 8, 13], [5, 5, 1, 9]) == [[1], [2], [0], [3]]


def test_where_none_is_long_enough_the_longest_unused_ones_are_joined() -> None:
    assert assign([1, 3, 5, 8], [12]) == [[3, 2]]  # 8 + 5 for the 4 that are missing
    assert assign([1, 3, 5, 8], [8, 8]) == [[3], [2, 1]]


def test_all_are_unused_again_once_too_few_are_left() -> None:
    assert assign([4, 6], [6, 4, 5]) == [[1], [0], [1]]
    assert assign([4], [10]) == [[0, 0, 0]]
    assert assign([4, 6], [0, 6]) == [[], [1]]


@given(
    pool_tokens=st.lists(st.integers(1, 30), min_size=1, max_size=40).map(sorted),
    wanted=st.lists(st.integers(0, 60), max_size=40),
    seed=st.integers(0, 100),
)
def test_a_request_gets_enough_and_no_text_comes_again_before_the_rest_is_too_little(
    pool_tokens: list[int], wanted: list[int], seed: int
) -> None:
    unused = Counter(range(len(pool_tokens)))
    for tokens, places in zip(wanted, assign(pool_tokens, wanted, seed), strict=True):
        lengths = [pool_tokens[place] for place in places]
        assert sum(lengths) >= tokens
        assert sum(lengths[:-1]) < tokens or not tokens  # no text more than it needs
        for number, place in enumerate(places):
            missing = tokens - sum(lengths[:number])
            if not +unused:
                unused = Counter(range(len(pool_tokens)))
            assert unused[place] == 1
            long_enough = [pool_tokens[other] for other in +unused if pool_tokens[other] >= missing]
            assert lengths[number] == (min(long_enough) if long_enough else max(pool_tokens[o] for o in +unused))
            unused[place] -= 1


def test_texts_of_one_length_are_chosen_by_chance() -> None:
    orders = {tuple(places[0] for places in assign([7] * 20, [7] * 20, seed)) for seed in range(20)}
    assert len(orders) == 20
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert assign([7] * 20, [7] * 20, 1) == assign([7] * 20, [7] * 20, 1)
